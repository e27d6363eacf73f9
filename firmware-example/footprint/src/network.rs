//! What carries a client's bytes: TCP, DHCP and DNS of embassy-net, over a driver that is nowhere, and memory for one
//! connection as the example's.

use core::pin::pin;
use core::task::Context;

use embassy_futures::join::join;
use embassy_net::dns::DnsQueryType;
use embassy_net::driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_net::tcp::TcpSocket;
use embassy_net::{Config, StackResources};
use static_cell::{ConstStaticCell, StaticCell};

unsafe extern "C" {
    fn board_has_frame() -> bool;
    fn board_frame_in(bytes: *mut u8, len: usize) -> usize;
    fn board_frame_out(bytes: *const u8, len: usize);
    fn board_take(bytes: *const u8, len: usize);
}

/// Longest frame, in bytes.
const FRAME: usize = 1514;

struct Nic;
struct Token;

impl RxToken for Token {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, take: F) -> R {
        let mut frame = [0; FRAME];
        // SAFETY: not defined anywhere, so never run.
        let len = unsafe { board_frame_in(frame.as_mut_ptr(), FRAME) };
        take(&mut frame[..len.min(FRAME)])
    }
}

impl TxToken for Token {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut frame = [0; FRAME];
        let result = fill(&mut frame[..len.min(FRAME)]);
        // SAFETY: as above.
        unsafe { board_frame_out(frame.as_ptr(), len) };
        result
    }
}

impl Driver for Nic {
    type RxToken<'a> = Token;
    type TxToken<'a> = Token;

    fn receive(&mut self, _: &mut Context<'_>) -> Option<(Token, Token)> {
        // SAFETY: as above.
        unsafe { board_has_frame() }.then_some((Token, Token))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Token> {
        Some(Token)
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet([2, 0, 0, 0, 0, 1])
    }
}

/// An address by DHCP, one by DNS, and a connection there.
pub(crate) async fn device() {
    static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();
    static INCOMING: ConstStaticCell<[u8; 1024]> = ConstStaticCell::new([0; 1024]);
    static OUTGOING: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
    let resources = RESOURCES.init_with(StackResources::new);
    let (stack, mut runner) = embassy_net::new(Nic, Config::dhcpv4(Default::default()), resources, 1);
    let talk = async {
        let mut socket = TcpSocket::new(stack, INCOMING.take(), OUTGOING.take());
        loop {
            stack.wait_config_up().await;
            let Ok(found) = stack.dns_query("gateway.local", DnsQueryType::A).await else { continue };
            let Some(address) = found.first() else { continue };
            if socket.connect((*address, 7000)).await.is_err() {
                continue;
            }
            let mut bytes = [0; 64];
            while let Ok(len @ 1..) = socket.read(&mut bytes).await {
                // SAFETY: as above.
                unsafe { board_take(bytes.as_ptr(), len) };
                if socket.write(&bytes).await.is_err() {
                    break;
                }
            }
            socket.abort();
            let _ = socket.flush().await;
        }
    };
    join(pin!(runner.run()), talk).await;
}

//! A device on a board that has nothing: no network, a clock that counts its readings, no randomness.
//!
//! It is compiled, not run: the whole of the client is instantiated, so that a use of std, of a heap, or
//! a size that does not fit shows as an error.
#![no_std]

use core::future::Future;
use core::net::{IpAddr, SocketAddr};
use core::pin::pin;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Context, Waker};

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::{AddrType, Dns, TcpConnect};
use imlink_device_client::{Clock, Config, Instant, NoopRawMutex, Rng, RngError, State, interface};

interface! {
    /// What this firmware speaks.
    LAMP {
        Message SET = "led/set": bool;
        Call ECHO = "echo";
        Event TEMPERATURE = "temperature": f32;
    }
}

struct NoNetwork;
struct NoConnection;

impl TcpConnect for NoNetwork {
    type Error = ErrorKind;
    type Connection<'a> = NoConnection;

    async fn connect<'a>(&'a self, _: SocketAddr) -> Result<NoConnection, ErrorKind> {
        Err(ErrorKind::NotConnected)
    }
}

impl Dns for NoNetwork {
    type Error = ErrorKind;

    async fn get_host_by_name(&self, _: &str, _: AddrType) -> Result<IpAddr, ErrorKind> {
        Err(ErrorKind::NotConnected)
    }

    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> Result<usize, ErrorKind> {
        Err(ErrorKind::Unsupported)
    }
}

impl ErrorType for NoConnection {
    type Error = ErrorKind;
}

impl Read for NoConnection {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, ErrorKind> {
        Err(ErrorKind::NotConnected)
    }
}

impl Write for NoConnection {
    async fn write(&mut self, _: &[u8]) -> Result<usize, ErrorKind> {
        Err(ErrorKind::NotConnected)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Err(ErrorKind::NotConnected)
    }
}

static READINGS: AtomicU32 = AtomicU32::new(0);

struct Readings;

impl Clock for Readings {
    fn now(&self) -> Instant {
        Instant::from_millis(READINGS.fetch_add(1, Ordering::Relaxed).into())
    }

    async fn sleep_until(&self, at: Instant) {
        while self.now() < at {}
    }
}

struct NoRng;

impl Rng for NoRng {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), RngError> {
        Err(RngError)
    }
}

/// Where a board's start-up code would call.
#[unsafe(no_mangle)]
pub extern "C" fn device_main() -> bool {
    let mut state = State::<NoopRawMutex, _>::new(Readings);
    let routes = ["gateway.local:7000", "10.0.0.1:7000"];
    let config = Config { interface: LAMP, ..Config::plain("lamp-1", &routes) };
    let Ok(mut device) = imlink_device_client::new(&mut state, config, NoNetwork, NoRng) else {
        return false;
    };
    let (client, calls) = (device.client, device.client.calls());
    let published = client.publish_typed(TEMPERATURE, &21.5f32).is_ok();
    let mut run = pin!(async {
        let message = device.messages.next().await;
        let is_on = message.key() == SET && message.decode::<bool>().unwrap_or_default();
        message.ack().await;
        let call = calls.next().await;
        let _ = if call.key() == ECHO { call.reply(&[u8::from(is_on)]).await } else { Ok(()) };
        device.runner.run().await
    });
    let mut context = Context::from_waker(Waker::noop());
    run.as_mut().poll(&mut context).is_ready() && published
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

//! A whole device: messages, calls, events, with `flash` a cursor that is kept, with `queue` events that are, with `blob` signed images into a partition.

use core::future::poll_fn;
use core::net::{IpAddr, SocketAddr};
use core::pin::pin;

use embedded_io_async::ErrorKind;
use embedded_nal_async::{AddrType, Dns, TcpConnect};
#[cfg(feature = "blob")]
use imlink_device_client::blob::BlobState;
use imlink_device_client::{
    Clock, Code, Config, Instant, NoopRawMutex, Rng, RngError, State, answer, handle, interface,
};
use static_cell::StaticCell;

use crate::board::{self, Connection};

interface! {
    /// What this firmware speaks.
    pub LAMP {
        Message SET = "led/set": bool;
        Call ECHO = "echo": u32;
        Event TEMPERATURE = "temperature": f32;
    }
}

#[cfg(feature = "seal")]
const KEYS: imlink_device_client::Keys<'static> =
    imlink_device_client::Keys { private_key: &[1; 32], route_keys: &[[2; 32]], psk: None };

struct Network;

impl TcpConnect for Network {
    type Error = ErrorKind;
    type Connection<'a> = Connection;

    async fn connect<'a>(&'a self, address: SocketAddr) -> Result<Connection, ErrorKind> {
        board::connect(address).await
    }
}

impl Dns for Network {
    type Error = ErrorKind;

    async fn get_host_by_name(&self, host: &str, _: AddrType) -> Result<IpAddr, ErrorKind> {
        board::lookup(host).await.map(IpAddr::from)
    }

    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> Result<usize, ErrorKind> {
        Err(ErrorKind::Unsupported)
    }
}

struct Board;

impl Clock for Board {
    fn now(&self) -> Instant {
        Instant::from_millis(board::now())
    }

    async fn sleep_until(&self, at: Instant) {
        board::sleep_until(at.as_millis()).await;
    }
}

impl Rng for Board {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        if board::random(bytes) { Ok(()) } else { Err(RngError) }
    }
}

/// The whole device.
pub(crate) async fn device() {
    static STATE: StaticCell<State<NoopRawMutex, Board>> = StaticCell::new();
    let routes = ["gateway.local:7000"];
    #[cfg(feature = "flash")]
    let (resume, records) = flash::open().await;
    #[cfg(not(feature = "flash"))]
    let resume = Default::default();
    #[cfg(feature = "seal")]
    let config = Config::new("lamp-1", &routes, KEYS);
    #[cfg(not(feature = "seal"))]
    let config = Config::plain("lamp-1", &routes);
    let config = Config { interface: LAMP, resume, ..config };
    #[cfg(feature = "queue")]
    let queue = flash::queue().await;
    #[cfg(feature = "queue")]
    let config = Config { events: Some(queue.start()), ..config };
    let state = STATE.init_with(|| State::new(Board));
    let Ok(device) = imlink_device_client::new(state, config, Network, Board) else { return };
    let client = device.client;
    #[cfg(not(feature = "queue"))]
    let _ = client.publish_typed(TEMPERATURE, &21.5f32);
    #[cfg(feature = "queue")]
    let Ok(events) = client.kept_in::<NoopRawMutex, _, 256>(queue) else { return };
    #[cfg(feature = "queue")]
    let _ = events.publish_typed(TEMPERATURE, &21.5f32).await;
    #[cfg(feature = "queue")]
    let mut feed = pin!(events.run());
    #[cfg(feature = "flash")]
    let mut messages = device.messages.kept_in(&records);
    #[cfg(not(feature = "flash"))]
    let mut messages = device.messages;
    let mut handle = pin!(messages.for_each(async |message| handle!(LAMP: message, {
        SET(on: bool) => {
            board::led(on);
            Ok(())
        }
    })));
    let calls = client.calls();
    let mut answer = pin!(async {
        loop {
            let call = calls.next().await;
            let _ = answer!(LAMP: call, { ECHO(number: u32) => { Ok::<_, Code>(number) } });
        }
    });
    #[cfg(feature = "blob")]
    let (mut runner, mut transfer) = {
        static TRANSFERS: StaticCell<BlobState<NoopRawMutex>> = StaticCell::new();
        device.runner.with_blobs(TRANSFERS.init_with(BlobState::new))
    };
    #[cfg(feature = "blob")]
    let (Ok(mut sink), Ok(mut source)) = (flash::partition(), flash::partition()) else { return };
    #[cfg(feature = "blob")]
    let mut transfer = {
        transfer = transfer.with_keys(&[[3; 32]]);
        pin!(transfer.run(&mut sink, &mut source))
    };
    #[cfg(not(feature = "blob"))]
    let mut runner = device.runner;
    let mut connect = pin!(runner.run());
    poll_fn(|cx| {
        #[cfg(feature = "queue")]
        let _ = feed.as_mut().poll(cx).is_ready();
        #[cfg(feature = "blob")]
        let _ = transfer.as_mut().poll(cx).is_ready();
        let _ = (handle.as_mut().poll(cx).is_ready(), answer.as_mut().poll(cx).is_ready());
        connect.as_mut().poll(cx).map(drop)
    })
    .await;
}

#[cfg(feature = "flash")]
mod flash {
    use embassy_sync::mutex::Mutex;
    use embedded_storage_async::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
    #[cfg(feature = "blob")]
    use imlink_device_client::blob::{Partition, PartitionError};
    #[cfg(feature = "queue")]
    use imlink_device_client::flash::FlashQueue;
    use imlink_device_client::flash::FlashStore;
    use imlink_device_client::{NoopRawMutex, Resume};

    unsafe extern "C" {
        fn board_flash(operation: u32, offset: u32, bytes: *mut u8, len: usize) -> i32;
    }

    pub(crate) struct Nor;

    fn done(result: i32) -> Result<(), NorFlashErrorKind> {
        if result == 0 { Ok(()) } else { Err(NorFlashErrorKind::Other) }
    }

    impl ErrorType for Nor {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Nor {
        const READ_SIZE: usize = 1;

        async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            // SAFETY: not defined anywhere, so never run.
            done(unsafe { board_flash(0, offset, bytes.as_mut_ptr(), bytes.len()) })
        }

        fn capacity(&self) -> usize {
            64 * 4096
        }
    }

    impl NorFlash for Nor {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = 4096;

        async fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
            // SAFETY: as above.
            done(unsafe { board_flash(1, from, core::ptr::null_mut(), (to - from) as usize) })
        }

        async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
            // SAFETY: as above.
            done(unsafe { board_flash(2, offset, bytes.as_ptr().cast_mut(), bytes.len()) })
        }
    }

    #[cfg(feature = "blob")]
    pub(crate) fn partition() -> Result<Partition<Nor>, PartitionError> {
        Partition::new(Nor, 16 * 4096..64 * 4096, "image")
    }

    #[cfg(feature = "queue")]
    pub(crate) async fn queue() -> FlashQueue<Nor> {
        let Ok(queue) = FlashQueue::open(Nor, 8 * 4096..16 * 4096, &mut super::Board).await else { loop {} };
        queue
    }

    pub(crate) async fn open() -> (Resume, Mutex<NoopRawMutex, FlashStore<Nor>>) {
        let Ok(mut store) = FlashStore::open(Nor, 0..8 * 4096).await else { loop {} };
        (store.resume().await.unwrap_or_default(), Mutex::new(store))
    }
}

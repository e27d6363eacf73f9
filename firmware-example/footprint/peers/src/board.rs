//! What the board would give.

use core::future::poll_fn;
use core::net::SocketAddr;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};

unsafe extern "C" {
    fn board_connect(address: *const u8) -> i32;
    fn board_lookup(host: *const u8, len: usize, found: *mut [u8; 4]) -> i32;
    fn board_read(bytes: *mut u8, len: usize) -> i32;
    fn board_write(bytes: *const u8, len: usize) -> i32;
    fn board_now() -> u64;
    #[cfg(any(feature = "psk", feature = "cert"))]
    fn board_random(bytes: *mut u8, len: usize) -> i32;
    fn board_led(on: bool);
}

/// Where the device connects.
pub(crate) const BROKER: &str = "broker.example";
const PORT: u16 = 8883;

/// A TCP connection.
pub(crate) struct Connection;

/// What a function of the board gave: nothing yet below 0.
fn wait(mut ask: impl FnMut() -> i32) -> impl Future<Output = Result<usize, ErrorKind>> {
    poll_fn(move |_| match ask() {
        given @ 0.. => Poll::Ready(Ok(given as usize)),
        -1 => Poll::Pending,
        _ => Poll::Ready(Err(ErrorKind::ConnectionReset)),
    })
}

impl Connection {
    /// Looks the broker's name up and connects.
    pub(crate) async fn open() -> Result<Self, ErrorKind> {
        let mut found = [0; 4];
        // SAFETY: not defined anywhere, so never run.
        wait(|| unsafe { board_lookup(BROKER.as_ptr(), BROKER.len(), &mut found) }).await?;
        let address = SocketAddr::from((found, PORT));
        // SAFETY: as above.
        wait(|| unsafe { board_connect((&raw const address).cast()) }).await.map(|_| Self)
    }
}

impl ErrorType for Connection {
    type Error = ErrorKind;
}

impl Read for Connection {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        // SAFETY: as above.
        wait(|| unsafe { board_read(bytes.as_mut_ptr(), bytes.len()) }).await
    }
}

impl Write for Connection {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        // SAFETY: as above.
        wait(|| unsafe { board_write(bytes.as_ptr(), bytes.len()) }).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// Milliseconds since power-on.
pub(crate) fn now() -> u64 {
    // SAFETY: as above.
    unsafe { board_now() }
}

/// Waits until the clock shows `at`.
pub(crate) async fn sleep_until(at: u64) {
    poll_fn(|_| if now() < at { Poll::Pending } else { Poll::Ready(()) }).await;
}

/// Carries out a command.
pub(crate) fn led(on: bool) {
    // SAFETY: as above.
    unsafe { board_led(on) };
}

#[cfg(any(feature = "psk", feature = "cert"))]
pub(crate) fn random(bytes: &mut [u8]) -> bool {
    // SAFETY: as above.
    unsafe { board_random(bytes.as_mut_ptr(), bytes.len()) == 0 }
}

/// One round of the whole device.
pub(crate) fn run(device: impl Future<Output = ()>) -> usize {
    let mut device = pin!(device);
    let mut context = Context::from_waker(Waker::noop());
    while device.as_mut().poll(&mut context).is_pending() {}
    size_of_val(&*device)
}

//! What the board would give: functions that the linker does not find, so that nothing of a client can be left out
//! because of what they do. `peers` has this file, too.

use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};

unsafe extern "C" {
    fn board_connect(address: *const u8) -> i32;
    fn board_lookup(host: *const u8, len: usize, found: *mut [u8; 4]) -> i32;
    fn board_read(bytes: *mut u8, len: usize) -> i32;
    fn board_write(bytes: *const u8, len: usize) -> i32;
    fn board_now() -> u64;
    fn board_random(bytes: *mut u8, len: usize) -> i32;
    fn board_led(on: bool);
}

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

/// Looks a name up.
pub(crate) async fn lookup(host: &str) -> Result<[u8; 4], ErrorKind> {
    let mut found = [0; 4];
    // SAFETY: not defined anywhere, so never run.
    wait(|| unsafe { board_lookup(host.as_ptr(), host.len(), &mut found) }).await?;
    Ok(found)
}

/// Connects.
pub(crate) async fn connect(address: SocketAddr) -> Result<Connection, ErrorKind> {
    // SAFETY: as above.
    wait(|| unsafe { board_connect((&raw const address).cast()) }).await.map(|_| Connection)
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
pub(crate) fn sleep_until(at: u64) -> impl Future<Output = ()> {
    poll_fn(move |_| if now() < at { Poll::Pending } else { Poll::Ready(()) })
}

/// Carries out a command.
pub(crate) fn led(on: bool) {
    // SAFETY: as above.
    unsafe { board_led(on) };
}

/// Fills `bytes`; false when the source of randomness failed.
#[allow(dead_code, reason = "a plain link of MQTT draws nothing")]
pub(crate) fn random(bytes: &mut [u8]) -> bool {
    // SAFETY: as above.
    unsafe { board_random(bytes.as_mut_ptr(), bytes.len()) == 0 }
}

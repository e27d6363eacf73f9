//! What a board said over a plain link.

use imlink_protocol::frame;
use imlink_protocol::message::FromDevice;

/// Shows the frames of `stream` in order; what came of them, and the bytes of one that is not whole.
///
/// # Panics
/// When a whole one is none that devices send.
pub fn said<T>(stream: &[u8], mut look: impl FnMut(FromDevice<'_>) -> T) -> (Vec<T>, &[u8]) {
    let (mut seen, mut rest) = (Vec::new(), stream);
    while let Ok(Some(whole)) = frame::split(rest, 4096) {
        seen.push(look(frame::decode(whole.body).expect("the board sends frames")));
        rest = &rest[whole.len..];
    }
    (seen, rest)
}

//! A frame: one message on a TCP stream.
//!
//! ```text
//! length   varint, 1–3 bytes, minimal     bytes of body and check together
//! body     length − 4 bytes               one postcard-encoded message
//! check    4 bytes, little-endian         CRC-32/ISCSI over length and body
//! ```
//!
//! A frame is taken whole or not at all. After an error the stream has no meaning any more: the
//! connection is closed, never resynchronised.

use core::fmt;

use crc::{CRC_32_ISCSI, Crc, Table};
use postcard::ser_flavors::Slice;
use serde::{Deserialize, Serialize};

/// Bytes of the check of a plain link.
pub const CHECK_LEN: usize = 4;
/// Most bytes that the length takes.
pub const LENGTH_LEN_MAX: usize = 3;

/// A microcontroller has few frames to check and no kilobyte for a table.
const CRC_TABLES: usize = if cfg!(target_os = "none") { 0 } else { 1 };

static CRC: Crc<u32, Table<CRC_TABLES>> = Crc::<u32, Table<CRC_TABLES>>::new(&CRC_32_ISCSI);

/// Why bytes are not a frame, or a body not a message. The peer's fault: close, tell, count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FrameError {
    /// The length is longer than 3 bytes, or not written in the fewest bytes.
    Length,
    /// The frame is longer than the receiver takes.
    TooLong {
        /// Bytes announced.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The frame is too short to hold a check and a message.
    TooShort {
        /// Bytes announced.
        len: usize,
        /// Bytes needed.
        min: usize,
    },
    /// The check, on a sealed link the tag, does not fit the bytes.
    Check,
    /// The body is not a message of this direction, or bytes follow it.
    Body,
}

impl FrameError {
    /// A short name for metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Length => "bad-length",
            Self::TooLong { .. } => "frame-too-long",
            Self::TooShort { .. } => "frame-too-short",
            Self::Check => "bad-check",
            Self::Body => "bad-body",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("frame length is not a minimal varint of at most 3 bytes"),
            Self::TooLong { len, max } => write!(f, "frame of {len} bytes, at most {max} are taken"),
            Self::TooShort { len, min } => write!(f, "frame of {len} bytes, at least {min} are needed"),
            Self::Check => f.write_str("frame check does not fit its bytes"),
            Self::Body => f.write_str("frame body is not a message of this direction"),
        }
    }
}

impl core::error::Error for FrameError {}

/// A whole frame at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message's bytes.
    pub body: &'a [u8],
    /// Bytes of the buffer that the frame took.
    pub len: usize,
}

/// Finds the frame at the start of `bytes`: `None` while it is not whole yet. `max` is the limit for body
/// and check together; a longer frame is refused as soon as its length is read.
pub fn split(bytes: &[u8], max: usize) -> Result<Option<Frame<'_>>, FrameError> {
    let Some((len, head)) = checked_length(bytes, max)? else {
        return Ok(None);
    };
    let checked = head + len - CHECK_LEN;
    let (Some(data), Some(check)) = (bytes.get(..checked), bytes.get(checked..head + len)) else {
        return Ok(None);
    };
    if CRC.checksum(data).to_le_bytes() != *check {
        return Err(FrameError::Check);
    }
    let body = data.get(head..).ok_or(FrameError::Length)?;
    Ok(Some(Frame { body, len: head + len }))
}

/// Bytes of the frame at the start of `bytes`, its check unread; `None` while it is not whole yet.
pub fn whole_len(bytes: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
    let whole = checked_length(bytes, max)?.map(|(len, head)| len + head);
    Ok(whole.filter(|whole| *whole <= bytes.len()))
}

fn checked_length(bytes: &[u8], max: usize) -> Result<Option<(usize, usize)>, FrameError> {
    length_within(bytes, CHECK_LEN, max)
}

/// Length of what follows, checked against its bounds, and the bytes it is written in. What follows has more
/// bytes than its check.
pub(crate) fn length_within(bytes: &[u8], check_len: usize, max: usize) -> Result<Option<(usize, usize)>, FrameError> {
    match length(bytes)? {
        Some((len, _)) if len > max => Err(FrameError::TooLong { len, max }),
        Some((len, _)) if len <= check_len => Err(FrameError::TooShort { len, min: check_len + 1 }),
        length => Ok(length),
    }
}

/// Length of body and check and the bytes it is written in; `None` while it is not whole yet.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut len = 0usize;
    for (at, byte) in bytes.iter().take(LENGTH_LEN_MAX).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let minimal = at == 0 || *byte != 0;
            return if minimal { Ok(Some((len, at + 1))) } else { Err(FrameError::Length) };
        }
    }
    if bytes.len() >= LENGTH_LEN_MAX { Err(FrameError::Length) } else { Ok(None) }
}

/// Reads a body as a message. Bytes left over are an error: fields are only added with a new version.
pub fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Body),
    }
}

/// The buffer is too small for the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EncodeError;

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message does not fit the buffer or the largest frame")
    }
}

impl core::error::Error for EncodeError {}

/// Writes the body of `message` alone at the start of `out`, for where something else frames it, and returns its length.
pub fn encode_body<T: Serialize + ?Sized>(message: &T, out: &mut [u8]) -> Result<usize, EncodeError> {
    postcard::to_slice(message, out).map(|body| body.len()).map_err(|_| EncodeError)
}

/// Writes `message` as a frame at the start of `out` and returns the bytes written.
///
/// `out` should have [`LENGTH_LEN_MAX`] + [`CHECK_LEN`] bytes more than the message needs.
pub fn encode<T: Serialize + ?Sized>(message: &T, out: &mut [u8]) -> Result<usize, EncodeError> {
    let Laid { head, body } = lay_out(message, CHECK_LEN, out)?;
    let checked = head + body;
    let check = CRC.checksum(out.get(..checked).ok_or(EncodeError)?).to_le_bytes();
    out.get_mut(checked..checked + CHECK_LEN).ok_or(EncodeError)?.copy_from_slice(&check);
    Ok(checked + CHECK_LEN)
}

/// A frame of which everything but the check is written: bytes of its length and of its body.
pub(crate) struct Laid {
    pub(crate) head: usize,
    pub(crate) body: usize,
}

/// Writes length and body of a frame whose check has `check_len` bytes; there is room for the check behind.
pub(crate) fn lay_out<T: Serialize + ?Sized>(
    message: &T,
    check_len: usize,
    out: &mut [u8],
) -> Result<Laid, EncodeError> {
    // Nearly every frame is shorter than 128 bytes: the body goes behind a length of one byte, and once more
    // behind a longer one when that was wrong, which costs what moving it would.
    let mut head = 1;
    loop {
        let body_area = out.get_mut(head..).ok_or(EncodeError)?;
        let flavor = Slice::new(body_area);
        let body = postcard::serialize_with_flavor(message, flavor).map_err(|_| EncodeError)?.len();
        let len = body + check_len;
        match length_len(len).ok_or(EncodeError)? {
            needed if needed > head => head = needed,
            _ if out.len() < head + len => return Err(EncodeError),
            _ => {
                write_length(len, head, out);
                return Ok(Laid { head, body });
            }
        }
    }
}

const fn length_len(len: usize) -> Option<usize> {
    match len {
        0..0x80 => Some(1),
        0x80..0x4000 => Some(2),
        0x4000..0x20_0000 => Some(3),
        _ => None,
    }
}

fn write_length(len: usize, head: usize, out: &mut [u8]) {
    for (at, byte) in out.iter_mut().take(head).enumerate() {
        let more = if at + 1 < head { 0x80 } else { 0 };
        *byte = ((len >> (7 * at)) & 0x7f) as u8 | more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; payload.len() + 16];
        let len = encode(payload, &mut out).unwrap();
        out.truncate(len);
        out
    }

    #[test]
    fn frames_of_every_length_come_back_whole_and_only_whole() {
        for size in [0usize, 1, 100, 122, 123, 124, 200, 16_000, 16_376, 16_377, 60_000] {
            let payload = vec![7u8; size];
            let bytes = framed(&payload);
            let frame = split(&bytes, 100_000).unwrap().unwrap();
            assert_eq!(frame.len, bytes.len());
            assert_eq!(decode::<&[u8]>(frame.body).unwrap(), &payload[..]);
            for cut in [0, 1, 2, bytes.len() / 2, bytes.len() - 1] {
                assert_eq!(split(&bytes[..cut.min(bytes.len() - 1)], 100_000), Ok(None), "{size} cut at {cut}");
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_refused_or_waits_for_more() {
        let bytes = framed(b"a command to a lamp");
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(split(&bad, 4096), Ok(Some(_))), "bit {bit} was taken");
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_length_alone() {
        let bytes = framed(&[0; 500]);
        let refused = FrameError::TooLong { len: 506, max: 400 };
        assert_eq!(split(&bytes[..2], 400), Err(refused));
    }

    #[test]
    fn a_length_is_minimal_and_short() {
        assert_eq!(split(&[0x85, 0x00, 1, 2, 3, 4, 5], 400), Err(FrameError::Length));
        assert_eq!(split(&[0xff, 0xff, 0xff], 400), Err(FrameError::Length));
        assert_eq!(split(&[4, 0, 0, 0, 0], 400), Err(FrameError::TooShort { len: 4, min: 5 }));
    }

    #[test]
    fn a_buffer_too_small_is_an_error_not_a_panic() {
        for size in 0..20 {
            let mut out = vec![0; size];
            let fits = encode(&b"0123456789"[..], &mut out);
            assert_eq!(fits.is_ok(), size >= 16, "{size}");
        }
    }

    #[test]
    fn bytes_behind_a_message_are_refused() {
        assert_eq!(decode::<u8>(&[1, 2]), Err(FrameError::Body));
    }
}

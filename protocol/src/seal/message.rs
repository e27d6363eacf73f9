//! The frames of a handshake. They have no check of their own: Noise has it.
//!
//! ```text
//! length   varint, 1–3 bytes    bytes of what follows
//! Login    40 · version u8 · mac [16] · tenant text · noise bytes
//! Attach   41 · version u8 · ticket bytes · noise bytes
//! Answer   40 · noise bytes
//! Refuse   41 · code · retry_after_s u32
//! ```
//!
//! A plain link's first byte is 00, so that either end can say what is wrong when it meets the other kind.

use serde::{Deserialize, Serialize};

use super::{MAC_LEN, SealError};
use crate::frame::{self, EncodeError, FrameError};
use crate::message::RejectCode;

/// Longest `Refuse`, its length included.
pub const REFUSE_LEN_MAX: usize = 16;

const LOGIN: u8 = 0x40;
const ATTACH: u8 = 0x41;
const ANSWER: u8 = 0x40;
const REFUSE: u8 = 0x41;
/// Kind of `Hello`, and of `Welcome`, on a plain link.
const PLAIN_FIRST: u8 = 0;

/// The first frame of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromStranger<'a> {
    /// A device that shows its key.
    Login(Greeting<'a>),
    /// A device that shows a ticket.
    Attach {
        /// Version of the protocol.
        version: u8,
        /// What a route or server gave it.
        ticket: &'a [u8],
        /// First message of the handshake; its payload is a [`Claim`].
        noise: &'a [u8],
    },
}

/// What a device that logs in says in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting<'a> {
    /// Version of the protocol.
    pub version: u8,
    /// First half of HMAC-SHA256 over tenant and noise, under SHA-256([`MAC_LABEL`](super::MAC_LABEL) · the
    /// route's public key): who does not know the route is not listened to.
    pub mac: [u8; MAC_LEN],
    /// Tenant.
    pub tenant: &'a str,
    /// First message of the handshake; its payload is a [`LoginClaim`].
    pub noise: &'a [u8],
}

/// Which connection of a device this is, see `Hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// Drawn at each power-on.
    pub incarnation: u64,
    /// Number of the connection since then.
    pub attempt: u32,
}

/// Payload of the first message of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginClaim<'a> {
    /// Device id.
    pub device: &'a str,
    /// Which connection.
    pub claim: Claim,
}

/// What a device hears before its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToStranger<'a> {
    /// Second message of the handshake, without payload.
    Answer {
        /// The message.
        noise: &'a [u8],
    },
    /// The server does not go on. Anybody on the path could say so.
    Refuse {
        /// Why.
        code: RejectCode,
        /// When to come back, in seconds.
        retry_after_s: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct AttachBody<'a> {
    version: u8,
    ticket: &'a [u8],
    noise: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct RefuseBody {
    code: RejectCode,
    retry_after_s: u32,
}

/// The handshake frame at the start of `bytes`, and the bytes it took: `None` while it is not whole yet.
pub fn take(bytes: &[u8], max: usize) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((len, head)) = frame::length_within(bytes, 1, max)? else {
        return Ok(None);
    };
    Ok(bytes.get(head..head + len).map(|body| (body, head + len)))
}

impl<'a> FromStranger<'a> {
    /// Reads the body of a frame.
    pub fn decode(body: &'a [u8]) -> Result<Self, SealError> {
        match body.split_first() {
            Some((&LOGIN, [version, ..])) | Some((&ATTACH, [version, ..])) if *version != crate::VERSION => {
                Err(SealError::Version { given: *version })
            }
            Some((&LOGIN, rest)) => Ok(Self::Login(frame::decode(rest)?)),
            Some((&ATTACH, rest)) => {
                let AttachBody { version, ticket, noise } = frame::decode(rest)?;
                Ok(Self::Attach { version, ticket, noise })
            }
            Some((&PLAIN_FIRST, _)) => Err(SealError::Plain),
            _ => Err(SealError::Frame(FrameError::Body)),
        }
    }

    /// Writes it as a frame at the start of `out` and returns the bytes written.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        match self {
            Self::Login(greeting) => frame_of(LOGIN, greeting, out),
            Self::Attach { version, ticket, noise } => {
                frame_of(ATTACH, &AttachBody { version: *version, ticket, noise }, out)
            }
        }
    }
}

impl<'a> ToStranger<'a> {
    /// Reads the body of a frame.
    pub fn decode(body: &'a [u8]) -> Result<Self, SealError> {
        match body.split_first() {
            Some((&ANSWER, rest)) => Ok(Self::Answer { noise: frame::decode(rest)? }),
            Some((&REFUSE, rest)) => {
                let RefuseBody { code, retry_after_s } = frame::decode(rest)?;
                Ok(Self::Refuse { code, retry_after_s })
            }
            // What a plain link says first: Welcome, Redirect, Reject.
            Some((0..=2, _)) => Err(SealError::Plain),
            _ => Err(SealError::Frame(FrameError::Body)),
        }
    }

    /// Writes it as a frame at the start of `out` and returns the bytes written.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        match *self {
            Self::Answer { noise } => frame_of(ANSWER, noise, out),
            Self::Refuse { code, retry_after_s } => frame_of(REFUSE, &RefuseBody { code, retry_after_s }, out),
        }
    }
}

fn frame_of<T: Serialize + ?Sized>(kind: u8, rest: &T, out: &mut [u8]) -> Result<usize, EncodeError> {
    let laid = frame::lay_out(&(kind, rest), 0, out)?;
    Ok(laid.head + laid.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(message: FromStranger<'_>) {
        let mut out = [0; 512];
        let len = message.encode(&mut out).unwrap();
        let (body, taken) = take(&out[..len], 512).unwrap().unwrap();
        assert_eq!(taken, len);
        assert_eq!(FromStranger::decode(body), Ok(message));
        for cut in 0..len {
            assert_eq!(take(&out[..cut], 512), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let noise = [7; 120];
        round_trip(FromStranger::Login(Greeting { version: 1, mac: [3; 16], tenant: "-", noise: &noise }));
        round_trip(FromStranger::Attach { version: 1, ticket: &[9; 80], noise: &noise });
        let mut out = [0; 128];
        let refuse = ToStranger::Refuse { code: RejectCode::Contested, retry_after_s: u32::MAX };
        for message in [ToStranger::Answer { noise: &[1; 48] }, refuse] {
            let len = message.encode(&mut out).unwrap();
            assert_eq!(ToStranger::decode(take(&out[..len], 128).unwrap().unwrap().0), Ok(message));
        }
        assert!(refuse.encode(&mut [0; REFUSE_LEN_MAX]).is_ok());
    }

    #[test]
    fn a_plain_peer_and_another_version_are_told_apart_from_garbage() {
        assert_eq!(FromStranger::decode(&[0, 1, 2]), Err(SealError::Plain));
        assert_eq!(ToStranger::decode(&[2, 1, 2]), Err(SealError::Plain));
        assert_eq!(FromStranger::decode(&[0x40, 9, 2]), Err(SealError::Version { given: 9 }));
        assert_eq!(FromStranger::decode(&[0x77]), Err(SealError::Frame(FrameError::Body)));
        assert_eq!(FromStranger::decode(&[]), Err(SealError::Frame(FrameError::Body)));
    }
}

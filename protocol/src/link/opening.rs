//! How the link of two nodes begins and is sealed.
//!
//! ```text
//! record      length u16, big-endian · so many bytes, at most 65,535
//! 1st record  node → route   an Opening in clear: who dials whom, or which token it brings
//! 2nd, 3rd …                 the messages of a Noise handshake whose prologue is PROLOGUE · bytes of the opening
//! then        both ways      sealed records: at most 65,519 bytes of the stream of frames, and a tag of 16;
//!                            one without bytes is the last of its direction
//!
//! Opening::Link   Noise_KK_25519_ChaChaPoly_SHA256        2 messages under node keys that both know
//! Opening::Join   Noise_XXpsk0_25519_ChaChaPoly_SHA256    3 messages under the token, then one JoinAnswer, sealed
//! ```
//!
//! The nonce of a record is its number in its direction, from 0; after each 2^20 records a direction rekeys. Nothing
//! of a handshake has an effect before the first sealed record: the messages before it can be replayed.

use serde::{Deserialize, Serialize};

/// First record of a connection between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening<'a> {
    /// An IM-server links to a route.
    Link {
        /// [`VERSION`](crate::VERSION).
        version: u8,
        /// Name of the IM-server that dials.
        server: &'a str,
        /// Name of the route that it means.
        route: &'a str,
    },
    /// A node wants to be enrolled.
    Join {
        /// [`VERSION`](crate::VERSION).
        version: u8,
        /// Names the join token.
        token: [u8; 8],
        /// The role asked for, as written in commands: `server`.
        role: &'a str,
        /// Its name.
        name: &'a str,
    },
}

/// Answer to a join, in the first sealed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer<'a> {
    /// The node's key is enrolled.
    Joined,
    /// It is not.
    Refused {
        /// What was wrong and what to do.
        why: &'a str,
    },
}

/// Before the opening in the prologue of both handshakes.
pub const PROLOGUE: &[u8] = b"imlink node\0";
/// Noise pattern of a link.
pub const LINK_PATTERN: &str = "Noise_KK_25519_ChaChaPoly_SHA256";
/// Noise pattern of a join.
pub const JOIN_PATTERN: &str = "Noise_XXpsk0_25519_ChaChaPoly_SHA256";
/// Longest opening and longest handshake message, in bytes; longer ones are refused by their length.
pub const HANDSHAKE_LEN_MAX: usize = 256;
/// Longest record without its length, in bytes.
pub const RECORD_LEN_MAX: usize = 65_535;
/// Bytes of a sealed record's tag.
pub const RECORD_TAG_LEN: usize = 16;
/// Records after which a direction rekeys.
pub const REKEY_AFTER: u64 = 1 << 20;
/// Longest time from connecting to the first sealed record.
pub const HANDSHAKE_DEADLINE: core::time::Duration = core::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    /// The bytes on the wire; they do not change within a version.
    #[test]
    fn openings_and_answers_are_these_bytes() {
        let mut out = [0; HANDSHAKE_LEN_MAX];
        let is = |bytes: &[u8], len: usize, out: &[u8]| assert_eq!(out.get(..len), Some(bytes));
        let link = Opening::Link { version: 1, server: "im-1", route: "route-1" };
        let len = frame::encode_body(&link, &mut out).unwrap();
        is(b"\x00\x01\x04im-1\x07route-1", len, &out);
        assert_eq!(frame::decode::<Opening<'_>>(&out[..len]), Ok(link));
        let join = Opening::Join { version: 1, token: [1, 2, 3, 4, 5, 6, 7, 8], role: "server", name: "im-1" };
        let len = frame::encode_body(&join, &mut out).unwrap();
        is(b"\x01\x01\x01\x02\x03\x04\x05\x06\x07\x08\x06server\x04im-1", len, &out);
        assert_eq!(frame::decode::<Opening<'_>>(&out[..len]), Ok(join));
        let len = frame::encode_body(&JoinAnswer::Refused { why: "no" }, &mut out).unwrap();
        is(b"\x01\x02no", len, &out);
    }
}

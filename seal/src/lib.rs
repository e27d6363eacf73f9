//! The host's end of sealed links.
//!
//! ```text
//!             Login ──▶ RouteKeys::begin ──▶ LoginBegun::read ──▶ who comes ──▶ LoginRead::answer ──▶ records
//!                          mac, no DH           2 DH             the store's word        3 DH
//!             Attach ─▶ AttachRead::new ───────────────────────▶ who comes ──▶ AttachRead::answer ─▶ records
//!                          ticket, no DH                                          1 DH
//! ```
//!
//! Bytes in, bytes out, by `snow`; the device's end in `imlink-protocol` is made of another library, so that each
//! checks the other. What costs a Diffie–Hellman runs on a bounded [`Pool`], so that those who are attached keep
//! their share of the machine, and only after something cheap was proved: knowledge of the route's key, or a ticket.
#![forbid(unsafe_code)]

mod attach;
mod buckets;
mod crypto;
#[cfg(test)]
mod golden;
mod login;
mod open;
mod pool;
#[cfg(test)]
mod vectors;

pub use attach::AttachRead;
pub use buckets::{Buckets, Rates};
pub use crypto::{Fast, Resolver, public_key};
pub use login::{LoginBegun, LoginRead, RouteKeys};
pub use open::{OPEN_MAX, OpenHandshakes};
pub use pool::Pool;

use imlink_protocol::seal::Records;

/// Bytes of an answer on the wire: length 1, kind 1, length 1, ephemeral key 32, tag 16.
pub const ANSWER_LEN: usize = 51;

/// A handshake that is done: what is sent last, and what seals from then on.
pub struct Answered {
    /// The frame for the device.
    pub frame: [u8; ANSWER_LEN],
    /// The link's records, at the server's end.
    pub records: Records<Fast>,
}

/// Why a handshake is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The mac fits none of the route's keys: a scanner, or a device that pins another route.
    #[error("the login is not for any key of this route")]
    Mac,
    /// The ticket was made by nobody here, or under a key that is no longer held.
    #[error("the ticket is not of this server")]
    Ticket,
    /// The ticket's time is over.
    #[error("the ticket has expired")]
    Expired,
    /// A message of the handshake does not open.
    #[error("the handshake does not open: a wrong key, or changed bytes")]
    Handshake,
}

impl Refused {
    /// A short name for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mac => "mac",
            Self::Ticket => "ticket",
            Self::Expired => "ticket-expired",
            Self::Handshake => "handshake",
        }
    }
}

/// Writes the last message of a handshake and takes the keys of both directions.
fn answer(mut noise: snow::HandshakeState) -> Result<Answered, Refused> {
    let mut message = [0; 48];
    let len = noise.write_message(&[], &mut message).map_err(|_| Refused::Handshake)?;
    let message = message.get(..len).ok_or(Refused::Handshake)?;
    let mut frame = [0; ANSWER_LEN];
    let written = imlink_protocol::seal::ToStranger::Answer { noise: message }.encode(&mut frame);
    if written != Ok(ANSWER_LEN) || !noise.is_handshake_finished() {
        return Err(Refused::Handshake);
    }
    let (to_server, to_device) = noise.dangerously_get_raw_split();
    Ok(Answered { frame, records: Records::new(to_device, to_server) })
}

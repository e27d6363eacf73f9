//! The bytes and rules of imlink's wire, without I/O, heap or clock.
//!
//! ```text
//! frame      length · body · check          one message on a TCP stream
//! message    FromDevice, ToDevice           what a body says between a device and its IM-server
//! link       what nodes and backends say    the same frames, other bodies
//! seal       handshake and records of a sealed link
//! serving    the IM-server's end of a session
//! device     the device's end of a session
//! blob       files in chunks, either way
//! ```
//!
//! Everything here is a plain value or a state machine: it is given bytes and the time, and gives
//! back bytes and events. Sockets, tasks and memory belong to the crates that use it.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod blob;
pub mod device;
pub mod frame;
pub mod hex;
pub mod id;
pub mod interface;
pub mod key;
pub mod key_pair;
pub mod limits;
pub mod link;
pub mod message;
pub mod seal;
pub mod serving;
#[cfg(feature = "ticket")]
pub mod ticket;
pub mod time;

pub use frame::FrameError;
pub use id::{Cursor, DeviceId, Epoch, Fingerprint, IdError, KeyMark, MessageId, TokenId};
pub use key::Key;
pub use message::{FromDevice, ToDevice};
pub use time::Instant;

/// Version of the protocol spoken by this crate, the first field of `Hello`.
pub const VERSION: u8 = 1;

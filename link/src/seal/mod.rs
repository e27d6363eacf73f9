//! Sealed links between nodes of different processes.
//!
//! ```text
//! server   connect ──Opening, KK──▶ Incoming::read ─ whose key? ─▶ Incoming::link ──▶ Link, as any other
//! newcomer join    ──Opening, XX──▶ Incoming::read ─ which token? ─▶ Incoming::join ──▶ Joining: its proven key
//! ```
//!
//! The bytes are those of [`imlink_protocol::link::opening`]. Within a sealed link the ordinary frames go as one
//! stream, cut into records: what waits in the outbox is sealed at once, so a busy link pays the tag and the call of the
//! cipher once for many frames.
//!
//! Nothing here decides whom to believe: who calls looks keys and tokens up, and gives deadlines.

mod handshake;
mod join;
mod key;
mod record;
mod token;

pub use handshake::{Incoming, SealError, connect};
pub use join::{Joining, join};
pub use key::{KeyError, NodeKey, PublicKey};
pub(crate) use record::{Opened, Opener, Sealer, both};
pub use token::{JoinSecret, TokenError};

#[cfg(test)]
mod tests;

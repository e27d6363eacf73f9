//! The store: where identities, sessions, mailboxes, events and leases live.
//!
//! One [`Store`] in the words of the domain, over memory or Redis, chosen at start. Every call is one
//! round trip; calls may be in flight at once and are pipelined. A call that is [`Error::Away`] may have
//! been executed all the same: every write is idempotent by nature or by its id.
#![forbid(unsafe_code)]

mod error;
pub mod event;
pub mod lease;
pub mod mailbox;
pub mod name;
pub mod session;

pub use error::Error;
pub use name::DeviceKey;

//! The store: where identities, sessions, mailboxes, events and leases live.
//!
//! One [`Store`] in the words of the domain, over memory or Redis, chosen at start. Every call is one
//! round trip; calls may be in flight at once and are pipelined. A call that is [`Error::Away`] may have
//! been executed all the same: every write is idempotent by nature or by its id.
#![forbid(unsafe_code)]

pub mod audit;
mod config;
mod error;
pub mod event;
pub mod idempotency;
pub mod lease;
pub mod limits;
pub mod mailbox;
mod members;
mod memory;
pub mod name;
pub mod node;
mod record;
mod record_key;
mod redis;
mod revoked;
pub mod session;
mod store;
pub mod token;
mod tries;

pub use config::Config;
pub use error::Error;
pub use idempotency::Idempotent;
pub use memory::MemoryStore;
pub use name::DeviceKey;
pub use record_key::RecordKey;
pub use redis::{RedisStore, acl};
pub use revoked::RevokedTokens;
pub use store::{EventsByShard, Store};

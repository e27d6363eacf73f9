//! The IM-server: holds the long connections of devices.
//!
//! ```text
//!  devices ──TCP──▶ I/O thread ◀── inbox ── links ◀──frames──▶ routes
//!                    │  one readiness loop, its own slab of connections, its own device table
//!                    └─ store work: polled once where it arises, spawned when it has to wait
//! ```
//!
//! Each device belongs to one I/O thread, chosen by the hash of its name; nothing of a device is shared
//! between threads. The rules of a session are `imlink_protocol::serving`; this crate gives it sockets,
//! time, the store and the routes. It knows nothing of the crate `route`: both speak the node link.
#![forbid(unsafe_code)]

mod acks;
mod admission;
mod attach;
mod batches;
mod blob;
mod call;
pub mod config;
mod conn;
mod contested;
mod deliver;
mod events;
mod frames;
mod handshake;
mod inbox;
mod interface;
pub mod join;
mod kick;
mod links;
mod load;
pub mod metrics;
mod out;
mod reactor;
mod run;
mod sockets;
mod store_work;
mod sweep;
mod table;
mod tickets;

pub use config::{Config, ConfigError, Limits, Login};
pub use imlink_seal::Rates;
pub use run::{RunError, Server};

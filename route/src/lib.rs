//! The route: logs devices in, assigns each an IM-server, takes requests from backends and forwards them.
//!
//! ```text
//! devices  ──login──▶ choose ──▶ Redirect with ticket
//! backends ──http, backend──▶ lookups ──▶ push ──▶ store.append ──▶ Deliver ──▶ IM-server
//!                                │          └──▶ waiters ◀── Acked ◀────────────────┤
//!                                └──▶ call ──▶ calls ◀────── Replied ◀──────────────┤
//! IM-servers ──node──▶ servers, leases, kicks ◀─────────────────────────────────────┘
//! store ──wait_events──▶ feed ──▶ events of subscribers
//! ```
//!
//! A route keeps nothing that matters: what it remembers of devices is checked by each append and each
//! server, and requests in flight are the backends' to repeat. It knows IM-servers only by their links.
#![forbid(unsafe_code)]

pub mod access;
mod administration;
mod asker;
mod backend;
pub mod blob;
mod call;
mod calls;
mod choose;
pub mod config;
mod core;
mod devices;
mod events;
mod handle;
pub mod http;
mod interface;
mod kick;
mod login;
mod lookups;
mod metrics;
mod node;
mod once;
mod outgoing;
mod push;
pub mod request;
mod start;
mod sweep;
mod text;
mod tls;
mod waiters;

pub use config::{Config, Limits};
pub use events::Events;
pub use handle::Route;
pub use start::{Running, StartError, run, start};
pub use tls::{TlsError, TlsFiles};

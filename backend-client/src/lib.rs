//! Rust SDK for backends, over the binary backend link of a route or gateway.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use imlink_backend_client::{Client, Message};
//!
//! let client = Client::connect("127.0.0.1:7002", "the route's bearer token", "billing").await?;
//! let sent = client.send(&Message::new("lamp-17", "led/set", b"\x01").acked()).await?;
//! println!("{} is {:?}", sent.id, sent.state);
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! Client    many tasks, one link: send, call, state, cancel, events; reconnects by itself
//! Pipeline  one task, one link, as little work per request as possible: for bulk pushers
//! ```
//!
//! Requests are pipelined: any number is in flight and answers come in any order. A request whose link is
//! lost fails with [`Error::Lost`]: it may have been done. A send with an idempotency key is repeated by
//! the client until its time is over; without one, repeating it is the caller's decision.
#![forbid(unsafe_code)]

mod access;
mod client;
mod connection;
mod dial;
mod error;
mod events;
mod message;
mod pipeline;
mod tls;

pub use access::Access;
pub use client::Client;
pub use dial::ConnectError;
pub use error::Error;
pub use events::{Event, Events};
pub use imlink_protocol::link::backend::{Failure, State, Wait};
pub use imlink_protocol::message::Code;
pub use imlink_protocol::{Key, MessageId};
pub use message::{Call, Message, Replied, Sent};
pub use pipeline::{Done, Outcome, Pipeline};

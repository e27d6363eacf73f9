//! What firmware links: the device's end of imlink, without heap.
//!
//! ```text
//!                        ┌────────────────── State ──────────────────┐
//!   TcpConnect ─ Runner ─┤ session · inbox · calls · replies · events ├─ Messages   the next message
//!   Dns, Clock           └───────────────────────────────────────────┘─ Calls      the next call
//!      Rng                                                            └─ Client     publish, link, leave
//! ```
//!
//! All memory is in one [`State`] that the user places. [`Runner::run`] owns the connection, runs
//! forever and comes back after every failure; the handles are cheap and work without a connection too.
//!
//! A message is acknowledged when its handler is done with it, not when it is taken: [`Message::ack`],
//! [`Message::reject`], or the return of the handler given to [`Messages::for_each`]. A [`Message`] that is
//! dropped comes again. A call runs at most once; a [`Call`] that is dropped is answered as
//! `device-error`. An event is kept until it is stored.
//!
//! A NAT on the path forgets connections that are silent for long, and wakes cost a battery: with
//! [`Pacing::Adaptive`] the client looks for the longest interval of heartbeats that the path survives.
//!
//! Every error says [whose fault](Error::fault) it is. Every future may be dropped; each says what becomes of the
//! message or call it was about.
//!
//! ```
//! use imlink_device_client::{Config, Interface, Keys, NoopRawMutex, State, interface, tokio::{TokioClock, TokioRng, TokioStack}};
//!
//! interface! {
//!     /// What this lamp speaks.
//!     pub LAMP {
//!         Message SET = "led/set": bool;
//!         Call ECHO = "echo";
//!         Event TEMPERATURE = "temperature": f32;
//!     }
//! }
//!
//! # async fn lamp() {
//! let mut state = State::<NoopRawMutex, _>::new(TokioClock::new());
//! let routes = ["im.example.com:7000", "192.168.1.10:7000"];
//! // What `imlink device add lamp-1` printed.
//! let keys = Keys { private_key: &[1; 32], route_keys: &[[2; 32], [3; 32]], psk: None };
//! let config = Config { interface: LAMP, ..Config::new("lamp-1", &routes, keys) };
//! let mut device = imlink_device_client::new(&mut state, config, TokioStack::default(), TokioRng).unwrap();
//! device.client.publish_typed(TEMPERATURE, &21.5f32).unwrap();
//! let lamp = device.messages.for_each(async |message| match message.decode::<bool>() {
//!     Some(_on) => Ok(()),
//!     None => Err(imlink_device_client::Code::BAD_PAYLOAD),
//! });
//! tokio::join!(device.runner.run(), lamp);
//! # }
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![allow(async_fn_in_trait, reason = "used by generics only, never as trait objects")]

#[cfg(any(test, feature = "tokio"))]
extern crate std;

#[macro_use]
mod fmt;
mod address;
#[cfg(feature = "blob")]
pub mod blob;
mod blob_port;
mod calls;
mod client;
mod config;
mod connection;
mod core_state;
#[cfg(feature = "embassy")]
pub mod embassy;
mod error;
#[cfg(feature = "flash")]
pub mod flash;
mod handlers;
#[cfg(feature = "seal")]
mod handshake;
mod interface;
mod messages;
mod platform;
mod queue;
mod runner;
mod state;
#[cfg(feature = "tokio")]
pub mod tokio;
mod wire;

pub use blob_port::NoBlobs;
pub use calls::{Call, Calls, ReplyError};
pub use client::{Client, EventCounts, Link, PublishError};
#[cfg(feature = "flash")]
pub use config::EventStart;
#[cfg(feature = "seal")]
pub use config::Keys;
pub use config::{Config, Overflow, Resume};
pub use core_state::Core;
pub use embassy_sync::blocking_mutex::raw::{CriticalSectionRawMutex, NoopRawMutex, RawMutex};
pub use error::{ConfigError, Error, Fault};
pub use handlers::{states, states_payload};
pub use imlink_protocol::device::{Pacing, StateName};
pub use imlink_protocol::interface::Kind;
pub use imlink_protocol::message::Code;
pub use imlink_protocol::{Fingerprint, Instant, Key, MessageId};
pub use interface::{Entry, Interface, encode, len};
pub use messages::{CursorStore, Message, Messages, NotKept};
pub use platform::{Clock, Rng, RngError};
#[doc(hidden)]
pub use postcard_schema as interface_schema;
pub use runner::{Device, Runner, new};
pub use state::{Shared, State, Storage};

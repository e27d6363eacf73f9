//! The load generator of the benchmark: one thread that plays a backend and a fleet of devices
//! against any server whose protocol has a [`Wire`](wire::Wire).
//!
//! ```text
//!  push · pace · events · idle      what is measured, one file each
//!               ↓
//!             fleet                 connections and the readiness loop that drives them
//!             ↓   ↓
//!       connection  poller
//!             ↓
//!            wire                   imlink · imlink-http · mqtt · nats · raw · tls around one of them
//! ```
//!
//! The same engine plays every protocol, so the generator costs each of them alike, and the figure
//! that counts is the CPU time of the server's process. Linux only.
#![forbid(unsafe_code)]

pub mod connection;
pub mod events;
pub mod fleet;
pub mod hold;
pub mod idle;
pub mod latency;
pub mod layout;
pub mod ledger;
pub mod pace;
pub mod poller;
pub mod provision;
pub mod push;
pub mod usage;
pub mod wire;

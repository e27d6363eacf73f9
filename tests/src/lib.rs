//! End to end, faults and conformance, with real processes.
//!
//! ```text
//! process   a child process: its log, its signals, its certain end
//! node      imlink gateway, route and server as processes
//! cluster   routes and servers around one Redis
//! fleet     `imlink swarm`: thousands of devices
//! pushers   backends that push all at once, with faults around them
//! redis     a redis-server of the test's own
//! proxy     a TCP proxy that delays, holds, swallows, cuts and corrupts
//! device    one device: the real client, with a handler that does what the test says
//! keeper    one device that keeps and gives files
//! wire      a peer that speaks frames by hand, rightly or wrongly
//! sealed    the same over a sealed link, with its handshake
//! api       the HTTP API as a backend sees it
//! blob      files to and from devices, by the command
//! ledger    what was sent against what devices handled and what imlink says became of it
//! ```
//!
//! A test owns what it starts: every child dies with the value that holds it, and with the test
//! process if that is killed. Addresses come from [`port::Port`], so tests run side by side. When a test
//! fails, the logs of its processes are printed.
//!
//! The `imlink` that is tested is the one of profile `e2e`; nextest builds it before the first test (see
//! `.config/nextest.toml`), with plain `cargo test` run `cargo build --profile e2e -p imlink` first.
#![forbid(unsafe_code)]

pub mod api;
pub mod blob;
pub mod cluster;
pub mod device;
pub mod fleet;
pub mod keeper;
pub mod ledger;
pub mod node;
pub mod port;
pub mod process;
pub mod proxy;
pub mod pushers;
pub mod redis;
pub mod sealed;
pub mod wait;
pub mod wire;

//! What nodes and backends say to one another: the frames of [`frame`](crate::frame), other bodies.
//!
//! ```text
//! IM-server ── ToRoute ──▶ route ◀── FromBackend ── backend
//!           ◀─ ToServer ──       ─── ToBackend ──▶
//! ```
//!
//! Requests carry a number chosen by the asker, counting up on its link; any number of them is in
//! flight and answers come in any order. Devices are named `tenant/device`. Durations are relative, so
//! that no two clocks need to agree; only expiries are the store's time, in milliseconds since 1970.

pub mod backend;
pub mod node;
pub mod opening;

//! Two ways to hold many connections on an I/O thread, behind one face: the product's readiness loop, and one
//! small tokio task for each connection. `docs/decisions/0006-connection-layout.md` has the figures.

mod session_task;
mod tasks;

pub use tasks::TaskServer;

//! The promises of imlink, explored exhaustively on a small model of its parties.
//!
//! ```text
//!  client ──POST──► route ──append──────────────► store ◄── attach · read · acks · detach ──┐
//!    ▲  hangs up      │  ▲                        one mailbox, event stream;               │
//!    └── stored,      │  └── NotHere, Replied     may go back to a backup                  │
//!        acked,       │                                                                    │
//!        reply        └── Deliver, Call ────────► IM-server 0 ◄──── Kick ────► IM-server 1 ┤
//!                         any order, lost,              │ ▲  kill -9                │ ▲    │
//!                         late, twice                   ▼ │                         ▼ │    │
//!                                                      connections, in order, may be half-open
//!                                                       │ ▲                         │ ▲
//!                                                       ▼ │                         ▼ │
//!                                                   one device: queue → handler → cursor, power loss
//! ```
//!
//! - `store`, `session`, `message`: the mailbox and its operations, each one atomic step (DESIGN §6).
//! - `server`, `delivery`, `heartbeat`: an IM-server's table, what it sends, what it compares (§5, §7).
//! - `route`, `device`: the two ends. `world` holds all of them and what is under way; `moves` says what may happen next.
//! - `ledger` knows what really happened and judges every state by the promises of §2; a state from which nothing
//!   moves by itself (faults stopped) is judged for what must be done by then.
//! - [`Scenario`]: how many parties and how many faults of each kind. [`explore`] visits every state it can reach.
//! - [`Rule`]: a switch for each rule. `tests/promises.rs` holds the promises with all rules kept, `tests/rules.rs`
//!   breaks each and names what falls; `docs/decisions/0001-model-findings.md` draws the conclusions.
//!
//! A round trip to the store happens at once, or its reply is lost, or its request, or either comes late: the budgets
//! bound how often. One scenario, and its trace when a rule is broken:
//!
//! ```text
//! cargo run -p imlink-model --example trace -- rollback
//! cargo run -p imlink-model --example trace -- rollback CursorTrimsByThePair
//! ```
//!
//! Not modelled: payloads, keys and interfaces, times other than "passed", two devices of one identity, load, more
//! than one mailbox, `Probe` and the resend on a live connection (a TCP connection does not lose in the middle).

mod delivery;
mod device;
mod heartbeat;
mod ledger;
mod message;
mod moves;
mod route;
mod rule;
mod scenario;
mod search;
mod server;
mod session;
mod store;
mod world;

pub use ledger::Violation;
pub use message::{Id, Outcome, State};
pub use moves::{How, Move};
pub use rule::{Broken, Rule};
pub use scenario::{ALL, Budget, Scenario};
pub use search::{Found, explore, trace};
pub use store::Limits;

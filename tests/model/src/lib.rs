//! The model.

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

//! The model.

mod delivery;
mod device;
mod ledger;
mod moves;
mod route;
mod rule;
mod scenario;
mod search;
mod server;
mod store;
mod world;

pub use ledger::Violation;
pub use moves::{How, Move};
pub use rule::{Broken, Rule};
pub use scenario::{ALL, Budget, Scenario};
pub use search::{Found, explore, trace};
pub use store::{Id, Limits, Outcome, State};

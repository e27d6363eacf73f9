//! Events: one reader for each tenant with subscribers, any number of subscribers.

mod feed;
mod positions;
mod stream;

pub(crate) use feed::Feeds;
pub(crate) use positions::Positions;
pub use stream::Events;
pub(crate) use stream::{check_group, commit, decode};

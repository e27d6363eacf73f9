//! Events: one reader for the route, any number of subscribers.

mod feed;
mod positions;
mod stream;

pub(crate) use feed::Feed;
pub(crate) use positions::Positions;
pub use stream::Events;
pub(crate) use stream::{check_group, commit, decode};

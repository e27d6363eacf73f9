//! A message as the store and the device know it: its id, its entry, its state.

use crate::session::Session;

/// Generation and sequence: the id of a message for life, and its order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Id {
    /// Grows when the store may have lost something.
    pub generation: u8,
    /// Counts on over generations.
    pub sequence: u8,
}

/// A pair as written in traces: `Id::new(1, 4)` is message `1-4`.
impl Id {
    /// The pair.
    pub const fn new(generation: u8, sequence: u8) -> Self {
        Self { generation, sequence }
    }
}

/// How an entry ended, other than by an ack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Its TTL passed first.
    Expired {
        /// A device may have handled it nevertheless.
        may_have_run: bool,
    },
    /// Given up after the attempt limit.
    Failed,
    /// Refused by the device.
    Rejected,
    /// Trimmed in a way that does not prove that the device handled it.
    Unknown,
}

/// What `message_state` answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Stored, not offered.
    Waiting,
    /// Offered to a session.
    Sent,
    /// Handled by the device.
    Acked,
    /// Ended in another way.
    Ended(Outcome),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) message: u8,
    pub(crate) ended: bool,
}

/// One entry on its way to a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Item {
    pub(crate) id: Id,
    pub(crate) message: u8,
    pub(crate) redelivered: bool,
}

/// Result of a try to append.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Appended {
    Stored(Id, Option<Session>),
    Unknown,
}

/// When a try began, in terms the store can compare: ids evicted and lineages seen by then (in code: store times).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Since {
    pub(crate) evicted: u8,
    pub(crate) run: u8,
}

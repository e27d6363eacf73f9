//! Idempotency keys of clients: the same key within 24 h means the same message.

use bytes::Bytes;

/// What is known of a client's idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Idempotent {
    /// First use; it is pending from now on.
    New,
    /// Used before, with this answer.
    Done(Bytes),
    /// Used before, and no answer was written yet: it may have been carried out.
    Pending,
    /// Used before for something else.
    Conflict,
}

//! The IM-server's end of a session.
//!
//! A [`Session`] is the rules between `Welcome` and the end of the connection: numbering and order,
//! the window, acknowledgement, probe and resend, heartbeat and cut, the generation of the stream. It
//! owns no socket, clock, task or memory of payloads; it takes what came with the time, writes what goes
//! to a [`Transmit`], and says what the server has to do.

mod exchange;
mod in_flight;
mod patience;
mod session;

pub use exchange::{CallRefused, Delivered, HeadCheck, Incoming, MailboxHead, Opening, Outgoing, PageTaken, Wanted};
pub use patience::Overdue;
pub use session::Session;

use crate::blob::BlobFault;
use crate::message::ToDevice;

/// Where a session writes its frames; seals or checks them and keeps them until the socket takes them.
pub trait Transmit {
    /// Puts one message behind those already waiting.
    fn transmit(&mut self, message: &ToDevice<'_>);
}

/// The device broke a rule: the connection is closed with a typed reason, nobody else notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A second `Hello`.
    SecondHello,
    /// An acknowledgement of something that was never sent.
    AckAhead {
        /// Sequence acknowledged.
        sequence: u64,
        /// Highest sequence sent.
        sent: u64,
    },
    /// A generation that was not announced.
    Generation {
        /// Generation given.
        given: u64,
        /// Generation announced.
        expected: u64,
    },
    /// More unacknowledged events than the window, or a sequence that does not grow.
    Event {
        /// Sequence given.
        sequence: u64,
    },
    /// An interval outside 1 s … 1 h.
    Interval {
        /// Interval given, in milliseconds.
        ms: u32,
    },
    /// A frame of a transfer that is not allowed.
    Blob(BlobFault),
}

impl Violation {
    /// A short name for metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SecondHello => "second-hello",
            Self::AckAhead { .. } => "ack-ahead",
            Self::Generation { .. } => "generation",
            Self::Event { .. } => "event",
            Self::Interval { .. } => "interval",
            Self::Blob(_) => "blob",
        }
    }
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::SecondHello => f.write_str("a second Hello on one connection"),
            Self::AckAhead { sequence, sent } => {
                write!(f, "acknowledgement of message {sequence}, the last one sent is {sent}")
            }
            Self::Generation { given, expected } => {
                write!(f, "generation {given} answered, {expected} was announced")
            }
            Self::Event { sequence } => {
                write!(f, "event {sequence} is out of order or past the window of {}", crate::limits::EVENT_WINDOW_MAX)
            }
            Self::Interval { ms } => write!(f, "heartbeat interval of {ms} ms, allowed are 1000 … 3600000"),
            Self::Blob(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for Violation {}

#[cfg(test)]
mod tests;

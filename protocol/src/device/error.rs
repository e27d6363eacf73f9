//! What a server can do wrong.

use core::fmt;

use super::output::StateName;
use crate::message::ToDevice;

/// The server broke a rule, or is dead: close the connection and try again later. The peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SessionError {
    /// A frame that is not allowed in this state.
    Order {
        /// State of the session.
        state: StateName,
        /// Kind of the frame.
        frame: &'static str,
    },
    /// The epoch is not above the last one.
    Epoch {
        /// Epoch given.
        given: u64,
        /// Epoch of the last session.
        last: u64,
    },
    /// The generation lies behind what was handled or received, or is not below 2^53.
    Generation {
        /// Generation given.
        given: u64,
        /// Newest generation known.
        known: u64,
    },
    /// Generations change faster than the device handles their messages.
    Generations,
    /// A sequence of 0 or not below 2^53.
    Sequence {
        /// Sequence given.
        given: u64,
    },
    /// The frame limit is too small for control frames.
    FrameLimit {
        /// Limit given, in bytes.
        given: u32,
    },
    /// A request id that does not count up.
    Request {
        /// Request id given.
        given: u32,
        /// Last one known.
        last: u32,
    },
    /// An event is acknowledged that was not sent.
    EventAhead {
        /// Sequence given.
        given: u64,
        /// Last one sent.
        sent: u64,
    },
    /// A grant or address is longer than allowed.
    TooLong {
        /// Kind of the frame.
        frame: &'static str,
    },
    /// No frame for 5/3 of the heartbeat, or no answer when one was due.
    Silent {
        /// State of the session.
        state: StateName,
    },
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Order { state, frame } => write!(f, "{frame} is not allowed while {state}"),
            Self::Epoch { given, last } => {
                write!(f, "epoch {given} is not above the last one, {last}")
            }
            Self::Generation { given, known } => {
                write!(f, "generation {given} is not between {known} and 2^53 - 1")
            }
            Self::Generations => f.write_str("generations change faster than messages are handled"),
            Self::Sequence { given } => write!(f, "sequence {given} is not between 1 and 2^53 - 1"),
            Self::FrameLimit { given } => write!(f, "frame limit of {given} bytes is too small for control frames"),
            Self::Request { given, last } => {
                write!(f, "request {given} does not count up from {last}")
            }
            Self::EventAhead { given, sent } => write!(f, "event {given} is acknowledged, the last one sent is {sent}"),
            Self::TooLong { frame } => write!(f, "grant or address of {frame} is too long"),
            Self::Silent { state } => write!(f, "the server is silent while {state}"),
        }
    }
}

impl core::error::Error for SessionError {}

/// The kind of a frame, for errors and logs.
pub(super) const fn kind(frame: &ToDevice<'_>) -> &'static str {
    match frame {
        ToDevice::Welcome(_) => "Welcome",
        ToDevice::Redirect { .. } => "Redirect",
        ToDevice::Reject { .. } => "Reject",
        ToDevice::Pong { .. } => "Pong",
        ToDevice::Probe => "Probe",
        ToDevice::Message { .. } => "Message",
        ToDevice::Generation { .. } => "Generation",
        ToDevice::Call { .. } => "Call",
        ToDevice::Cancel { .. } => "Cancel",
        ToDevice::EventAck { .. } => "EventAck",
        ToDevice::Describe { .. } => "Describe",
        ToDevice::Grant { .. } => "Grant",
        ToDevice::GoAway { .. } => "GoAway",
        #[cfg(feature = "blob")]
        ToDevice::BlobOpen(_) => "BlobOpen",
        #[cfg(feature = "blob")]
        ToDevice::BlobChunk(_) => "BlobChunk",
        #[cfg(feature = "blob")]
        ToDevice::BlobAck(_) => "BlobAck",
        #[cfg(feature = "blob")]
        ToDevice::BlobDone(_) => "BlobDone",
    }
}

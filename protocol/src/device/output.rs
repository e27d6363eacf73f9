//! What comes out of a session.

use core::fmt;

use super::retry::End;
#[cfg(feature = "blob")]
use crate::blob::BlobFrame;
use crate::id::{Epoch, MessageId};
use crate::key::Key;
use crate::message::FromDevice;

/// Where a session stands, for errors, logs and the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum StateName {
    /// No connection.
    Detached,
    /// Connected, `Hello` sent or due.
    Greeting,
    /// Messages, calls and events flow.
    Attached,
    /// Answers what is begun, then leaves.
    Leaving,
    /// The connection is to be closed.
    Ended,
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detached => "detached",
            Self::Greeting => "greeting",
            Self::Attached => "attached",
            Self::Leaving => "leaving",
            Self::Ended => "ended",
        })
    }
}

/// What a frame of the server means for the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The session is open.
    Attached {
        /// Number of the session.
        epoch: Epoch,
        /// Messages to keep: the one in its handler, or none. The others come again.
        keep: usize,
        /// Events at the queue's front that are stored already: remove them.
        stored: u32,
        /// Server's time, milliseconds since 1970.
        time_ms: u64,
    },
    /// The next message, to be kept and handled in order.
    Message {
        /// Its id for life.
        id: MessageId,
        /// Path and schema.
        key: Key,
        /// It may have reached the device before.
        is_redelivered: bool,
        /// The command.
        payload: &'a [u8],
    },
    /// A call to be kept; ask [`Session::start_call`](super::Session::start_call) before its handler runs.
    Call {
        /// Request id.
        request: u32,
        /// Path and schema.
        key: Key,
        /// The question.
        payload: &'a [u8],
    },
    /// Drop this call if it is kept.
    Cancelled {
        /// Request id.
        request: u32,
    },
    /// This many events at the queue's front are stored: remove them.
    Stored(u32),
    /// A frame of a transfer of a blob, for [`Transfers`](crate::blob::Transfers).
    #[cfg(feature = "blob")]
    Blob(BlobFrame<'a>),
    /// The connection is over: close it and call [`Session::handle_disconnected`](super::Session::handle_disconnected).
    Ended(End),
}

/// Something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit<'a> {
    /// This frame, as it is; given once.
    Frame(FromDevice<'a>),
    /// The oldest reply kept by the caller; offered until [`Session::handle_reply_sent`](super::Session::handle_reply_sent).
    Reply,
    /// The event at `index` of the caller's queue as number `sequence`; offered until
    /// [`Session::handle_event_sent`](super::Session::handle_event_sent) or [`Session::handle_event_dropped`](super::Session::handle_event_dropped).
    Event {
        /// Place in the queue, from 0.
        index: usize,
        /// Its number.
        sequence: u64,
    },
    /// The chunk of the interface from here on; offered until [`Session::handle_interface_sent`](super::Session::handle_interface_sent).
    Interface {
        /// Where it begins.
        offset: u32,
    },
}

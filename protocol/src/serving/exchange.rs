//! What goes in and out of a [`Session`](super::Session) besides frames.

#[cfg(feature = "blob")]
use crate::blob::BlobFrame;
use crate::id::{Cursor, Epoch, MessageId};
use crate::key::Key;
use crate::message::Code;

/// What a session begins with, from `Hello` and the store's answer to `attach`.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Number of the session.
    pub epoch: Epoch,
    /// Generation of the mailbox, or of its first waiting entry if that is older.
    pub generation: u64,
    /// Messages up to here may have reached the device before.
    pub offered: Cursor,
    /// How far the device handled its mailbox.
    pub cursor: Cursor,
    /// Messages the device can hold (1 …; at most [`WINDOW_MAX`](crate::limits::WINDOW_MAX) are used).
    pub window: u8,
    /// Largest frame the device takes, in bytes.
    pub receive_limit: u32,
    /// Heartbeat asked for.
    pub interval: core::time::Duration,
    /// Last stored event of the device's queue.
    pub event_position: u64,
    /// Store's time now, milliseconds since 1970.
    pub store_ms: u64,
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its id.
    pub id: MessageId,
    /// Path and schema.
    pub key: Key,
    /// Store's time at which it expires, 0 for never.
    pub expires_ms: u64,
    /// The command.
    pub payload: &'a [u8],
}

/// What became of a `Deliver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It went straight out.
    Sent,
    /// It was sent already.
    Known,
    /// It is not next in order or the window is full: the mailbox will be read.
    Later,
}

/// How far a page of the mailbox was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTaken {
    /// Entries sent or known, from the first.
    pub taken: usize,
    /// The entry after those cannot ever be sent, for this reason: record it and read again.
    pub refused: Option<(MessageId, Code)>,
}

/// A read of the mailbox that the session wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Only entries behind this one.
    pub after: Cursor,
    /// Most entries.
    pub limit: u32,
}

/// Where the store says the mailbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailboxHead {
    /// Current generation, 0 before the first message.
    pub generation: u64,
    /// Last sequence assigned.
    pub last: u64,
}

/// What comparing with the store's head showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadCheck {
    /// Nothing new.
    Same,
    /// Messages wait: the mailbox will be read.
    More,
    /// The store is behind what was sent: it lost its tail.
    RolledBack,
    /// Entries wait that are neither to be sent nor in flight: the store lost their end. The device's next
    /// cursor settles them.
    WentBack,
}

/// Why a call did not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallRefused {
    /// Larger than the device takes.
    TooLarge {
        /// Largest payload, in bytes.
        max: u32,
    },
}

/// What a frame of the device means for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// Nothing to do.
    Nothing,
    /// A heartbeat: compare the mailbox's head with the store.
    Heartbeat,
    /// Every message up to this one is handled.
    Acked(MessageId),
    /// Every message before this one is handled, this one refused.
    Nacked(MessageId, Code),
    /// Answer to a call.
    Reply {
        /// Request id given by [`Session::call`](super::Session::call).
        request: u32,
        /// Its status.
        status: Code,
        /// Its payload.
        payload: &'a [u8],
    },
    /// An event to store.
    Event {
        /// Position in the device's queue.
        sequence: u64,
        /// Path and schema.
        key: Key,
        /// What happened.
        payload: &'a [u8],
    },
    /// Part of the interface.
    Interface {
        /// Where it begins.
        offset: u32,
        /// Length of the whole.
        total: u32,
        /// The bytes.
        chunk: &'a [u8],
    },
    /// The device leaves.
    Bye,
    /// A frame of a transfer of a blob, for the [`Relay`](crate::blob::Relay).
    #[cfg(feature = "blob")]
    Blob(BlobFrame<'a>),
}

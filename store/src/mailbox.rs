//! Mailboxes: stored messages and what became of them.

use bytes::Bytes;
use imlink_protocol::id::{Cursor, Epoch, Fingerprint, MessageId, TokenId};
use imlink_protocol::key::Key;
pub use imlink_protocol::link::backend::State;
use imlink_protocol::message::Code;

use crate::DeviceKey;
use crate::session::{Head, Session};

/// What `append` is asked.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose mailbox.
    pub device: DeviceKey,
    /// Drawn at random per message; a retry repeats it.
    pub id: [u8; 16],
    /// Whether this id may have been appended before: the recent ids are read.
    pub retry: bool,
    /// Path and schema.
    pub key: Key,
    /// The interface the key was taken from, [`Fingerprint::NONE`] for a device that states none; another one
    /// than the device's is refused.
    pub fingerprint: Fingerprint,
    /// Who sends it.
    pub token: TokenId,
    /// Lifetime in seconds, 0 for ever.
    pub ttl_s: u32,
    /// The command.
    pub payload: Bytes,
    /// Most waiting entries this mailbox may hold.
    pub mailbox_max: u32,
}

/// What `append` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the mailbox.
    Stored(Stored),
    /// A retry that comes too late: it may be stored or not.
    Unknown,
    /// Not provisioned.
    UnknownDevice,
    /// Revoked.
    Revoked,
    /// As many entries wait as may.
    MailboxFull {
        /// Entries waiting.
        waiting: u64,
    },
    /// The device's interface is another one by now: take the key from it and try again.
    InterfaceChanged(Fingerprint),
    /// The device does not take messages of that size.
    TooLarge {
        /// Largest frame it takes, in bytes.
        receive_limit: u32,
    },
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its id for life.
    pub id: MessageId,
    /// Store's time at which it expires, ms since 1970; 0 for never.
    pub expires_ms: u64,
    /// The device's session, if it has one; may name a dead incarnation.
    pub session: Option<Session>,
}

/// A waiting entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id for life (survivors of an older generation keep theirs).
    pub id: MessageId,
    /// Path and schema.
    pub key: Key,
    /// The interface the key was taken from.
    pub fingerprint: Fingerprint,
    /// Who sent it.
    pub token: TokenId,
    /// Store's time at which it expires, ms since 1970; 0 for never.
    pub expires_ms: u64,
    /// The command.
    pub payload: Bytes,
}

/// What `read_mailbox` is asked. Raises `offered` to the last entry it returns.
#[derive(Clone, Debug)]
pub struct Read {
    /// Whose mailbox.
    pub device: DeviceKey,
    /// The session that reads; another epoch gets `None`.
    pub epoch: Epoch,
    /// Only entries behind this one (pair order).
    pub after: Cursor,
    /// Most entries (their payloads are further limited to 16 KiB in all, but at least one is returned).
    pub limit: u32,
}

/// What `read_mailbox` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Entries in order.
    pub entries: Vec<Entry>,
    /// Where the mailbox stands.
    pub head: Head,
    /// Whether more wait behind them.
    pub more: bool,
    /// Store's time, ms since 1970.
    pub now_ms: u64,
}

/// What one session got done, for `acknowledge`.
#[derive(Clone, Debug)]
pub struct Acknowledge {
    /// Whose mailbox.
    pub device: DeviceKey,
    /// The session it happened in. Acks of an older session still trim: the device handled it.
    pub epoch: Epoch,
    /// Everything up to here is final (pair order).
    pub upto: Cursor,
    /// The ones among them that were refused, with the device's code.
    pub rejected: Vec<(MessageId, Code)>,
}

/// What `cancel` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It was waiting and no longer is.
    Cancelled,
    /// It is in this state, which cannot be taken back (`sent` ones may be running).
    TooLate(State),
    /// No such device.
    UnknownDevice,
}

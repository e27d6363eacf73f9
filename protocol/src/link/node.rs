//! IM-server ↔ route.

use serde::{Deserialize, Serialize};

use crate::blob::BlobFrame;
use crate::id::{Epoch, MessageId, TokenId};
use crate::key::Key;
use crate::message::Code;

/// IM-server → route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRoute<'a> {
    /// First frame of a link: where the server is and what it takes.
    #[serde(borrow)]
    Register(Register<'a>),
    /// Every 2 s, and at once when draining begins.
    Load(Load),
    /// The device acknowledged this message and the store has it. Sent to the routes that asked for a report.
    Acked {
        /// `tenant/device`.
        device: &'a str,
        /// The session it happened in.
        epoch: Epoch,
        /// The message.
        id: MessageId,
    },
    /// This message came to another end than `Acked` (rejected, expired, cancelled …): ask the store.
    Settled {
        /// `tenant/device`.
        device: &'a str,
        /// The session it happened in.
        epoch: Epoch,
        /// The message.
        id: MessageId,
    },
    /// The device's answer to a call.
    Replied {
        /// The route's number of the call.
        request: u64,
        /// [`Code::OK`] or what went wrong on the device.
        status: Code,
        /// The answer.
        payload: &'a [u8],
    },
    /// The call ended here without the device's answer.
    CallFailed {
        /// The route's number of the call.
        request: u64,
        /// Why.
        why: CallFailure,
    },
    /// The device has no session here, or another epoch than the one named.
    NotHere {
        /// `tenant/device`.
        device: &'a str,
        /// The route's number of the call, 0 for `Deliver`.
        request: u64,
        /// The newest epoch this server knows of the device, 0 for none.
        epoch: Epoch,
    },
    /// Please see to it that `server` closes the session `epoch`, which a newer one replaced.
    Kick {
        /// The asking server's number.
        request: u64,
        /// `tenant/device`.
        device: &'a str,
        /// The session to close.
        epoch: Epoch,
        /// Name of the server that holds it.
        server: &'a str,
        /// Incarnation of that server.
        incarnation: u64,
    },
    /// Answer to [`ToServer::Kick`].
    Kicked {
        /// The route's number of the kick.
        request: u64,
        /// Whether a session was closed; else none with that epoch or an older one was there.
        closed: bool,
    },
    /// Answer to `Ping`.
    Pong,
    /// A transfer goes on: what the device said, or why it is over.
    Blob {
        /// The route's number of the transfer.
        request: u64,
        /// What was said; the number of the transfer in it is not used.
        #[serde(borrow)]
        frame: BlobFrame<'a>,
    },
}

/// What an IM-server says of itself. Its name is no field: the route knows it from the key of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register<'a> {
    /// [`VERSION`](crate::VERSION).
    pub version: u8,
    /// Drawn at random at each start.
    pub incarnation: u64,
    /// Where devices connect, `host:port`.
    pub device_address: &'a str,
    /// Where devices without a key connect, `host:port`; empty for nowhere.
    pub plain_address: &'a str,
    /// Most connections it takes.
    pub capacity: u32,
    /// `key=value,…`, such as `zone=eu`.
    pub labels: &'a str,
}

/// How busy an IM-server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Devices attached or attaching.
    pub connections: u32,
    /// Messages and calls that wait for a device or for the store.
    pub queued: u32,
    /// CPU used by the process in the last 2 s, in thousandths of the machine.
    pub cpu_permille: u16,
    /// Memory used by the process, in thousandths of its limit.
    pub memory_permille: u16,
    /// It takes no new devices and leaves soon.
    pub draining: bool,
}

/// Why a call ended without the device's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallFailure {
    /// Too many calls in flight to this device; it did not start.
    Busy,
    /// The session ended; the call may have run.
    Disconnected,
    /// No answer by the deadline; the call may have run.
    Deadline,
    /// Larger than the device takes; it did not start.
    TooLarge {
        /// Largest payload the device takes, in bytes.
        max: u32,
    },
    /// The device's interface does not list this key as a call; it did not start.
    UnknownPath,
}

/// Route → IM-server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToServer<'a> {
    /// Answer to `Register`, and again when the day changes.
    #[serde(borrow)]
    Registered(Registered<'a>),
    /// `Register` was refused; the link closes.
    Refused {
        /// What was wrong and what to do.
        why: &'a str,
    },
    /// A message was appended to the mailbox of a device that has a session here. Only a hint: the
    /// mailbox is the truth.
    #[serde(borrow)]
    Deliver(Deliver<'a>),
    /// Ask a device.
    #[serde(borrow)]
    CallDevice(CallDevice<'a>),
    /// Nobody waits for this call any longer.
    CancelCall {
        /// The route's number of the call.
        request: u64,
    },
    /// Close this session if it is still there: a newer one exists, or the device was revoked.
    Kick {
        /// The route's number.
        request: u64,
        /// `tenant/device`.
        device: &'a str,
        /// Sessions up to this epoch end.
        epoch: Epoch,
        /// The device was revoked or removed; else a newer session exists.
        revoked: bool,
    },
    /// Answer to [`ToRoute::Kick`].
    KickDone {
        /// The asking server's number.
        request: u64,
        /// What became of it.
        outcome: KickOutcome,
    },
    /// Asks for a sign of life.
    Ping,
    /// Opens a transfer with a device, or goes on with it.
    #[serde(borrow)]
    Blob(Blob<'a>),
}

/// A transfer with a device goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob<'a> {
    /// The route's number of the transfer.
    pub request: u64,
    /// `tenant/device`.
    pub device: &'a str,
    /// The session the store named.
    pub epoch: Epoch,
    /// What is to be said; the number of the transfer in it is not used.
    #[serde(borrow)]
    pub frame: BlobFrame<'a>,
}

/// Answer to `Register`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered<'a> {
    /// Name of the route.
    pub route: &'a str,
    /// Day number (days since 1970) of `ticket_key_today`.
    pub day: u32,
    /// This server's ticket key of that day.
    pub ticket_key_today: [u8; 32],
    /// This server's ticket key of the day before.
    pub ticket_key_yesterday: [u8; 32],
}

/// A hint that a message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver<'a> {
    /// `tenant/device`.
    pub device: &'a str,
    /// The session the store named.
    pub epoch: Epoch,
    /// The message.
    pub id: MessageId,
    /// Path and schema.
    pub key: Key,
    /// Store's time at which it expires, 0 for never.
    pub expires_ms: u64,
    /// The route wants `Acked` or `Settled` for it.
    pub report: bool,
    /// Who sent it: after this token is revoked it is not handed to the device.
    pub token: TokenId,
    /// The command.
    pub payload: &'a [u8],
}

/// A call on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallDevice<'a> {
    /// The route's number.
    pub request: u64,
    /// `tenant/device`.
    pub device: &'a str,
    /// The session the store named.
    pub epoch: Epoch,
    /// Path and schema.
    pub key: Key,
    /// Time left until the deadline, in milliseconds.
    pub remaining_ms: u32,
    /// The question.
    pub payload: &'a [u8],
}

/// What became of a kick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KickOutcome {
    /// The session was closed.
    Kicked,
    /// There was no such session.
    NotHere,
    /// That server or that incarnation of it is gone.
    Gone,
    /// This route has no link to that server; try another one.
    Unreachable,
}

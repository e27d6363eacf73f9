//! What a body says between a device and its IM-server.
//!
//! A body is the postcard encoding of [`FromDevice`] or [`ToDevice`]: the number of the kind as one
//! byte, then its fields in order; integers are varints, byte strings have their length in front.
//! Kinds and fields are only added at the end, and only with a new [`VERSION`](crate::VERSION).
//!
//! Times are milliseconds of the *session clock*: 0 when the server wrote `Welcome`, monotonic,
//! re-anchored by each `Pong`.

use core::fmt;

use serde::{Deserialize, Serialize};

#[cfg(feature = "blob")]
use crate::blob;
use crate::id::{Cursor, Epoch, Fingerprint};
use crate::key::Key;

/// Device → IM-server or route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromDevice<'a> {
    /// First frame of a connection: who the device is and how far it got.
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// Sign of life; `next_ms` from now the next one will have come (1 s … 1 h).
    Ping {
        /// Interval announced, in milliseconds.
        next_ms: u32,
    },
    /// A handler is still at work on the oldest unacknowledged message: do not count it as an attempt.
    Busy,
    /// Every message up to `sequence` of the current generation is handled.
    Ack {
        /// Last handled sequence.
        sequence: u64,
    },
    /// Every message before `sequence` is handled, `sequence` itself is refused for good.
    Nack {
        /// The refused message.
        sequence: u64,
        /// Why.
        code: Code,
    },
    /// The device works in `generation` from here on: frames before this one belong to the older.
    Generation {
        /// The generation taken over.
        generation: u64,
    },
    /// Answer to a `Call`.
    Reply {
        /// Request id of the call.
        request: u32,
        /// [`Code::OK`] or what went wrong.
        status: Code,
        /// The answer, empty on errors unless the handler gave one.
        payload: &'a [u8],
    },
    /// Something that happened; kept by the device until `EventAck`.
    Event {
        /// Position in the device's event queue, growing within its incarnation.
        sequence: u64,
        /// Path and schema.
        key: Key,
        /// What happened.
        payload: &'a [u8],
    },
    /// Part of the interface, asked for by `Describe`.
    Interface {
        /// Where `chunk` begins.
        offset: u32,
        /// Length of the whole interface (at most 64 KiB).
        total: u32,
        /// Up to 256 bytes.
        chunk: &'a [u8],
    },
    /// The device leaves in good order.
    Bye,
    /// Opens a transfer of a blob, or answers one that was opened.
    #[cfg(feature = "blob")]
    #[serde(borrow)]
    BlobOpen(blob::Open<'a>),
    /// Bytes of a blob.
    #[cfg(feature = "blob")]
    #[serde(borrow)]
    BlobChunk(blob::Chunk<'a>),
    /// How far the receiver of a blob is; or that the device takes part in transfers.
    #[cfg(feature = "blob")]
    BlobAck(blob::Ack),
    /// How a transfer ended.
    #[cfg(feature = "blob")]
    BlobDone(blob::Done),
}

/// First frame of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// [`VERSION`](crate::VERSION).
    pub version: u8,
    /// Tenant, `-` when there is only one.
    pub tenant: &'a str,
    /// Device id.
    pub device: &'a str,
    /// Drawn at random at each boot; never 0.
    pub incarnation: u64,
    /// Counts the connections of this incarnation from 1; an attach with a number already seen is refused.
    pub attempt: u32,
    /// Epoch of the last session, 0 when unknown.
    pub epoch: Epoch,
    /// How far the device handled its mailbox, `0-0` when unknown.
    pub cursor: Cursor,
    /// Largest frame (body and check) the device takes, in bytes (256 … 65,536).
    pub receive_limit: u32,
    /// Unacknowledged messages the device can hold (1 … 255).
    pub window: u8,
    /// The interface the firmware speaks.
    pub fingerprint: Fingerprint,
    /// Incarnation of the event queue, drawn when the queue starts empty; 0 without events.
    pub event_queue: u64,
    /// Admission to this IM-server; empty at a route, and where there is none yet.
    pub ticket: &'a [u8],
}

/// IM-server or route → device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToDevice<'a> {
    /// The session is open.
    #[serde(borrow)]
    Welcome(Welcome<'a>),
    /// Go to this IM-server, with this grant.
    Redirect {
        /// `host:port`.
        address: &'a str,
        /// A ticket's key of 32 bytes, zeros on a plain link, and the ticket.
        grant: &'a [u8],
    },
    /// The connection ends here.
    Reject {
        /// Why.
        code: RejectCode,
        /// Not before this many seconds (believed up to 1 h).
        retry_after_s: u32,
    },
    /// Answer to `Ping`.
    Pong {
        /// Session clock.
        now_ms: u64,
    },
    /// Asks for a sign of life.
    Probe,
    /// A stored message.
    Message {
        /// Position in the mailbox; gaps are normal.
        sequence: u64,
        /// Path and schema.
        key: Key,
        /// Session clock at which it expires, 0 for never.
        expiry_ms: u64,
        /// See [`Flags`].
        flags: Flags,
        /// The command.
        payload: &'a [u8],
    },
    /// Messages behind this one belong to `generation`; answered by `Generation` in order.
    Generation {
        /// The new generation.
        generation: u64,
    },
    /// A call: runs at most once, starts before its deadline or not at all.
    Call {
        /// Request id, counting up in a session.
        request: u32,
        /// Path and schema.
        key: Key,
        /// Session clock by which the handler must have started.
        deadline_ms: u64,
        /// The question.
        payload: &'a [u8],
    },
    /// The asker no longer waits for this call.
    Cancel {
        /// Request id of the call.
        request: u32,
    },
    /// Every event up to `sequence` is in an event stream.
    EventAck {
        /// Last stored sequence.
        sequence: u64,
    },
    /// Asks for a chunk of the interface.
    Describe {
        /// Where the chunk begins.
        offset: u32,
    },
    /// A newer grant for this IM-server.
    Grant {
        /// Replaces the older one.
        grant: &'a [u8],
    },
    /// The server asks the device to leave.
    GoAway {
        /// Why.
        reason: GoAwayReason,
        /// Come back no sooner than this many seconds (believed up to 1 h).
        reconnect_after_s: u32,
    },
    /// Opens a transfer of a blob, or answers one that was opened.
    #[cfg(feature = "blob")]
    #[serde(borrow)]
    BlobOpen(blob::Open<'a>),
    /// Bytes of a blob.
    #[cfg(feature = "blob")]
    #[serde(borrow)]
    BlobChunk(blob::Chunk<'a>),
    /// How far the receiver of a blob is.
    #[cfg(feature = "blob")]
    BlobAck(blob::Ack),
    /// How a transfer ended.
    #[cfg(feature = "blob")]
    BlobDone(blob::Done),
}

/// The session is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome<'a> {
    /// Number of this session.
    pub epoch: Epoch,
    /// Generation of the mailbox.
    pub generation: u64,
    /// Interval in which the device sends a sign of life, in seconds; the cut is at 5/3 of it.
    pub heartbeat_s: u16,
    /// Largest frame (body and check) the server takes from the device, in bytes.
    pub frame_limit: u32,
    /// Unacknowledged events the server takes.
    pub event_window: u8,
    /// Last event of the stated queue that is already stored.
    pub event_position: u64,
    /// Server's time, milliseconds since 1970.
    pub time_ms: u64,
    /// Admission for the next attachment to this IM-server: a ticket's key of 32 bytes, zeros on a plain link, and the
    /// ticket; empty if there is none.
    pub grant: &'a [u8],
}

/// Bits of a `Message`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Flags(pub u8);

impl Flags {
    /// Nothing to say.
    pub const NONE: Self = Self(0);
    /// The message may have reached the device before.
    pub const REDELIVERED: Self = Self(1);

    /// Whether the message may have reached the device before.
    pub const fn is_redelivered(self) -> bool {
        self.0 & Self::REDELIVERED.0 != 0
    }
}

/// How a call or message ended on the device. 0–255 are imlink's, from 256 on the application's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Code(pub u16);

impl Code {
    /// Done.
    pub const OK: Self = Self(0);
    /// The firmware does not know the key.
    pub const UNKNOWN_PATH: Self = Self(1);
    /// The payload does not have the schema's form.
    pub const BAD_PAYLOAD: Self = Self(2);
    /// The deadline passed before the handler started.
    pub const DEADLINE: Self = Self(3);
    /// No room for another one at the moment.
    pub const BUSY: Self = Self(4);
    /// The handler failed without a code of its own.
    pub const DEVICE_ERROR: Self = Self(5);
    /// The message's interface is no longer the device's.
    pub const INTERFACE: Self = Self(6);
    /// The message is larger than the device takes.
    pub const TOO_LARGE: Self = Self(7);
    /// The token that sent the message was revoked before the device had it.
    pub const FORBIDDEN: Self = Self(8);
    /// First code that belongs to the application.
    pub const APPLICATION: u16 = 256;

    /// A short name; `application` for the application's own codes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OK => "ok",
            Self::UNKNOWN_PATH => "unknown-path",
            Self::BAD_PAYLOAD => "bad-payload",
            Self::DEADLINE => "deadline",
            Self::BUSY => "busy",
            Self::DEVICE_ERROR => "device-error",
            Self::INTERFACE => "interface",
            Self::TOO_LARGE => "too-large",
            Self::FORBIDDEN => "forbidden",
            Self(code) if code >= Self::APPLICATION => "application",
            _ => "unnamed",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

macro_rules! named_codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A short name for logs and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use named_codes;

named_codes! {
    /// Why a connection is refused or ended at once.
    RejectCode {
        /// The version is not spoken here.
        Version = "version",
        /// A frame that cannot be read, or one over the limit.
        Malformed = "malformed",
        /// A frame that is not allowed at this moment.
        Order = "order",
        /// The device is not provisioned here, or a field of `Hello` is wrong.
        UnknownDevice = "unknown-device",
        /// The device was revoked.
        Revoked = "revoked",
        /// The ticket is wrong or too old: log in at a route.
        Ticket = "ticket",
        /// The attempt number was already used: a newer connection exists.
        Stale = "stale",
        /// Too many connections: come back later.
        Overloaded = "overloaded",
        /// The store does not answer: come back later.
        StoreAway = "store-away",
        /// No IM-server has room.
        NoServer = "no-server",
        /// The cursor cannot be true.
        Cursor = "cursor",
        /// Two devices use one identity and keep replacing one another: one of them must go.
        Contested = "contested",
        /// This port takes sealed links only, or the device has a key and comes without it.
        Unsealed = "unsealed",
    }
}

named_codes! {
    /// Why a server asks a device to leave.
    GoAwayReason {
        /// A newer session of the same device exists.
        Replaced = "replaced",
        /// The server is shutting down.
        Draining = "draining",
        /// No frame for 5/3 of the announced interval, or no answer to a `Probe`.
        Silent = "silent",
        /// The device was revoked or removed.
        Revoked = "revoked",
        /// The server lost its routes or its store for too long.
        Cut = "cut",
        /// A frame could not be read.
        Malformed = "malformed",
        /// A frame was not allowed at this moment.
        Order = "order",
        /// The device does not take what is sent to it.
        Slow = "slow",
        /// The link lasted long enough for its keys: come straight back.
        Renew = "renew",
    }
}

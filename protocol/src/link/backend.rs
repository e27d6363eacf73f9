//! Backend ↔ route: the binary backend link.

use serde::{Deserialize, Serialize};

use crate::id::MessageId;
use crate::key::Key;
use crate::message::Code;

/// Backend → route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromBackend<'a> {
    /// First frame of a link.
    Hello {
        /// [`VERSION`](crate::VERSION).
        version: u8,
        /// Bearer token, the same as for HTTP.
        token: &'a str,
        /// Name for logs, of the form of a device id.
        name: &'a str,
        /// Tenant to act in, for the token of the configuration; empty for the token's own.
        tenant: &'a str,
    },
    /// Store a message for a device.
    #[serde(borrow)]
    Send(Send<'a>),
    /// Ask a device.
    Call {
        /// The backend's number.
        request: u64,
        /// Device id.
        device: &'a str,
        /// Path.
        path: &'a str,
        /// Time to the deadline, in milliseconds (1 … 3,600,000).
        timeout_ms: u32,
        /// The question.
        payload: &'a [u8],
    },
    /// What became of a message.
    State {
        /// The backend's number.
        request: u64,
        /// Device id.
        device: &'a str,
        /// The message.
        id: MessageId,
    },
    /// Take a message back that did not reach the device.
    Cancel {
        /// The backend's number.
        request: u64,
        /// Device id.
        device: &'a str,
        /// The message.
        id: MessageId,
    },
    /// Nobody waits for this call or `Send` with [`Wait::Acked`] any longer. A stored message stays stored.
    Abandon {
        /// The backend's number of it.
        request: u64,
    },
    /// Events from here on.
    Subscribe {
        /// The backend's number; events carry it.
        request: u64,
        /// Consumer group whose position is kept in the store; empty for none.
        group: &'a str,
        /// Resume position as given with an event, empty for "from now on" (or the group's position).
        position: &'a str,
        /// Events that may be sent before the next `Credit`.
        credit: u32,
    },
    /// More events may be sent.
    Credit {
        /// Number of the subscription.
        request: u64,
        /// How many more.
        events: u32,
    },
    /// Everything up to this position is processed by the group.
    Commit {
        /// Number of the subscription.
        request: u64,
        /// As given with an event.
        position: &'a str,
    },
    /// Sign of life.
    Ping,
}

/// A message to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send<'a> {
    /// The backend's number.
    pub request: u64,
    /// Device id.
    pub device: &'a str,
    /// Path.
    pub path: &'a str,
    /// Lifetime in seconds, 0 for the route's default.
    pub ttl_s: u32,
    /// What to wait for.
    pub wait: Wait,
    /// Longest wait for an answer, in milliseconds (1 … 3,600,000).
    pub timeout_ms: u32,
    /// The same text again within 24 h gives the first answer again; empty for none (at most 64 bytes).
    pub idempotency_key: &'a str,
    /// The command.
    pub payload: &'a [u8],
}

/// What a send waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wait {
    /// Until the message is in the store.
    Stored,
    /// Until the device acknowledged it, or it came to another end, or time is over.
    Acked,
}

/// Route → backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToBackend<'a> {
    /// Answer to `Hello`.
    Welcome {
        /// Name of the route.
        route: &'a str,
        /// Most requests in flight on this link; the next is refused as `overloaded`.
        requests_max: u32,
    },
    /// Answer to `Send`, `State` and `Cancel`.
    Message {
        /// The backend's number.
        request: u64,
        /// The message's id for life.
        id: MessageId,
        /// Its state now.
        state: State,
    },
    /// Answer to `Call`.
    Replied {
        /// The backend's number.
        request: u64,
        /// The device's own status ([`Code::OK`], or `device-error` and application codes).
        status: Code,
        /// The answer.
        payload: &'a [u8],
    },
    /// The request was not done.
    Failed {
        /// The backend's number, 0 when it concerns the link.
        request: u64,
        /// Which failure.
        failure: Failure,
        /// Not before this many milliseconds, 0 when repeating it does not help.
        retry_after_ms: u32,
        /// What was wrong, what is allowed, what to do next.
        detail: &'a str,
    },
    /// An event of a subscription.
    #[serde(borrow)]
    Event(Event<'a>),
    /// Answer to `Ping`.
    Pong,
    /// The route is leaving: finish what is in flight and connect to another one.
    GoAway,
}

/// An event as backends get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<'a> {
    /// Number of the subscription.
    pub request: u64,
    /// Resume position behind this event.
    pub position: &'a str,
    /// Device id.
    pub device: &'a str,
    /// Path and schema.
    pub key: Key,
    /// Path, empty while the device's interface is unknown.
    pub path: &'a str,
    /// Incarnation of the device's event queue.
    pub queue: u64,
    /// Position in that queue.
    pub sequence: u64,
    /// Store's time of storing, milliseconds since 1970.
    pub stored_ms: u64,
    /// What happened.
    pub payload: &'a [u8],
}

/// State of a message (DESIGN §1). Never a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// In the mailbox.
    Waiting,
    /// On its way to, or at, the device.
    Sent,
    /// Handled by the device.
    Acked,
    /// Refused for good.
    Rejected {
        /// By whom and why.
        code: Code,
    },
    /// Its time ran out.
    Expired {
        /// Whether the device may have handled it all the same.
        may_have_run: bool,
    },
    /// Taken back by a backend before the device had it.
    Cancelled,
    /// Given up after the attempt limit.
    Failed,
    /// Too long ago, or nobody can know.
    Unknown,
}

macro_rules! failures {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal;)*) => {
        /// Why a request of a backend was not done; the same set for HTTP and link.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Failure { $($(#[$doc])* $variant,)* }

        impl Failure {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name in problem details, logs and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

failures! {
    /// A field or parameter does not have its form.
    BadRequest = "bad-request", 400;
    /// No token, or a wrong one.
    Unauthorized = "unauthorized", 401;
    /// The token does not allow this.
    Forbidden = "forbidden", 403;
    /// The device is not provisioned.
    UnknownDevice = "unknown-device", 404;
    /// The device's interface does not list the path.
    UnknownPath = "unknown-path", 404;
    /// There is no such message, server or page.
    NotFound = "not-found", 404;
    /// It contradicts what is there (same idempotency key, other body; cancel of a message already sent).
    Conflict = "conflict", 409;
    /// The payload is larger than the device or the route takes.
    TooLarge = "too-large", 413;
    /// The body's content type is not taken.
    MediaType = "unsupported-media-type", 415;
    /// The body does not have the schema's form.
    Unprocessable = "unprocessable", 422;
    /// The device was revoked.
    Revoked = "revoked", 403;
    /// The device's mailbox is full.
    MailboxFull = "mailbox-full", 429;
    /// Too many requests in flight.
    Overloaded = "overloaded", 429;
    /// The store does not answer; nothing was stored.
    StoreAway = "store-away", 503;
    /// The store did not answer in time: the message may be stored.
    MayBeStored = "may-be-stored", 503;
    /// The route is leaving.
    Draining = "draining", 503;
    /// The device is not attached.
    Offline = "offline", 404;
    /// No answer by the deadline; the call may have run.
    Deadline = "deadline", 504;
    /// Too many calls in flight to this device; it did not run.
    Busy = "busy", 429;
    /// The session ended before the answer; the call may have run.
    Disconnected = "disconnected", 502;
    /// An error of imlink's own.
    Internal = "internal", 500;
    /// More requests a second than the token may make.
    RateLimited = "rate-limited", 429;
}

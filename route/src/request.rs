//! What backends ask of a route, and what they are answered; the same words for HTTP and link.

use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::id::{MessageId, TokenId};
pub use imlink_protocol::interface::Kind;
pub use imlink_protocol::link::backend::{Failure, State, Wait};
pub use imlink_protocol::link::node::Load;
pub use imlink_protocol::message::Code;
use imlink_store::session::Identity;

/// A message to be stored for a device until it is acknowledged.
#[derive(Clone, Debug)]
pub struct Send {
    /// Tenant, `-` when there is only one.
    pub tenant: String,
    /// Device id.
    pub device: String,
    /// Path, such as `led/set`.
    pub path: String,
    /// Lifetime in seconds, 0 for ever; `None` for [`Limits::ttl_default_s`](crate::Limits::ttl_default_s).
    pub ttl_s: Option<u32>,
    /// What to wait for.
    pub wait: Wait,
    /// Longest wait for the answer; `None` for [`Limits::timeout_default_s`](crate::Limits::timeout_default_s).
    pub timeout: Option<Duration>,
    /// The same text again within 24 h gives the first message again; 1–64 bytes.
    pub idempotency_key: Option<String>,
    /// Who sends it: once that token is revoked, what was not delivered yet is rejected.
    pub token: TokenId,
    /// The command.
    pub payload: Bytes,
}

/// A message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id for life.
    pub id: MessageId,
    /// `waiting` when nothing else was waited for; with [`Wait::Acked`] the state it came to, or the one it
    /// is in at the deadline (`waiting`, `sent`, or `unknown` when the store does not answer).
    pub state: State,
}

/// A question to a device, never stored.
#[derive(Clone, Debug)]
pub struct Call {
    /// Tenant, `-` when there is only one.
    pub tenant: String,
    /// Device id.
    pub device: String,
    /// Path.
    pub path: String,
    /// Time to the deadline; `None` for [`Limits::timeout_default_s`](crate::Limits::timeout_default_s).
    pub timeout: Option<Duration>,
    /// The question.
    pub payload: Bytes,
}

/// A device's answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replied {
    /// [`Code::OK`], or how the handler failed (`bad-payload`, `device-error`, codes of the application).
    pub status: Code,
    /// The answer.
    pub payload: Bytes,
}

/// A request that was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", failure.name())]
pub struct Failed {
    /// Which failure; gives the HTTP status.
    pub failure: Failure,
    /// Not before this; `None` when repeating it does not help.
    pub retry_after: Option<Duration>,
    /// What was wrong, what is allowed, what to do next.
    pub detail: String,
}

impl Failed {
    /// A failure that repeating does not mend.
    pub fn new(failure: Failure, detail: impl Into<String>) -> Self {
        Self { failure, retry_after: None, detail: detail.into() }
    }

    /// A failure that may be gone after `after`.
    pub fn later(failure: Failure, after: Duration, detail: impl Into<String>) -> Self {
        Self { failure, retry_after: Some(after), detail: detail.into() }
    }
}

/// What is known of a device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Device id.
    pub id: String,
    /// What the store has.
    pub identity: Identity,
    /// Whether it is attached to an IM-server that lives.
    pub is_online: bool,
    /// What its firmware speaks, in the order of its interface; `None` while it states none or it is not
    /// known yet.
    pub paths: Option<Vec<(Kind, String)>>,
}

/// Which events a backend wants.
#[derive(Clone, Debug, Default)]
pub struct Subscription {
    /// Tenant, `-` when there is only one.
    pub tenant: String,
    /// Consumer group whose position is kept in the store, of the form of a device id; `None` for none.
    pub group: Option<String>,
    /// Where to resume: a [`position`](Event::position) as given with an event. `None` for the group's
    /// position, or "from now on" without one.
    pub position: Option<String>,
    /// Only events of devices whose id has this form; `*` stands for any run of characters. `None` for all.
    pub devices: Option<String>,
    /// And only of devices of one of these forms: what the asker may see. `None` for all.
    pub within: Option<Vec<Box<str>>>,
}

/// An event as backends get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Resume position behind this event: at most 1 KiB of `[A-Za-z0-9_-]`.
    pub position: String,
    /// Device id.
    pub device: String,
    /// Path and schema.
    pub key: imlink_protocol::Key,
    /// Path, empty while the device's interface is unknown.
    pub path: String,
    /// Incarnation of the device's event queue; (device, queue, sequence) names an event for ever.
    pub queue: u64,
    /// Position in that queue.
    pub sequence: u64,
    /// Store's time of storing, ms since 1970.
    pub stored_ms: u64,
    /// What happened.
    pub payload: Bytes,
}

/// An IM-server that is linked to this route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name, unique in the cluster.
    pub name: String,
    /// Drawn at random at each start.
    pub incarnation: u64,
    /// Where devices connect, `host:port`.
    pub address: String,
    /// Most connections it takes.
    pub capacity: u32,
    /// `key=value,…`.
    pub labels: String,
    /// Its last report.
    pub load: Load,
    /// Age of that report; `None` before the first one.
    pub age: Option<Duration>,
}

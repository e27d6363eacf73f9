//! What the API answers, as JSON.

use imlink_protocol::id::MessageId;
use imlink_protocol::key_pair::PublicKey;
use imlink_store::session::{Forged, Proof};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::request::{Device, Event, Kind, Server, State};

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    /// Device id.
    pub id: String,
    /// Whether it is attached to an IM-server that lives.
    pub online: bool,
    /// How it proves itself: `plain` (not at all), `public-key`, or `forged`: what the store says of it was written by
    /// no route of this cluster, and nobody logs in as it before it is provisioned again.
    pub proof: String,
    /// Its public key, 64 hexadecimal digits; null when it is plain.
    #[serde(default)]
    pub public_key: Option<String>,
    /// Its public key of the next generation, until it first logs in with it.
    #[serde(default)]
    pub next_public_key: Option<String>,
    /// Refused everywhere.
    pub revoked: bool,
    /// Where it is or was last attached.
    pub session: Option<SessionView>,
    /// Fingerprint of its firmware's interface, in hexadecimal; null when it states none.
    pub interface: Option<String>,
    /// What its firmware speaks; null while it is not known.
    pub paths: Option<Vec<PathView>>,
    /// Largest frame it takes, in bytes; 0 before its first session.
    pub receive_limit: u32,
    /// Where its mailbox stands.
    pub mailbox: MailboxView,
    /// When it was provisioned, ms since 1970.
    pub created_ms: u64,
    /// When it last attached or detached, ms since 1970; 0 for never.
    pub seen_ms: u64,
}

/// What a device is flashed with beside its own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeysView {
    /// Public key that devices log in to first, 64 hexadecimal digits.
    pub current: String,
    /// The one that follows it; devices pin both.
    pub next: String,
    /// Whether the fleet shares a secret with its routes, which devices need too. It is not told here.
    pub fleet_psk: bool,
    /// Where devices log in, `host:port`.
    pub addresses: Vec<String>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Name of the IM-server.
    pub server: String,
    /// Number of the session; only grows.
    pub epoch: u64,
}

/// A path that a firmware speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathView {
    /// `message`, `call`, `event` or `request`.
    pub kind: String,
    /// Path.
    pub path: String,
}

/// A mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MailboxView {
    /// Current generation, 0 before the first message.
    pub generation: u64,
    /// Last sequence assigned.
    pub last: u64,
    /// Messages not yet final.
    pub waiting: u64,
}

impl From<Device> for DeviceView {
    fn from(device: Device) -> Self {
        let identity = device.identity;
        let (current, next) = match identity.proof {
            Ok(Proof::Plain) | Err(Forged) => (None, None),
            Ok(Proof::Keys { current, next }) => (Some(current), next),
        };
        let key = |key: Option<[u8; 32]>| key.map(|key| PublicKey(key).to_string());
        Self {
            id: device.id,
            online: device.is_online,
            proof: proof_name(&identity.proof).into(),
            public_key: key(current),
            next_public_key: key(next),
            revoked: identity.revoked,
            session: identity.session.map(|session| SessionView { server: session.server, epoch: session.epoch }),
            interface: identity.fingerprint.is_some().then(|| identity.fingerprint.to_string()),
            paths: device.paths.map(|paths| {
                let view = |(kind, path)| PathView { kind: kind_name(kind).into(), path };
                paths.into_iter().map(view).collect()
            }),
            receive_limit: identity.receive_limit,
            mailbox: MailboxView {
                generation: identity.mailbox.generation,
                last: identity.mailbox.last,
                waiting: identity.mailbox.waiting,
            },
            created_ms: identity.created_ms,
            seen_ms: identity.seen_ms,
        }
    }
}

/// Devices in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceList {
    /// Device ids.
    pub devices: Vec<String>,
    /// What to give as `after` for the next page; null on the last one.
    pub next: Option<String>,
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageView {
    /// `generation-sequence`, the message's id for life.
    pub id: String,
    /// `waiting`, `sent`, `acked`, `rejected`, `expired`, `cancelled`, `failed` or `unknown`.
    pub state: String,
    /// Why it was `rejected`: 0–255 are imlink's codes, from 256 on the application's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Name of that code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_name: Option<String>,
    /// Whether an `expired` message may have been handled all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_have_run: Option<bool>,
}

impl MessageView {
    /// The message `id` in `state`.
    pub(super) fn new(id: MessageId, state: State) -> Self {
        let (code, may_have_run) = match state {
            State::Rejected { code } => (Some(code), None),
            State::Expired { may_have_run } => (None, Some(may_have_run)),
            _ => (None, None),
        };
        Self {
            id: id.to_string(),
            state: state_name(state).into(),
            code: code.map(|code| code.0),
            code_name: code.map(|code| code.name().into()),
            may_have_run,
        }
    }
}

/// An event of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Device id.
    pub device: String,
    /// Path, empty while the device's interface is unknown.
    pub path: String,
    /// Key of path and schema, in hexadecimal.
    pub key: String,
    /// Incarnation of the device's event queue, as text: it may need 64 bits.
    pub queue: String,
    /// Position in that queue. (device, queue, sequence) names an event for ever.
    pub sequence: u64,
    /// When it was stored, ms since 1970.
    pub stored_ms: u64,
    /// What happened.
    pub payload_base64: String,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        Self {
            device: event.device.clone(),
            path: event.path.clone(),
            key: event.key.to_string(),
            queue: event.queue.to_string(),
            sequence: event.sequence,
            stored_ms: event.stored_ms,
            payload_base64: super::payload::base64(&event.payload),
        }
    }
}

/// The IM-servers linked to this route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerList {
    /// Name of the route that answers.
    pub route: String,
    /// Its IM-servers.
    pub servers: Vec<ServerView>,
}

/// An IM-server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerView {
    /// Name, unique in the cluster.
    pub name: String,
    /// Drawn at random at each start, as text: it may need 64 bits.
    pub incarnation: String,
    /// Where devices connect, `host:port`.
    pub address: String,
    /// Most connections it takes.
    pub capacity: u32,
    /// `key=value,…`.
    pub labels: String,
    /// Devices attached or attaching.
    pub connections: u32,
    /// Messages and calls that wait for a device or for the store.
    pub queued: u32,
    /// CPU used by its process in the last 2 s, in thousandths of the machine.
    pub cpu_permille: u16,
    /// Memory used by its process, in thousandths of its limit.
    pub memory_permille: u16,
    /// It takes no new devices and leaves soon.
    pub draining: bool,
    /// Age of this report in milliseconds; null before the first one.
    pub report_age_ms: Option<u64>,
}

impl From<Server> for ServerView {
    fn from(server: Server) -> Self {
        Self {
            name: server.name,
            incarnation: server.incarnation.to_string(),
            address: server.address,
            capacity: server.capacity,
            labels: server.labels,
            connections: server.load.connections,
            queued: server.load.queued,
            cpu_permille: server.load.cpu_permille,
            memory_permille: server.load.memory_permille,
            draining: server.load.draining,
            report_age_ms: server.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// The word of DESIGN for a state.
pub(super) const fn state_name(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Sent => "sent",
        State::Acked => "acked",
        State::Rejected { .. } => "rejected",
        State::Expired { .. } => "expired",
        State::Cancelled => "cancelled",
        State::Failed => "failed",
        State::Unknown => "unknown",
    }
}

/// Whether nothing changes this state any more.
pub(super) const fn is_final(state: State) -> bool {
    !matches!(state, State::Waiting | State::Sent | State::Unknown)
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Message => "message",
        Kind::Call => "call",
        Kind::Event => "event",
        Kind::Request => "request",
    }
}

const fn proof_name(proof: &Result<Proof, Forged>) -> &'static str {
    match proof {
        Ok(Proof::Plain) => "plain",
        Ok(Proof::Keys { .. }) => "public-key",
        Err(Forged) => "forged",
    }
}

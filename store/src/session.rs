//! Identities and sessions: who a device is and which IM-server holds it.

use imlink_protocol::id::{Cursor, Epoch, Fingerprint, KeyMark};

use subtle::ConstantTimeEq;

use crate::DeviceKey;
use crate::mailbox::Entry;

/// How a device proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// None: only plain links on trusted networks.
    Plain,
    /// By the private key of one of at most two generations. Only public keys are kept, so a leaked store
    /// impersonates nobody.
    Keys {
        /// X25519 public key of generation n.
        current: [u8; 32],
        /// That of generation n + 1, as good as the current one until [`Store::promote_key`](crate::Store::promote_key)
        /// puts it in its place.
        next: Option<[u8; 32]>,
    },
}

impl Proof {
    /// The proof by one key.
    pub const fn key(current: [u8; 32]) -> Self {
        Self::Keys { current, next: None }
    }

    /// Whether `mark` is that of one of the device's keys, or of a device without one.
    pub fn is_marked(&self, mark: KeyMark) -> bool {
        match self {
            Self::Plain => mark == KeyMark::PLAIN,
            Self::Keys { current, next } => {
                mark == KeyMark::of(current) || next.as_ref().is_some_and(|next| mark == KeyMark::of(next))
            }
        }
    }

    /// Whether `key` is one of the device's, in time that does not depend on how much of it fits.
    pub fn fits(&self, key: &[u8; 32]) -> bool {
        match self {
            Self::Plain => false,
            Self::Keys { current, next } => {
                let is_next = next.is_some_and(|next| next.ct_eq(key).into());
                bool::from(current.ct_eq(key)) || is_next
            }
        }
    }
}

/// What `provision` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provisioned {
    /// The device is new.
    Created,
    /// It was there: its proof is replaced; mailbox and revocation stay.
    Updated {
        /// The session that ends by it, to be kicked: whoever holds it proved another current key. Tickets of that
        /// key end too.
        ended: Option<Session>,
    },
}

/// What `set_next_key` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextKey {
    /// The key is the device's next one, in the place of any earlier next one.
    Set,
    /// It is the device's current key already, and nothing was changed.
    Current,
    /// The device has no key that another one could follow.
    Plain,
    /// Not provisioned.
    UnknownDevice,
}

/// What `promote_key` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// The next key is the current one from now on; the one before is refused.
    Promoted,
    /// It was the current key before.
    Current,
    /// It is no key of the device: nothing was changed.
    OtherKey,
    /// The device is revoked: nothing was changed.
    Revoked,
    /// Not provisioned.
    UnknownDevice,
}

/// No route wrote how this device proves itself, or not under a secret that is known here (see
/// [`Config::record_keys`](crate::Config::record_keys)). Nobody logs in as it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

/// What a log says of it.
pub const FORGED: &str = "the store's record of this device has a key that no route of this cluster gave it: somebody \
    wrote the store, or cluster_secret was replaced; it logs in again once it is provisioned or imported again";

/// A provisioned device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// How it proves itself.
    pub proof: Result<Proof, Forged>,
    /// Refused everywhere.
    pub revoked: bool,
    /// The interface of its last session.
    pub fingerprint: Fingerprint,
    /// Largest frame it takes, of its last session, in bytes; 0 before the first.
    pub receive_limit: u32,
    /// Its session, `None` when detached. A session that names a dead server incarnation counts as offline.
    pub session: Option<Session>,
    /// Highest epoch ever given.
    pub epoch: Epoch,
    /// When it was provisioned, store's time in ms since 1970.
    pub created_ms: u64,
    /// When it last attached or detached, store's time in ms since 1970; 0 for never.
    pub seen_ms: u64,
    /// Generation, last assigned sequence and number of waiting entries of its mailbox.
    pub mailbox: Head,
}

/// Where a device is attached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// Name of the IM-server.
    pub server: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// Number of the session.
    pub epoch: Epoch,
}

/// Where a mailbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Current generation, 0 before the first message.
    pub generation: u64,
    /// Last sequence assigned.
    pub last: u64,
    /// Entries not yet final.
    pub waiting: u64,
}

/// What `attach` is asked.
#[derive(Clone, Debug)]
pub struct Attach {
    /// Who.
    pub device: DeviceKey,
    /// Name of the asking IM-server.
    pub server: String,
    /// Its incarnation.
    pub server_incarnation: u64,
    /// The device's boot.
    pub incarnation: u64,
    /// Connection number of that boot.
    pub attempt: u32,
    /// The key that it proved, at this connection or at the login that its ticket comes from.
    pub key: KeyMark,
    /// The larger of the device's last epoch and the ticket's floor.
    pub epoch_floor: Epoch,
    /// How far the device handled its mailbox.
    pub cursor: Cursor,
    /// The interface it speaks.
    pub fingerprint: Fingerprint,
    /// Largest frame it takes, in bytes.
    pub receive_limit: u32,
    /// Its event queue, 0 for none.
    pub event_queue: u64,
    /// Most entries wanted at once.
    pub window: u32,
}

/// What `attach` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The session is the device's.
    Session(Box<NewSession>),
    /// Not provisioned.
    UnknownDevice,
    /// Revoked.
    Revoked,
    /// What it proved is no key of the device, or no longer.
    OtherKey,
    /// This attempt or a later one of the same incarnation was already attached.
    Stale,
    /// The cursor lies more than a day ahead of the store's time.
    Cursor,
}

/// A session just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// Its number.
    pub epoch: Epoch,
    /// Generation of the mailbox (after opening a new one, if the lineage changed or the cursor demanded it).
    pub generation: u64,
    /// The session it replaced, to be kicked.
    pub replaced: Option<Session>,
    /// Messages up to this one may have reached the device before: they go out as `redelivered`.
    pub offered: Cursor,
    /// Last sequence assigned.
    pub last: u64,
    /// The first waiting entries in order, at most the window and 16 KiB of payload. Never past a hole.
    pub entries: Vec<Entry>,
    /// Whether more wait behind them.
    pub more: bool,
    /// Last stored event of the stated queue.
    pub event_position: u64,
    /// Store's time, ms since 1970.
    pub now_ms: u64,
}

/// A session to be put back after the store lost it.
#[derive(Clone, Debug)]
pub struct Reassert {
    /// Who.
    pub device: DeviceKey,
    /// Name of the IM-server.
    pub server: String,
    /// Its incarnation.
    pub server_incarnation: u64,
    /// The session held.
    pub epoch: Epoch,
    /// The device's boot and connection number.
    pub incarnation: u64,
    /// Connection number of that boot.
    pub attempt: u32,
    /// The key that it proved.
    pub key: KeyMark,
    /// The interface it speaks.
    pub fingerprint: Fingerprint,
    /// Largest frame it takes, in bytes.
    pub receive_limit: u32,
    /// Highest message ever sent on this session.
    pub sent: Cursor,
}

/// What became of a re-assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reasserted {
    /// The session stands.
    Held {
        /// Where the mailbox stands, behind a new generation if the store was behind `sent`.
        head: Head,
        /// The older session it replaced, to be kicked.
        replaced: Option<Session>,
    },
    /// Another session stands, or the device is gone, revoked or has other keys: close this one.
    Lost,
}

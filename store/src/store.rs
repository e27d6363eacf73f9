//! [`Store`]: one face for every engine, chosen at start.

use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::id::{Epoch, Fingerprint, MessageId, TokenId};
use tokio::sync::watch;

use crate::audit::AuditRecord;
use crate::event::{Event, EventBatch, EventsStored, Position, SHARDS};
use crate::idempotency::Idempotent;
use crate::mailbox::{Acknowledge, Append, Appended, Cancelled, Page, Read, State};
use crate::memory::MemoryStore;
use crate::redis::RedisStore;
use crate::session::{
    Attach, Attached, Head, Identity, NextKey, Promoted, Proof, Provisioned, Reassert, Reasserted, Session,
};
use crate::token::{Revocations, RevocationsVersion, Token, TokenAdded};
use crate::{Config, DeviceKey, Error};

/// Events by shard, as [`Store::wait_events`] gives them.
pub type EventsByShard = Vec<(usize, Vec<(Position, Event)>)>;

/// A handle on the store; clones share it. The engine is chosen once, so calls are dispatched by a `match` and
/// their futures are not boxed.
#[derive(Clone, Debug)]
pub enum Store {
    /// In this process' memory; lost with it. Every call but `wait_events` is ready at its first poll.
    Memory(MemoryStore),
    /// In Redis ≥ 7.0 or Valkey, shared by every process that opens it.
    Redis(RedisStore),
}

impl Store {
    /// A new, empty store in memory.
    pub fn memory(config: Config) -> Self {
        Self::Memory(MemoryStore::new(&config))
    }

    /// Opens the store in Redis at `url` (`redis://[user:password@]host:port[/db]`, or `rediss://…` for TLS; see
    /// [`Config::tls_ca`]).
    ///
    /// Refuses a server older than 7.0, and one whose `maxmemory-policy` is not `noeviction`.
    pub async fn redis(url: &str, config: Config) -> Result<Self, Error> {
        RedisStore::open(url, config).await.map(Self::Redis)
    }

    /// Provisions a device: its proof is set; mailbox and revocation stay. Another current key than before ends the
    /// session and the tickets of that one.
    pub async fn provision(&self, device: &DeviceKey, proof: Proof) -> Result<Provisioned, Error> {
        match self {
            Self::Memory(store) => Ok(store.provision(device, proof)),
            Self::Redis(store) => store.provision(device, proof).await,
        }
    }

    /// Who the device is and how it stands; `None` when it is not provisioned.
    pub async fn identity(&self, device: &DeviceKey) -> Result<Option<Identity>, Error> {
        match self {
            Self::Memory(store) => Ok(store.identity(device)),
            Self::Redis(store) => store.identity(device).await,
        }
    }

    /// Refuses the device everywhere from now on. Returns the session that ends by it, to be kicked; the outer
    /// `None` is an unknown device.
    pub async fn revoke(&self, device: &DeviceKey) -> Result<Option<Option<Session>>, Error> {
        match self {
            Self::Memory(store) => Ok(store.revoke(device)),
            Self::Redis(store) => store.revoke(device).await,
        }
    }

    /// Lifts a revocation; answers whether there was one. `None` is an unknown device.
    pub async fn restore(&self, device: &DeviceKey) -> Result<Option<bool>, Error> {
        match self {
            Self::Memory(store) => Ok(store.restore(device)),
            Self::Redis(store) => store.restore(device).await,
        }
    }

    /// Makes `key` (an X25519 public key) the device's next one, beside the current one.
    pub async fn set_next_key(&self, device: &DeviceKey, key: &[u8; 32]) -> Result<NextKey, Error> {
        match self {
            Self::Memory(store) => Ok(store.set_next_key(device, key)),
            Self::Redis(store) => store.set_next_key(device, key).await,
        }
    }

    /// The device proved `key`: if that is its next one, it becomes the current one, and the one before is
    /// refused from now on. Repeating it is harmless.
    pub async fn promote_key(&self, device: &DeviceKey, key: &[u8; 32]) -> Result<Promoted, Error> {
        match self {
            Self::Memory(store) => Ok(store.promote_key(device, key)),
            Self::Redis(store) => store.promote_key(device, key).await,
        }
    }

    /// Removes the device with its mailbox. Returns the session that ends by it, to be kicked; the outer `None`
    /// is an unknown device.
    pub async fn remove(&self, device: &DeviceKey) -> Result<Option<Option<Session>>, Error> {
        match self {
            Self::Memory(store) => Ok(store.remove(device)),
            Self::Redis(store) => store.remove(device).await,
        }
    }

    /// The tenant's devices behind `after` (empty for the first page), sorted by id.
    pub async fn devices(&self, tenant: &str, after: &str, limit: usize) -> Result<Vec<DeviceKey>, Error> {
        match self {
            Self::Memory(store) => Ok(store.devices(tenant, after, limit)),
            Self::Redis(store) => store.devices(tenant, after, limit).await,
        }
    }

    /// Makes a session the device's (DESIGN §6.3).
    pub async fn attach(&self, attach: &Attach) -> Result<Attached, Error> {
        match self {
            Self::Memory(store) => Ok(store.attach(attach)),
            Self::Redis(store) => store.attach(attach).await,
        }
    }

    /// Ends a session if it still is the device's; answers whether it was.
    pub async fn detach(&self, device: &DeviceKey, server_incarnation: u64, epoch: Epoch) -> Result<bool, Error> {
        match self {
            Self::Memory(store) => Ok(store.detach(device, server_incarnation, epoch)),
            Self::Redis(store) => store.detach(device, server_incarnation, epoch).await,
        }
    }

    /// Puts sessions back that the store may have lost, and opens a generation where it is behind what was sent.
    /// Answers in the order asked.
    pub async fn reassert(&self, sessions: &[Reassert]) -> Result<Vec<Reasserted>, Error> {
        match self {
            Self::Memory(store) => Ok(store.reassert(sessions)),
            Self::Redis(store) => store.reassert(sessions).await,
        }
    }

    /// Where mailboxes stand, in the order asked; all zero for unknown devices.
    pub async fn heads(&self, devices: &[DeviceKey]) -> Result<Vec<Head>, Error> {
        match self {
            Self::Memory(store) => Ok(store.heads(devices)),
            Self::Redis(store) => store.heads(devices).await,
        }
    }

    /// Stores a message (DESIGN §6.2).
    pub async fn append(&self, append: &Append) -> Result<Appended, Error> {
        match self {
            Self::Memory(store) => Ok(store.append(append)),
            Self::Redis(store) => store.append(append).await,
        }
    }

    /// The next waiting entries for a session; `None` when it is not the device's session any more. They count as
    /// offered.
    pub async fn read_mailbox(&self, read: &Read) -> Result<Option<Page>, Error> {
        match self {
            Self::Memory(store) => Ok(store.read_mailbox(read)),
            Self::Redis(store) => store.read_mailbox(read).await,
        }
    }

    /// Records what devices acknowledged and refused. Repeating it is harmless; unknown devices are passed over.
    pub async fn acknowledge(&self, acks: &[Acknowledge]) -> Result<(), Error> {
        match self {
            Self::Memory(store) => {
                store.acknowledge(acks);
                Ok(())
            }
            Self::Redis(store) => store.acknowledge(acks).await,
        }
    }

    /// What became of a message; `None` when there is no such device.
    pub async fn message_state(&self, device: &DeviceKey, id: MessageId) -> Result<Option<State>, Error> {
        match self {
            Self::Memory(store) => Ok(store.message_state(device, id)),
            Self::Redis(store) => store.message_state(device, id).await,
        }
    }

    /// Takes back a message that no session was offered yet.
    pub async fn cancel(&self, device: &DeviceKey, id: MessageId) -> Result<Cancelled, Error> {
        match self {
            Self::Memory(store) => Ok(store.cancel(device, id)),
            Self::Redis(store) => store.cancel(device, id).await,
        }
    }

    /// Looks an idempotency key up and, if it is new, remembers it as pending for [`Config::idempotency_age`].
    pub async fn idempotent(&self, tenant: &str, key: &str, body_hash: [u8; 32]) -> Result<Idempotent, Error> {
        match self {
            Self::Memory(store) => store.idempotent(tenant, key, body_hash),
            Self::Redis(store) => store.idempotent(tenant, key, body_hash).await,
        }
    }

    /// Keeps the answer of a pending idempotency key.
    pub async fn idempotent_done(&self, tenant: &str, key: &str, answer: &[u8]) -> Result<(), Error> {
        match self {
            Self::Memory(store) => {
                store.idempotent_done(tenant, key, answer);
                Ok(())
            }
            Self::Redis(store) => store.idempotent_done(tenant, key, answer).await,
        }
    }

    /// Makes a token count. Its times are given by the caller, from [`now_ms`](Self::now_ms).
    pub async fn add_token(&self, token: &Token) -> Result<TokenAdded, Error> {
        match self {
            Self::Memory(store) => Ok(store.add_token(token)),
            Self::Redis(store) => store.add_token(token).await,
        }
    }

    /// The token of this id, also one that is revoked or expired.
    pub async fn token(&self, id: TokenId) -> Result<Option<Token>, Error> {
        match self {
            Self::Memory(store) => Ok(store.token(id)),
            Self::Redis(store) => store.token(id).await,
        }
    }

    /// The tenant's tokens, the oldest first.
    pub async fn tokens(&self, tenant: &str) -> Result<Vec<Token>, Error> {
        let mut tokens = match self {
            Self::Memory(store) => store.tokens(tenant),
            Self::Redis(store) => store.tokens(tenant).await?,
        };
        tokens.sort_by_key(|token| (token.created_ms, token.id));
        Ok(tokens)
    }

    /// Makes a token of the tenant count no more, from now on and for ever; repeating it is harmless. `None` when
    /// the tenant has no such token.
    pub async fn revoke_token(&self, tenant: &str, id: TokenId) -> Result<Option<Token>, Error> {
        match self {
            Self::Memory(store) => Ok(store.revoke_token(tenant, id)),
            Self::Redis(store) => store.revoke_token(tenant, id).await,
        }
    }

    /// Every revoked token, unless they still are those of `known`.
    pub async fn revocations(&self, known: Option<RevocationsVersion>) -> Result<Option<Revocations>, Error> {
        match self {
            Self::Memory(store) => Ok(store.revocations(known)),
            Self::Redis(store) => store.revocations(known).await,
        }
    }

    /// Adds an audit record, with the store's time.
    pub async fn add_audit(&self, tenant: &str, record: &AuditRecord) -> Result<(), Error> {
        match self {
            Self::Memory(store) => {
                store.add_audit(tenant, record);
                Ok(())
            }
            Self::Redis(store) => store.add_audit(tenant, record).await,
        }
    }

    /// The tenant's audit records behind `after`, the oldest first; `None` for the newest `limit`.
    pub async fn audit(
        &self,
        tenant: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<(Position, AuditRecord)>, Error> {
        match self {
            Self::Memory(store) => Ok(store.audit(tenant, after, limit)),
            Self::Redis(store) => store.audit(tenant, after, limit).await,
        }
    }

    /// Stores events, each once; answers in the order of the batches.
    pub async fn append_events(&self, batches: &[EventBatch]) -> Result<Vec<EventsStored>, Error> {
        match self {
            Self::Memory(store) => Ok(store.append_events(batches)),
            Self::Redis(store) => store.append_events(batches).await,
        }
    }

    /// Events of a shard behind a position.
    pub async fn read_events(
        &self,
        tenant: &str,
        shard: usize,
        after: Position,
        limit: usize,
    ) -> Result<Vec<(Position, Event)>, Error> {
        match self {
            Self::Memory(store) => Ok(store.read_events(tenant, shard, after, limit)),
            Self::Redis(store) => store.read_events(tenant, shard, after, limit).await,
        }
    }

    /// Waits until any shard of `tenant` has events behind its position in `after`, at most for `wait`; empty when none came.
    pub async fn wait_events(
        &self,
        tenant: &str,
        after: &[Position; SHARDS],
        limit_per_shard: usize,
        wait: Duration,
    ) -> Result<EventsByShard, Error> {
        match self {
            Self::Memory(store) => Ok(store.wait_events(tenant, after, limit_per_shard, wait).await),
            Self::Redis(store) => store.wait_events(tenant, after, limit_per_shard, wait).await,
        }
    }

    /// The last position of every shard.
    pub async fn event_tails(&self, tenant: &str) -> Result<[Position; SHARDS], Error> {
        match self {
            Self::Memory(store) => Ok(store.event_tails(tenant)),
            Self::Redis(store) => store.event_tails(tenant).await,
        }
    }

    /// A consumer group is done with everything up to `upto`. What every group is done with is dropped; a group
    /// holds all shards from its first commit on.
    pub async fn commit_events(&self, tenant: &str, group: &str, shard: usize, upto: Position) -> Result<(), Error> {
        match self {
            Self::Memory(store) => {
                store.commit_events(tenant, group, shard, upto);
                Ok(())
            }
            Self::Redis(store) => store.commit_events(tenant, group, shard, upto).await,
        }
    }

    /// How far a consumer group got; `0-0` where it committed nothing.
    pub async fn committed_events(&self, tenant: &str, group: &str) -> Result<[Position; SHARDS], Error> {
        match self {
            Self::Memory(store) => Ok(store.committed_events(tenant, group)),
            Self::Redis(store) => store.committed_events(tenant, group).await,
        }
    }

    /// Keeps what a firmware build speaks (at most 64 KiB, verified by the caller).
    pub async fn put_interface(&self, tenant: &str, fingerprint: Fingerprint, interface: &[u8]) -> Result<(), Error> {
        match self {
            Self::Memory(store) => store.put_interface(tenant, fingerprint, interface),
            Self::Redis(store) => store.put_interface(tenant, fingerprint, interface).await,
        }
    }

    /// What a firmware build speaks.
    pub async fn interface(&self, tenant: &str, fingerprint: Fingerprint) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Memory(store) => Ok(store.interface(tenant, fingerprint)),
            Self::Redis(store) => store.interface(tenant, fingerprint).await,
        }
    }

    /// The store's time, ms since 1970.
    pub async fn now_ms(&self) -> Result<u64, Error> {
        match self {
            Self::Memory(store) => Ok(store.now_ms()),
            Self::Redis(store) => store.now_ms().await,
        }
    }

    /// Asks for a sign of life.
    pub async fn ping(&self) -> Result<(), Error> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.ping().await,
        }
    }

    /// Name of the engine, for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Redis(_) => "redis",
        }
    }

    /// Counts recoveries: it changes each time the store came back after an outage or with another lineage, and
    /// IM-servers then re-assert their sessions.
    pub fn outages(&self) -> watch::Receiver<u64> {
        match self {
            Self::Memory(store) => store.outages(),
            Self::Redis(store) => store.outages(),
        }
    }
}

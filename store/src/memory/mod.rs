//! The store of a process' own memory: lost with it.
//!
//! Devices lie in 64 shards by the hash of their name, each behind a lock that is held for one operation and
//! never over an `await`: every call but `wait_events` is ready at its first poll. A second table, sorted by
//! name, serves listing. All of it is one lineage.

mod events;
mod keyed;
mod nodes;
mod shard;
mod tokens;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use imlink_protocol::id::{Epoch, Fingerprint, MessageId, TokenId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use self::events::Events;
use self::keyed::{Interfaces, Keys, Leases};
use self::nodes::Nodes;
use self::shard::Shards;
use self::tokens::{Audit, Tokens};
use crate::audit::AuditRecord;
use crate::event::{Event, EventBatch, EventsStored, Position, SHARDS};
use crate::idempotency::Idempotent;
use crate::lease;
use crate::mailbox::{Acknowledge, Append, Appended, Cancelled, Page, Read, State};
use crate::node::{Enrolled, JOIN_ID_LEN, JoinToken, NODE_KEY_LEN, Node, NodeRole};
use crate::record::{Moment, Record};
use crate::session::{
    Attach, Attached, Head, Identity, NextKey, Promoted, Proof, Provisioned, Reassert, Reasserted, Session,
};
use crate::token::{Revocations, RevocationsVersion, Token, TokenAdded};
use crate::tries::{Earlier, Tries};
use crate::{Config, DeviceKey, Error};

/// A handle; clones share the contents.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    contents: Arc<Contents>,
}

#[derive(Debug)]
struct Contents {
    devices: Shards,
    names: RwLock<BTreeSet<DeviceKey>>,
    /// Appends refused for their interface, which come again.
    tries: Tries,
    events: Events,
    interfaces: Interfaces,
    keys: Mutex<Keys>,
    tokens: RwLock<Tokens>,
    audit: Mutex<Audit>,
    routes: Mutex<Leases<lease::Route>>,
    servers: Mutex<Leases<lease::Server>>,
    nodes: Mutex<Nodes>,
    outages: watch::Sender<u64>,
}

impl MemoryStore {
    pub(crate) fn new(config: &Config) -> Self {
        let contents = Contents {
            devices: Shards::default(),
            names: RwLock::default(),
            tries: Tries::default(),
            events: Events::new(config),
            interfaces: Interfaces::new(config.interfaces_max),
            keys: Mutex::new(Keys::new(config)),
            tokens: RwLock::default(),
            audit: Mutex::default(),
            routes: Mutex::default(),
            servers: Mutex::default(),
            nodes: Mutex::default(),
            outages: watch::Sender::new(0),
        };
        Self { contents: Arc::new(contents) }
    }

    pub(crate) fn provision(&self, device: &DeviceKey, proof: Proof) -> Provisioned {
        let at = now();
        let mut devices = self.contents.devices.lock(device);
        if let Some(record) = devices.get_mut() {
            return Provisioned::Updated { ended: record.provision(proof, at) };
        }
        devices.insert(Record::new(device.clone(), proof, at));
        self.contents.names.write().insert(device.clone());
        Provisioned::Created
    }

    pub(crate) fn identity(&self, device: &DeviceKey) -> Option<Identity> {
        self.contents.devices.lock(device).get_mut().map(|record| record.identity())
    }

    pub(crate) fn revoke(&self, device: &DeviceKey) -> Option<Option<Session>> {
        let at = now();
        self.contents.devices.lock(device).get_mut().map(|record| record.revoke(at))
    }

    pub(crate) fn restore(&self, device: &DeviceKey) -> Option<bool> {
        self.contents.devices.lock(device).get_mut().map(Record::restore)
    }

    pub(crate) fn set_next_key(&self, device: &DeviceKey, key: &[u8; 32]) -> NextKey {
        let mut devices = self.contents.devices.lock(device);
        devices.get_mut().map_or(NextKey::UnknownDevice, |record| record.set_next_key(key))
    }

    pub(crate) fn promote_key(&self, device: &DeviceKey, key: &[u8; 32]) -> Promoted {
        let mut devices = self.contents.devices.lock(device);
        devices.get_mut().map_or(Promoted::UnknownDevice, |record| record.promote_key(key))
    }

    pub(crate) fn remove(&self, device: &DeviceKey) -> Option<Option<Session>> {
        let mut devices = self.contents.devices.lock(device);
        let removed = devices.remove()?;
        self.contents.names.write().remove(device);
        self.contents.events.forget(device);
        Some(removed.session())
    }

    pub(crate) fn devices(&self, tenant: &str, after: &str, limit: usize) -> Vec<DeviceKey> {
        let start = format!("{tenant}/{after}");
        let names = self.contents.names.read();
        let behind = names.range::<str, _>((Bound::Excluded(start.as_str()), Bound::Unbounded));
        behind.take_while(|name| name.tenant() == tenant).take(limit).cloned().collect()
    }

    pub(crate) fn attach(&self, attach: &Attach) -> Attached {
        let at = now();
        let mut devices = self.contents.devices.lock(&attach.device);
        let seat = devices.seat(&attach.server, attach.server_incarnation);
        let Some(record) = devices.get_mut() else { return Attached::UnknownDevice };
        let mut attached = record.attach(attach, seat, at);
        if let Attached::Session(new) = &mut attached {
            new.event_position = self.contents.events.position(&attach.device, attach.event_queue);
        }
        attached
    }

    pub(crate) fn detach(&self, device: &DeviceKey, server_incarnation: u64, epoch: Epoch) -> bool {
        let at = now();
        let mut devices = self.contents.devices.lock(device);
        devices.get_mut().is_some_and(|record| record.detach(server_incarnation, epoch, at))
    }

    pub(crate) fn reassert(&self, sessions: &[Reassert]) -> Vec<Reasserted> {
        let at = now();
        let each = sessions.iter().map(|mine| {
            let mut devices = self.contents.devices.lock(&mine.device);
            let seat = devices.seat(&mine.server, mine.server_incarnation);
            devices.get_mut().map_or(Reasserted::Lost, |record| record.reassert(mine, seat, at))
        });
        each.collect()
    }

    pub(crate) fn heads(&self, devices: &[DeviceKey]) -> Vec<Head> {
        let head = |device| self.contents.devices.lock(device).get_mut().map_or_else(Head::default, |r| r.head());
        devices.iter().map(head).collect()
    }

    pub(crate) fn append(&self, append: &Append) -> Appended {
        let at = now();
        let tries = &self.contents.tries;
        let is_retry = append.retry && tries.send(&append.id, true) != Earlier::None;
        let appended = {
            let mut devices = self.contents.devices.lock(&append.device);
            devices.get_mut().map_or(Appended::UnknownDevice, |record| record.append(append, is_retry, at))
        };
        if let Appended::InterfaceChanged(_) = appended {
            tries.start_over(&append.id);
        } else if append.retry {
            tries.end(&append.id);
        }
        appended
    }

    pub(crate) fn read_mailbox(&self, read: &Read) -> Option<Page> {
        let at = now();
        self.contents.devices.lock(&read.device).get_mut().and_then(|record| record.read(read, at))
    }

    pub(crate) fn acknowledge(&self, acks: &[Acknowledge]) {
        let at = now();
        for ack in acks {
            if let Some(record) = self.contents.devices.lock(&ack.device).get_mut() {
                record.acknowledge(ack, at);
            }
        }
    }

    pub(crate) fn message_state(&self, device: &DeviceKey, id: MessageId) -> Option<State> {
        let at = now();
        self.contents.devices.lock(device).get_mut().map(|record| record.message_state(id, at))
    }

    pub(crate) fn cancel(&self, device: &DeviceKey, id: MessageId) -> Cancelled {
        let at = now();
        let mut devices = self.contents.devices.lock(device);
        devices.get_mut().map_or(Cancelled::UnknownDevice, |record| record.cancel(id, at))
    }

    pub(crate) fn idempotent(&self, tenant: &str, key: &str, body_hash: [u8; 32]) -> Result<Idempotent, Error> {
        self.contents.keys.lock().first_use(tenant, key, body_hash, now().now_ms)
    }

    pub(crate) fn idempotent_done(&self, tenant: &str, key: &str, answer: &[u8]) {
        self.contents.keys.lock().done(tenant, key, answer);
    }

    pub(crate) fn add_token(&self, token: &Token) -> TokenAdded {
        self.contents.tokens.write().add(token, now().now_ms)
    }

    pub(crate) fn token(&self, id: TokenId) -> Option<Token> {
        self.contents.tokens.read().read(id)
    }

    pub(crate) fn tokens(&self, tenant: &str) -> Vec<Token> {
        self.contents.tokens.read().list(tenant)
    }

    pub(crate) fn revoke_token(&self, tenant: &str, id: TokenId) -> Option<Token> {
        self.contents.tokens.write().revoke(tenant, id, now().now_ms)
    }

    pub(crate) fn revocations(&self, known: Option<RevocationsVersion>) -> Option<Revocations> {
        self.contents.tokens.read().revocations(known)
    }

    pub(crate) fn add_audit(&self, tenant: &str, record: &AuditRecord) {
        self.contents.audit.lock().add(tenant, record, now().now_ms);
    }

    pub(crate) fn audit(&self, tenant: &str, after: Option<Position>, limit: usize) -> Vec<(Position, AuditRecord)> {
        self.contents.audit.lock().read(tenant, after, limit)
    }

    pub(crate) fn append_events(&self, batches: &[EventBatch]) -> Vec<EventsStored> {
        self.contents.events.append(batches, now().now_ms)
    }

    pub(crate) fn read_events(
        &self,
        tenant: &str,
        shard: usize,
        after: Position,
        limit: usize,
    ) -> Vec<(Position, Event)> {
        self.contents.events.read(tenant, shard, after, limit)
    }

    pub(crate) async fn wait_events(
        &self,
        tenant: &str,
        after: &[Position; SHARDS],
        limit_per_shard: usize,
        wait: Duration,
    ) -> Vec<(usize, Vec<(Position, Event)>)> {
        self.contents.events.wait(tenant, after, limit_per_shard, wait).await
    }

    pub(crate) fn event_tails(&self, tenant: &str) -> [Position; SHARDS] {
        self.contents.events.tails(tenant)
    }

    pub(crate) fn commit_events(&self, tenant: &str, group: &str, shard: usize, upto: Position) {
        self.contents.events.commit(tenant, group, shard, upto);
    }

    pub(crate) fn committed_events(&self, tenant: &str, group: &str) -> [Position; SHARDS] {
        self.contents.events.committed(tenant, group)
    }

    pub(crate) fn put_interface(&self, tenant: &str, fingerprint: Fingerprint, bytes: &[u8]) -> Result<(), Error> {
        self.contents.interfaces.put(tenant, fingerprint, bytes)
    }

    pub(crate) fn interface(&self, tenant: &str, fingerprint: Fingerprint) -> Option<Bytes> {
        self.contents.interfaces.read(tenant, fingerprint)
    }

    pub(crate) fn register_route(&self, route: &lease::Route, lease: Duration) {
        let until = until(lease);
        self.contents.routes.lock().register(&route.name, route.incarnation, route.clone(), until);
    }

    pub(crate) fn routes(&self) -> Vec<lease::Route> {
        self.contents.routes.lock().live(now().now_ms)
    }

    pub(crate) fn remove_route(&self, name: &str, incarnation: u64) {
        self.contents.routes.lock().remove(name, incarnation);
    }

    pub(crate) fn register_server(&self, server: &lease::Server, lease: Duration) {
        let until = until(lease);
        self.contents.servers.lock().register(&server.name, server.incarnation, server.clone(), until);
    }

    pub(crate) fn servers(&self) -> Vec<lease::Server> {
        self.contents.servers.lock().live(now().now_ms)
    }

    pub(crate) fn remove_server(&self, name: &str, incarnation: u64) {
        self.contents.servers.lock().remove(name, incarnation);
    }

    pub(crate) fn enrol_node(
        &self,
        role: NodeRole,
        name: &str,
        key: [u8; NODE_KEY_LEN],
        token: Option<[u8; JOIN_ID_LEN]>,
    ) -> Enrolled {
        self.contents.nodes.lock().enrol(role, name, key, token, now().now_ms)
    }

    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.contents.nodes.lock().all()
    }

    pub(crate) fn node(&self, role: NodeRole, name: &str) -> Option<Node> {
        self.contents.nodes.lock().find(role, name)
    }

    pub(crate) fn remove_node(&self, role: NodeRole, name: &str) -> bool {
        self.contents.nodes.lock().remove(role, name)
    }

    pub(crate) fn put_join_token(&self, token: &JoinToken) -> Result<(), Error> {
        self.contents.nodes.lock().put_token(token, now().now_ms)
    }

    pub(crate) fn join_tokens(&self) -> Vec<JoinToken> {
        self.contents.nodes.lock().tokens(now().now_ms)
    }

    pub(crate) fn remove_join_token(&self, id: [u8; JOIN_ID_LEN]) -> bool {
        self.contents.nodes.lock().remove_token(id)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        now().now_ms
    }

    pub(crate) fn outages(&self) -> watch::Receiver<u64> {
        self.contents.outages.subscribe()
    }
}

fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment { now_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX), lineage: 1 }
}

fn until(lease: Duration) -> u64 {
    now().now_ms.saturating_add(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX))
}

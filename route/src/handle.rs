//! The handle that everything within the process works with.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream::Stream;
use imlink_link::Link;
use imlink_protocol::id::MessageId;
use imlink_protocol::link::backend::{Failure, State};
use imlink_store::DeviceKey;
use imlink_store::mailbox::Cancelled;
use imlink_store::session::{Identity, NextKey, Proof, Provisioned, Session};
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

use crate::asker::Asker;
use crate::blob::{self, BlobError, Give, Given, Take, Taken};
use crate::call::Question;
use crate::config::Limits;
use crate::core::{Core, store_failed, unknown_device};
use crate::events::{self, Events, Positions};
use crate::http::KeysView;
use crate::kick;
use crate::lookups::{Request, submit};
use crate::node;
use crate::once::Once;
use crate::outgoing::Outgoing;
use crate::push::Push;
use crate::request::{Call, Device, Failed, Replied, Send, Sent, Server, Subscription};

/// A running route; cheap to clone.
#[derive(Clone)]
pub struct Route {
    core: Arc<Core>,
}

impl Route {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Stores a message for a device and waits as asked. Dropping the future takes nothing back: from the
    /// append on, a task of its own does the rest.
    pub async fn send(&self, send: Send) -> Result<Sent, Failed> {
        let Send { tenant, device, path, ttl_s, wait, timeout, idempotency_key, token, payload } = send;
        let limits = self.limits();
        limits.check_payload(payload.len())?;
        let timeout = limits.check_timeout(timeout.unwrap_or(limits.timeout_default()))?;
        let once = idempotency_key.map(|key| Once::new(&tenant, &key)).transpose()?;
        let (answer, answered) = oneshot::channel();
        let asked = Instant::now();
        let push = Push {
            path: path.into(),
            ttl_s: ttl_s.unwrap_or(limits.ttl_default_s),
            wait,
            asked,
            deadline: asked + timeout,
            payload,
            token,
            id: self.core.append_id(),
            is_retry: false,
            once: None,
            asker: Asker::of_send(&self.core, answer)?,
        };
        match once {
            None => self.submit(&tenant, &device, Request::Push(push), asked),
            Some(once) => drop(self.core.tasks.spawn(once.send(self.core.clone(), device, push))),
        }
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Asks a device. Dropping the future cancels the call if it did not start yet.
    pub async fn call(&self, call: Call) -> Result<Replied, Failed> {
        let Call { tenant, device, path, timeout, payload } = call;
        let limits = self.limits();
        limits.check_payload(payload.len())?;
        let timeout = limits.check_timeout(timeout.unwrap_or(limits.timeout_default()))?;
        let (answer, answered) = oneshot::channel();
        let asked = Instant::now();
        let question = Question {
            path: path.into(),
            payload,
            asked,
            deadline: asked + timeout,
            asker: Asker::of_call(&self.core, answer)?,
        };
        self.submit(&tenant, &device, Request::Call(question), asked);
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Gives a device a blob; `body` brings its bytes from [`Give::offset`] on.
    pub async fn give_blob<E: std::fmt::Display>(
        &self,
        give: Give,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Given, BlobError> {
        blob::give(&self.core, give, body).await
    }

    /// Takes a blob from a device.
    pub async fn take_blob(&self, take: Take) -> Result<Taken, BlobError> {
        blob::take(&self.core, &take).await
    }

    /// What became of a message.
    pub async fn state(&self, tenant: &str, device: &str, id: MessageId) -> Result<State, Failed> {
        let device = key(tenant, device)?;
        match self.core.store.message_state(&device, id).await {
            Ok(Some(state)) => Ok(state),
            Ok(None) => Err(unknown_device(&device)),
            Err(error) => Err(store_failed(&error)),
        }
    }

    /// Takes a message back that did not reach its device: [`State::Cancelled`]. Else [`Failure::Conflict`]
    /// names the state that it is in.
    pub async fn cancel(&self, tenant: &str, device: &str, id: MessageId) -> Result<State, Failed> {
        let device = key(tenant, device)?;
        match self.core.store.cancel(&device, id).await {
            Ok(Cancelled::Cancelled) => Ok(State::Cancelled),
            Ok(Cancelled::TooLate(state)) => {
                let why = format!("message {id} is {}; only waiting messages can be taken back", name(state));
                Err(Failed::new(Failure::Conflict, why))
            }
            Ok(Cancelled::UnknownDevice) => Err(unknown_device(&device)),
            Err(error) => Err(store_failed(&error)),
        }
    }

    /// Makes a device known, or changes how it proves itself; a revocation stays. Another current key than before
    /// closes its session.
    pub async fn provision(&self, tenant: &str, device: &str, proof: Proof) -> Result<Provisioned, Failed> {
        let device = key(tenant, device)?;
        let provisioned = self.core.store.provision(&device, proof).await;
        self.core.devices.forget(device.as_str());
        let provisioned = provisioned.map_err(|error| store_failed(&error))?;
        if let Provisioned::Updated { ended } = &provisioned {
            self.close(device, ended.clone());
        }
        Ok(provisioned)
    }

    /// What is known of a device.
    pub async fn identity(&self, tenant: &str, device: &str) -> Result<Device, Failed> {
        let device = key(tenant, device)?;
        let identity = self.core.identity(&device).await?;
        let paths = self.paths(&device, &identity).await;
        let is_online = match &identity.session {
            Some(session) => self.is_alive(session).await,
            None => false,
        };
        Ok(Device { id: device.device().to_owned(), identity, is_online, paths })
    }

    /// Refuses a device from now on and closes its session.
    pub async fn revoke(&self, tenant: &str, device: &str) -> Result<(), Failed> {
        let device = key(tenant, device)?;
        let revoked = self.core.store.revoke(&device).await;
        self.shut_out(device, revoked)
    }

    /// Takes a revoked device back; answers whether it was revoked.
    pub async fn restore(&self, tenant: &str, device: &str) -> Result<bool, Failed> {
        let device = key(tenant, device)?;
        let restored = self.core.store.restore(&device).await.map_err(|error| store_failed(&error))?;
        self.core.devices.forget(device.as_str());
        restored.ok_or_else(|| unknown_device(&device))
    }

    /// Gives a device the key that follows its current one.
    pub async fn set_next_key(&self, tenant: &str, device: &str, next: &[u8; 32]) -> Result<NextKey, Failed> {
        let device = key(tenant, device)?;
        match self.core.store.set_next_key(&device, next).await.map_err(|error| store_failed(&error))? {
            NextKey::UnknownDevice => Err(unknown_device(&device)),
            set => Ok(set),
        }
    }

    /// What devices of `tenant` are flashed with beside their own keys; `None` when the route has no keys.
    pub fn keys_view(&self, tenant: &str) -> Option<KeysView> {
        let config = &self.core.config;
        let keys = config.keys.as_ref()?;
        Some(KeysView {
            current: keys.current.public().to_string(),
            next: keys.next.public().to_string(),
            fleet_psk: config.fleet_psks.contains_key(tenant),
            addresses: config.device_address.clone().into_iter().collect(),
        })
    }

    /// Forgets a device, its mailbox included, and closes its session.
    pub async fn remove(&self, tenant: &str, device: &str) -> Result<(), Failed> {
        let device = key(tenant, device)?;
        let removed = self.core.store.remove(&device).await;
        self.shut_out(device, removed)
    }

    /// The ids of at most `limit` devices behind `after` (empty for the first page), sorted.
    pub async fn devices(&self, tenant: &str, after: &str, limit: usize) -> Result<Vec<String>, Failed> {
        let devices = self.core.store.devices(tenant, after, limit).await;
        let devices = devices.map_err(|error| store_failed(&error))?;
        Ok(devices.iter().map(|device| device.device().to_owned()).collect())
    }

    /// Events from a position on.
    pub async fn events(&self, subscription: Subscription) -> Result<Events, Failed> {
        Events::subscribe(&self.core, subscription).await
    }

    /// Writes down that `group` processed everything up to `position`, as given with an event.
    pub async fn commit(&self, tenant: &str, group: &str, position: &str) -> Result<(), Failed> {
        events::check_group(group)?;
        let position = events::decode(position, tenant)?;
        let before = self.core.store.committed_events(tenant, group).await;
        let before = Positions(before.map_err(|error| store_failed(&error))?);
        events::commit(&self.core, tenant, group, &position, &before).await
    }

    /// The IM-servers linked to this route, by name.
    pub fn servers(&self) -> Vec<Server> {
        self.core.servers.infos(Instant::now())
    }

    /// Whether backends should send here: the known servers were heard, and the route does not leave.
    pub fn is_ready(&self) -> bool {
        self.core.is_settled.load(Ordering::Relaxed) && !self.core.draining.is_cancelled()
    }

    /// The limits this route was started with.
    pub fn limits(&self) -> &Limits {
        &self.core.config.limits
    }

    /// The route's name.
    pub fn name(&self) -> &str {
        &self.core.config.name
    }

    /// Enters the route's metrics in `registry`; they stay current by themselves.
    pub fn metrics(&self, registry: &mut Registry) {
        self.core.metrics.register(registry);
    }

    /// Serves the IM-server `name` of this process over the other side of a [`pair`](imlink_link::pair), exactly
    /// as one that dialled in and proved its key.
    pub fn accept_link(&self, name: &str, link: Link) {
        self.core.tasks.spawn(node::serve(self.core.clone(), link, name.into(), None));
    }

    fn submit(&self, tenant: &str, device: &str, request: Request, now: Instant) {
        let mut out = Outgoing::default();
        submit(&self.core, tenant, device, request, now, &mut out);
    }

    fn shut_out(
        &self,
        device: DeviceKey,
        ended: Result<Option<Option<Session>>, imlink_store::Error>,
    ) -> Result<(), Failed> {
        let session = ended.map_err(|error| store_failed(&error))?;
        let session = session.ok_or_else(|| unknown_device(&device))?;
        self.core.devices.forget(device.as_str());
        self.close(device, session);
        Ok(())
    }

    /// Closes the session that ended in the store, if there was one.
    fn close(&self, device: DeviceKey, ended: Option<Session>) {
        if let Some(session) = ended {
            let seat = self.core.seat(&session);
            self.core.tasks.spawn(kick::revoke(self.core.clone(), device, seat));
        }
    }

    async fn paths(&self, device: &DeviceKey, identity: &Identity) -> Option<Vec<(crate::request::Kind, String)>> {
        if !identity.fingerprint.is_some() {
            return None;
        }
        let interface = self.core.known_interface(device.tenant(), identity.fingerprint).await.ok()??;
        Some(interface.paths().to_vec())
    }

    async fn is_alive(&self, session: &Session) -> bool {
        if self.core.servers.seated(self.core.seat(session)).is_some() {
            return true;
        }
        if self.core.servers.is_gone(session.incarnation) {
            return false;
        }
        let servers = self.core.store.servers().await.unwrap_or_default();
        servers.iter().any(|server| server.incarnation == session.incarnation)
    }
}

pub(crate) fn key(tenant: &str, device: &str) -> Result<DeviceKey, Failed> {
    DeviceKey::new(tenant, device)
        .map_err(|error| Failed::new(Failure::BadRequest, format!("device id {device:?} {error}")))
}

/// An asker always answers, so this is only seen when the process ends.
fn lost() -> Failed {
    Failed::new(Failure::Internal, "the route ended before the answer; a message may be stored")
}

fn name(state: State) -> String {
    match state {
        State::Waiting => "waiting".into(),
        State::Sent => "sent and may be running".into(),
        State::Acked => "acked".into(),
        State::Rejected { code } => format!("rejected with {code}"),
        State::Expired { may_have_run: true } => "expired and may have run".into(),
        State::Expired { may_have_run: false } => "expired".into(),
        State::Cancelled => "cancelled already".into(),
        State::Failed => "failed".into(),
        State::Unknown => "unknown, or from too long ago".into(),
    }
}

//! Links to routes: one to every route that the store knows, registered and kept.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use imlink_link::seal::{self, PublicKey, SealError};
use imlink_link::{Batch, Link, LinkError, Sender};
use imlink_protocol::frame;
use imlink_protocol::link::node::{Load, Register, Registered, ToRoute, ToServer};
use imlink_protocol::link::opening::HANDSHAKE_DEADLINE;
use imlink_protocol::message::GoAwayReason;
use imlink_protocol::ticket::TicketKey;
use imlink_store::lease;
use imlink_store::node::{Node, NodeRole};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::inbox::{Command, LinkId};
use crate::load::Sampler;
use crate::reactor::Shared;
use crate::table::thread_of;

/// How often the store is asked for routes.
const LOOK: Duration = Duration::from_secs(1);
/// How often a route is told the load.
const REPORT: Duration = Duration::from_secs(2);
/// From connecting to `Registered`.
const REGISTER_DEADLINE: Duration = Duration::from_secs(5);
/// A route that takes no bytes for this long is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// Commands that wait for one I/O thread before links are read no further.
const INBOX_MAX: usize = 65_536;
/// Days whose ticket keys are kept: the clocks of routes differ.
const TICKET_DAYS: usize = 3;

/// What the links of one server share.
pub(crate) struct Links {
    shared: Arc<Shared>,
    next: AtomicU32,
    up: AtomicUsize,
    /// Routes (name and incarnation) that are linked or being dialled.
    dialled: Mutex<HashMap<(String, u64), Dialled>>,
    /// The last look at the store found this server's key there.
    is_enrolled: AtomicBool,
    pub(crate) is_draining: AtomicBool,
    /// Latest sample, shared by all links.
    load: Mutex<Load>,
}

/// A route that is linked or being dialled.
struct Dialled {
    /// The key that is believed.
    key: PublicKey,
    /// Ends the link when it is believed no longer.
    cut: CancellationToken,
}

/// Why a link to a route ended.
#[derive(Debug, thiserror::Error)]
enum LinkEnd {
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    #[error("the route refused this server: {0}")]
    Refused(String),
    #[error("the route did not answer the registration within {} s", REGISTER_DEADLINE.as_secs())]
    Silent,
    #[error("the route sent a frame out of order")]
    Order,
    #[error("the route takes no more frames")]
    Full,
    #[error("{0}")]
    Seal(#[from] SealError),
    #[error("the key of the route was removed")]
    Removed,
}

impl Links {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            next: AtomicU32::new(1),
            up: AtomicUsize::new(0),
            dialled: Mutex::new(HashMap::new()),
            is_enrolled: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            load: Mutex::new(Load::default()),
        })
    }

    pub(crate) fn up(&self) -> usize {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn load(&self) -> Load {
        let mut load = *self.load.lock();
        load.connections = self.shared.connections.load(Ordering::Relaxed) as u32;
        load.queued = self.shared.queued.iter().map(|queued| queued.load(Ordering::Relaxed)).sum::<usize>() as u32;
        load.draining = self.is_draining.load(Ordering::Relaxed);
        load
    }

    /// Finds routes and links to them until `stop`; watches over being without any.
    pub(crate) async fn supervise(self: Arc<Self>, stop: CancellationToken) {
        let limits = self.shared.config.limits;
        let mut sampler = Sampler::new(limits.memory_max);
        let mut alone_since = Instant::now();
        let mut stage = Alone::No;
        let mut ticks = 0u32;
        loop {
            if ticks.is_multiple_of(2) {
                *self.load.lock() = sampler.sample();
            }
            ticks = ticks.wrapping_add(1);
            self.dial_new_routes(&stop).await;
            if self.up() > 0 {
                alone_since = Instant::now();
            }
            let alone = alone_since.elapsed();
            let next = if alone >= limits.routeless_leave {
                Alone::SendAway
            } else if alone >= limits.routeless_admit {
                Alone::NoNewOnes
            } else {
                Alone::No
            };
            if next != stage {
                stage = next;
                self.tell_alone(stage);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn tell_alone(&self, stage: Alone) {
        tracing::warn!(?stage, "links to routes");
        for inbox in &self.shared.inboxes {
            inbox.put(Command::Admit(stage == Alone::No));
            if stage == Alone::SendAway {
                inbox.put(Command::Drain(GoAwayReason::Cut));
            }
        }
    }

    async fn dial_new_routes(self: &Arc<Self>, stop: &CancellationToken) {
        let routes = match self.shared.store.routes().await {
            Ok(routes) => routes,
            Err(error) => {
                tracing::debug!(%error, "routes cannot be looked up");
                return;
            }
        };
        // A route within this process is handed in, it has no address to dial.
        let routes: Vec<_> = routes.into_iter().filter(|route| !route.node_address.is_empty()).collect();
        if self.shared.config.node_key.is_none() || routes.is_empty() && self.dialled.lock().is_empty() {
            return;
        }
        let nodes = match self.shared.store.nodes().await {
            Ok(nodes) => nodes,
            Err(error) => {
                tracing::debug!(%error, "the keys of routes cannot be looked up");
                return;
            }
        };
        self.cut_removed(&nodes);
        if !self.see_own(&nodes) {
            return;
        }
        for route in routes {
            let id = (route.name.clone(), route.incarnation);
            let Some(key) = believed(&nodes, NodeRole::Route, &route.name) else {
                tracing::debug!(route = route.name, "no key of this route is known");
                continue;
            };
            let cut = stop.child_token();
            match self.dialled.lock().entry(id.clone()) {
                Entry::Occupied(_) => continue,
                Entry::Vacant(place) => drop(place.insert(Dialled { key, cut: cut.clone() })),
            }
            let (links, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                let end = links.dial(&route, &key, &cut).await;
                if let Err(error) = end
                    && !stop.is_cancelled()
                {
                    tracing::warn!(route = route.name, address = route.node_address, %error, "link to a route ended");
                }
                // A route that refuses or is unreachable is tried again at the next look, not at once.
                tokio::time::sleep(LOOK).await;
                links.dialled.lock().remove(&id);
            });
        }
    }

    /// Closes the links to routes whose key is believed no longer. One that is missing was lost with the store.
    fn cut_removed(&self, nodes: &[Node]) {
        for ((name, _), dialled) in &*self.dialled.lock() {
            let node = nodes.iter().find(|node| node.role == NodeRole::Route && node.name == *name);
            if node.is_some_and(|node| node.is_removed || node.key != dialled.key.0) {
                dialled.cut.cancel();
            }
        }
    }

    /// Whether this server's own key is believed; tells when that changes.
    fn see_own(&self, nodes: &[Node]) -> bool {
        let config = &self.shared.config;
        let mine = config.node_key.as_ref().map(seal::NodeKey::public);
        let is_enrolled = mine.is_some() && believed(nodes, NodeRole::Server, &config.name) == mine;
        if is_enrolled != self.is_enrolled.swap(is_enrolled, Ordering::Relaxed) {
            tracing::info!(server = config.name, is_enrolled, "this server's node key in the store");
        }
        is_enrolled
    }

    async fn dial(&self, route: &lease::Route, key: &PublicKey, cut: &CancellationToken) -> Result<(), LinkEnd> {
        let Some(mine) = &self.shared.config.node_key else { return Ok(()) };
        let connecting = tokio::time::timeout(REGISTER_DEADLINE, TcpStream::connect(&route.node_address));
        let stream = tokio::select! {
            connected = connecting => connected.map_err(|_| LinkEnd::Silent)??,
            () = cut.cancelled() => return Ok(()),
        };
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(UNACKNOWLEDGED_MAX))?;
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
        let config = &self.shared.config;
        let sealing = seal::connect(stream, &config.name, &route.name, mine, key, config.limits.link_outbox_max);
        let link = tokio::time::timeout(HANDSHAKE_DEADLINE, sealing).await.map_err(|_| LinkEnd::Silent)??;
        self.serve(link, cut).await
    }

    pub(crate) async fn serve_logged(&self, link: Link) {
        if let Err(error) = self.serve(link, &CancellationToken::new()).await {
            tracing::warn!(%error, "link to the route of this process ended");
        }
    }

    /// Registers over `link` and passes what comes to the I/O threads until it ends.
    async fn serve(&self, mut link: Link, cut: &CancellationToken) -> Result<(), LinkEnd> {
        let config = &self.shared.config;
        let advertised = config.advertise.as_str();
        self.send(
            &link.sender,
            &ToRoute::Register(Register {
                version: imlink_protocol::VERSION,
                incarnation: self.shared.incarnation,
                device_address: advertised,
                plain_address: &config.plain_advertise,
                capacity: config.limits.connections_max as u32,
                labels: &config.labels,
            }),
        )?;
        let first =
            tokio::time::timeout(REGISTER_DEADLINE, link.receiver.receive()).await.map_err(|_| LinkEnd::Silent)??;
        let Some(first) = first else { return Err(LinkEnd::Refused("it closed the link".into())) };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // `Registered` is the first frame; others may come in its company.
        let mut bodies = first.frames();
        match bodies.next().transpose()?.map(frame::decode::<ToServer<'_>>) {
            Some(Ok(ToServer::Registered(registered))) => self.take_registered(&registered),
            Some(Ok(ToServer::Refused { why })) => return Err(LinkEnd::Refused(why.to_owned())),
            _ => return Err(LinkEnd::Order),
        }
        self.up.fetch_add(1, Ordering::Relaxed);
        self.shared.metrics.routes.inc();
        for inbox in &self.shared.inboxes {
            inbox.put(Command::LinkUp { link: id, sender: link.sender.clone() });
        }
        let end = match self.dispatch(id, &link.sender, &first, 1) {
            Ok(()) => self.pump(id, &mut link, cut).await,
            Err(error) => Err(error),
        };
        let is_clean = end.is_ok() && self.is_draining.load(Ordering::Relaxed);
        for inbox in &self.shared.inboxes {
            inbox.put(Command::LinkDown { link: id, is_clean });
        }
        self.up.fetch_sub(1, Ordering::Relaxed);
        self.shared.metrics.routes.dec();
        end
    }

    async fn pump(&self, id: LinkId, link: &mut Link, cut: &CancellationToken) -> Result<(), LinkEnd> {
        let mut report = tokio::time::interval(REPORT);
        let mut was_draining = false;
        let mut drain_look = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                batch = link.receiver.receive() => match batch? {
                    Some(batch) => {
                        self.dispatch(id, &link.sender, &batch, 0)?;
                        self.inboxes_taken().await;
                    }
                    None => return Ok(()),
                },
                () = cut.cancelled() => return Err(LinkEnd::Removed),
                _ = report.tick() => self.send(&link.sender, &ToRoute::Load(self.load()))?,
                _ = drain_look.tick() => {
                    let is_draining = self.is_draining.load(Ordering::Relaxed);
                    if is_draining && !was_draining {
                        self.send(&link.sender, &ToRoute::Load(self.load()))?;
                    }
                    was_draining = is_draining;
                }
            }
        }
    }

    /// Ends when the I/O threads have caught up: a route that is faster than they are waits in its socket.
    async fn inboxes_taken(&self) {
        while self.shared.inboxes.iter().any(|inbox| inbox.waiting() > INBOX_MAX) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Passes frames to the threads of their devices, one wake-up a thread.
    fn dispatch(&self, id: LinkId, sender: &Sender, batch: &Batch, skip: usize) -> Result<(), LinkEnd> {
        let threads = self.shared.inboxes.len();
        let mut commands: Vec<Vec<Command>> = std::iter::repeat_with(Vec::new).take(threads).collect();
        for body in batch.frames().skip(skip) {
            let body = body?;
            let message = frame::decode::<ToServer<'_>>(body).map_err(LinkError::Frame)?;
            let device = match message {
                ToServer::Deliver(deliver) => Some(deliver.device),
                ToServer::CallDevice(call) => Some(call.device),
                ToServer::Blob(blob) => Some(blob.device),
                ToServer::Kick { device, .. } => Some(device),
                ToServer::CancelCall { .. } | ToServer::KickDone { .. } => None,
                ToServer::Registered(registered) => {
                    self.take_registered(&registered);
                    continue;
                }
                ToServer::Refused { why } => return Err(LinkEnd::Refused(why.to_owned())),
                ToServer::Ping => {
                    self.send(sender, &ToRoute::Pong)?;
                    continue;
                }
            };
            let owner = device.map(|device| thread_of(device, threads));
            for (index, commands) in commands.iter_mut().enumerate() {
                if owner.is_none_or(|owner| owner == index) {
                    commands.push(Command::FromRoute { link: id, body: batch.share(body) });
                }
            }
        }
        for (inbox, mut commands) in self.shared.inboxes.iter().zip(commands) {
            inbox.put_all(&mut commands);
        }
        Ok(())
    }

    fn take_registered(&self, registered: &Registered<'_>) {
        let today = (registered.day, TicketKey(registered.ticket_key_today));
        let yesterday = (registered.day.saturating_sub(1), TicketKey(registered.ticket_key_yesterday));
        let mut keys = self.shared.ticket_keys.write();
        keys.retain(|(day, _)| ![today.0, yesterday.0].contains(day));
        keys.extend([today, yesterday]);
        keys.sort_by_key(|(day, _)| std::cmp::Reverse(*day));
        keys.truncate(TICKET_DAYS);
        drop(keys);
        tracing::info!(route = registered.route, "registered at a route");
    }

    fn send(&self, sender: &Sender, message: &ToRoute<'_>) -> Result<(), LinkEnd> {
        sender.send(message).map_err(|_| LinkEnd::Full)
    }
}

/// The key of a node, unless it was removed.
fn believed(nodes: &[Node], role: NodeRole, name: &str) -> Option<PublicKey> {
    let node = nodes.iter().find(|node| node.role == role && node.name == name && !node.is_removed)?;
    Some(PublicKey(node.key))
}

/// How long this server has been without a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alone {
    /// At least one route is linked, or it is not long ago.
    No,
    /// No new devices are admitted.
    NoNewOnes,
    /// Devices are sent away.
    SendAway,
}

//! Starting, running and stopping an IM-server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use imlink_link::Link;
use imlink_protocol::link::node::Load;
use imlink_protocol::message::GoAwayReason;
use imlink_seal::{Pool, RouteKeys};
use imlink_store::{RevokedTokens, Store};
use mio::{Poll, Waker};
use parking_lot::RwLock;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Login};
use crate::inbox::{Command, Inbox};
use crate::links::Links;
use crate::metrics::Metrics;
use crate::reactor::{Reactor, Shared};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// A running IM-server.
pub struct Server {
    shared: Arc<Shared>,
    links: Arc<Links>,
    threads: Vec<JoinHandle<()>>,
    sealed: Option<SocketAddr>,
    plain: Option<SocketAddr>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The device listener cannot be opened.
    #[error("cannot listen for devices on {address}: {source}; is another server running there?")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An I/O thread cannot be started.
    #[error("cannot start an I/O thread: {0}")]
    Thread(#[source] io::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

impl Server {
    /// Opens the listener and starts the I/O threads. Must be called within a tokio runtime.
    pub fn start(mut config: Config, store: Store, metrics: Metrics) -> Result<Self, RunError> {
        config.check()?;
        let threads = config.io_threads();
        let (sealed, mut sealed_listeners) = listeners(config.listen, threads)?;
        let (plain, mut plain_listeners) = listeners(config.plain_listen, threads)?;
        let tell = |told: &mut String, bound: Option<SocketAddr>| {
            if let Some(bound) = bound.filter(|_| told.is_empty()) {
                *told = bound.to_string();
            }
        };
        tell(&mut config.advertise, sealed);
        tell(&mut config.plain_advertise, plain);
        let keys = config.keys.as_ref().filter(|_| config.login == Login::Direct);
        let route_keys = keys.and_then(|keys| RouteKeys::new(keys, config.fleet_psks.clone()));
        let waiting_max = config.limits.handshakes_waiting_max;
        let pool = Pool::start(config.handshake_threads(), waiting_max).map_err(RunError::Thread)?;
        let mut polls = Vec::with_capacity(threads);
        let mut inboxes = Vec::with_capacity(threads);
        for _ in 0..threads {
            let poll = Poll::new().map_err(RunError::Thread)?;
            let waker = Waker::new(poll.registry(), Reactor::waker_token()).map_err(RunError::Thread)?;
            inboxes.push(Inbox::new(waker));
            polls.push(poll);
        }
        let shared = Arc::new(Shared {
            config,
            incarnation: getrandom::u64().map_err(RunError::Random)? | 1,
            metrics,
            revoked: RevokedTokens::watch(&store, &Handle::current()),
            store,
            runtime: Handle::current(),
            inboxes: inboxes.clone(),
            ticket_keys: RwLock::new(Vec::new()),
            route_keys,
            pool,
            connections: AtomicUsize::new(0),
            queued: std::iter::repeat_with(AtomicUsize::default).take(threads).collect(),
            ended: CancellationToken::new(),
            started: Instant::now(),
        });
        let mut handles = Vec::with_capacity(threads);
        for (index, (poll, inbox)) in polls.into_iter().zip(inboxes).enumerate() {
            let listeners = [sealed_listeners.pop(), plain_listeners.pop()];
            let reactor = Reactor::new(shared.clone(), index, inbox, poll, listeners).map_err(RunError::Thread)?;
            let thread = std::thread::Builder::new().name(format!("imlink-io-{index}"));
            handles.push(thread.spawn(move || reactor.run()).map_err(RunError::Thread)?);
        }
        tracing::info!(
            server = shared.config.name,
            ?sealed,
            ?plain,
            io_threads = threads,
            "IM-server listens for devices"
        );
        Ok(Self { links: Links::new(shared.clone()), shared, threads: handles, sealed, plain })
    }

    /// Where devices connect over sealed links.
    pub fn sealed_address(&self) -> Option<SocketAddr> {
        self.sealed
    }

    /// Where devices without a key connect.
    pub fn plain_address(&self) -> Option<SocketAddr> {
        self.plain
    }

    /// Drawn at this start.
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// Whether a route is linked, so that devices get messages.
    pub fn is_ready(&self) -> bool {
        self.readiness()()
    }

    /// Answers [`is_ready`](Self::is_ready) also while [`run`](Self::run) has the server.
    pub fn readiness(&self) -> impl Fn() -> bool + Clone + Send + Sync + use<> {
        let links = self.links.clone();
        move || links.up() > 0 && !links.is_draining.load(Ordering::Relaxed)
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        self.links.load()
    }

    /// The revoked tokens as this server knows them: what they sent is not handed to devices.
    pub fn revoked_tokens(&self) -> RevokedTokens {
        self.shared.revoked.clone()
    }

    /// A route within this process, by the other side of an [`imlink_link::pair`].
    pub fn add_link(&self, link: Link) {
        let links = self.links.clone();
        tokio::spawn(async move { links.serve_logged(link).await });
    }

    /// Serves until `shutdown`, then drains: devices are sent away over the drain time, what they still do is
    /// finished. Cancelling `now` ends the drain at once.
    pub async fn run(self, shutdown: CancellationToken, now: CancellationToken) {
        let stop_links = CancellationToken::new();
        let supervisor = tokio::spawn(self.links.clone().supervise(stop_links.clone()));
        let mut outages = self.shared.store.outages();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.shared.ended.cancelled() => {
                    // Its devices and those that the kernel gives it would wait for ever.
                    tracing::error!("an I/O thread ended by a fault: the server stops");
                    break;
                }
                changed = outages.changed() => {
                    if changed.is_err() {
                        // This store cannot be lost without the process.
                        tokio::select! {
                            () = shutdown.cancelled() => {}
                            () = self.shared.ended.cancelled() => {}
                        }
                        break;
                    }
                    tracing::info!("the store is back: sessions are asserted again");
                    self.tell_all(|| Command::StoreBack);
                }
            }
        }
        self.drain(&now).await;
        stop_links.cancel();
        self.tell_all(|| Command::Stop);
        let threads = self.threads;
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().filter_map(|thread| thread.join().err()).count());
        match joined.await {
            Ok(0) => tracing::info!("IM-server stopped"),
            broken => tracing::error!(?broken, "an I/O thread ended by a fault"),
        }
        // The supervisor ends by itself; nothing of it is needed any more.
        let _ = supervisor.await;
    }

    async fn drain(&self, now: &CancellationToken) {
        self.links.is_draining.store(true, Ordering::Relaxed);
        let drain = self.shared.config.limits.drain;
        tracing::info!(connections = self.shared.connections.load(Ordering::Relaxed), ?drain, "draining");
        self.tell_all(|| Command::Drain(GoAwayReason::Draining));
        let deadline = Instant::now() + drain;
        while self.shared.connections.load(Ordering::Relaxed) > 0 && Instant::now() < deadline && !now.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Acknowledgements and detaches of the last round are on their way to the store.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for inbox in &self.shared.inboxes {
            inbox.put(command());
        }
    }
}

/// A listener for each I/O thread at `address`, and where they are bound.
fn listeners(
    address: Option<SocketAddr>,
    threads: usize,
) -> Result<(Option<SocketAddr>, Vec<mio::net::TcpListener>), RunError> {
    let Some(address) = address else { return Ok((None, Vec::new())) };
    let error = |source| RunError::Listen { address, source };
    let first = listener(address).map_err(error)?;
    let bound = first.local_addr().map_err(error)?;
    let mut all = vec![mio::net::TcpListener::from_std(first)];
    for _ in 1..threads {
        all.push(mio::net::TcpListener::from_std(listener(bound).map_err(error)?));
    }
    Ok((Some(bound), all))
}

/// A listener that shares its port with those of the other I/O threads: the kernel spreads connections.
fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

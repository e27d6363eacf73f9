//! Starting a route and letting it leave in good order.
//!
//! ```text
//! start ──▶ serving ──shutdown──▶ draining: nobody new, GoAway to backends, what is in flight is finished
//!                                    └──quiet, or drain time over──▶ stopped: links close, tasks end
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use imlink_protocol::device::LinkKind;
use imlink_protocol::link::backend::State;
use imlink_store::{Store, lease};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::core::Core;
use crate::handle::Route;
use crate::outgoing::Outgoing;
use crate::push::settle;
use crate::tls::{Certificates, TlsError};
use crate::{backend, call, http, login, node, sweep};

/// Why a route does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The store cannot be used.
    #[error("{0}")]
    Store(#[from] imlink_store::Error),
    /// A listener cannot be opened.
    #[error("cannot listen on {address} for {what}: {error}")]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// No thread for handshakes can be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The route's own key is not believed in the cluster.
    #[error("route {name:?} cannot link with IM-servers: {why}")]
    Member {
        /// Its name.
        name: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The certificate cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The operating system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// A route that was started.
pub struct Running {
    /// Its handle.
    pub route: Route,
    /// Where HTTP is served.
    pub http: Option<SocketAddr>,
    /// Where backends link.
    pub backend: Option<SocketAddr>,
    /// Where IM-servers link.
    pub node: Option<SocketAddr>,
    /// Where devices log in.
    pub device: Option<SocketAddr>,
    /// Where devices without a key log in.
    pub plain: Option<SocketAddr>,
    left: JoinHandle<()>,
}

impl Running {
    /// Ends when the route has left after its shutdown.
    pub async fn finished(self) {
        // The task neither panics nor is it aborted.
        let _ = self.left.await;
    }
}

/// Runs a route over the store that `config` names, until `shutdown` and the drain after it.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), StartError> {
    config.check()?;
    let store = match config.store.as_str() {
        "memory" => Store::memory(imlink_store::Config::default()),
        url => Store::redis(url, imlink_store::Config::default()).await?,
    };
    start(config, store, Registry::default(), shutdown).await?.finished().await;
    Ok(())
}

/// Starts a route over `store`. Everything listens when this returns. `registry` holds what `/metrics`
/// shows beside the route's own.
pub async fn start(
    mut config: Config,
    store: Store,
    registry: Registry,
    shutdown: CancellationToken,
) -> Result<Running, StartError> {
    config.check()?;
    let certificates = config.tls.as_ref().map(Certificates::load).transpose()?.map(Arc::new);
    let device = listen("devices", config.device_listen).await?;
    let plain = listen("devices without a key", config.plain_listen).await?;
    let node = listen("IM-servers", config.node_listen).await?;
    let backend = listen("backends", config.backend_listen).await?;
    let http = listen("HTTP", config.http_listen).await?;
    if let Some((_, bound)) = &device {
        config.device_address.get_or_insert_with(|| bound.to_string());
    }
    if let Some(key) = config.node_key.as_ref().filter(|_| node.is_some()) {
        let why = node::enrol_self(&store, &config.name, key).await?;
        why.map_or(Ok(()), |why| Err(StartError::Member { name: config.name.clone(), why }))?;
    }
    let incarnation = getrandom::u64()?.max(1);
    let drain = Duration::from_secs(config.limits.drain_s.into());
    let lease = node.as_ref().map(|(_, bound)| lease::Route {
        name: config.name.clone(),
        incarnation,
        node_address: config.node_address.clone().unwrap_or_else(|| bound.to_string()),
    });

    let core = Arc::new(Core::new(config, store, incarnation, shutdown));
    let route = Route::new(core.clone());
    core.tasks.spawn(sweep::sweep(core.clone()));
    core.tasks.spawn(node::keep_leases(core.clone(), lease));
    core.tasks.spawn(node::hear_known_servers(core.clone()));
    let address = |listener: &Option<(TcpListener, SocketAddr)>| listener.as_ref().map(|(_, at)| *at);
    let addresses = (address(&http), address(&backend), address(&node), address(&device), address(&plain));
    if device.is_some() || plain.is_some() {
        let login = login::Logins::start(core.clone()).map_err(StartError::Thread)?;
        for (listener, kind) in [(device, LinkKind::Sealed), (plain, LinkKind::Plain)] {
            if let Some((listener, _)) = listener {
                core.tasks.spawn(login.clone().listen(listener, kind));
            }
        }
    }
    if let Some((listener, _)) = node {
        core.tasks.spawn(node::watch_members(core.clone()));
        core.tasks.spawn(node::listen(core.clone(), listener));
    }
    if let Some(certificates) = &certificates {
        core.tasks.spawn(certificates.clone().follow(core.stopped.clone()));
    }
    if let Some((listener, _)) = backend {
        core.tasks.spawn(backend::listen(core.clone(), listener, certificates.clone()));
    }
    if let Some((listener, _)) = http {
        core.tasks.spawn(http::serve(route.clone(), listener, certificates, registry, core.draining.clone()));
    }
    let left = tokio::spawn(leave(core, drain));
    let (http, backend, node, device, plain) = addresses;
    Ok(Running { route, http, backend, node, device, plain, left })
}

async fn listen(
    what: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let error = |error| StartError::Listen { what, address, error };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    Ok(Some((listener, bound)))
}

async fn leave(core: Arc<Core>, drain: Duration) {
    core.draining.cancelled().await;
    let over = Instant::now() + drain;
    let mut quiet_since = Instant::now();
    while Instant::now() < over {
        if core.in_flight() > 0 {
            quiet_since = Instant::now();
        } else if quiet_since.elapsed() > QUIET {
            break;
        }
        tokio::time::sleep(QUIET / 10).await;
    }
    core.is_settled.store(false, Ordering::Relaxed);
    answer_the_rest(&core);
    core.stopped.cancel();
    core.tasks.close();
    // What does not end by itself now waits for a store that is away; nobody waits for it.
    let _ = tokio::time::timeout(STOP_MAX, core.tasks.wait()).await;
}

/// The drain time is over: whoever still waits hears what can be said.
fn answer_the_rest(core: &Core) {
    let mut out = Outgoing::default();
    let now = Instant::now();
    core.waiters.take_all(|waiter| settle(core, waiter, State::Unknown, now, &mut out));
    for server in core.servers.links() {
        call::link_lost(core, server.incarnation);
    }
}

/// Without a request for this long, backends have understood that the route leaves.
const QUIET: Duration = Duration::from_millis(300);
/// Longest wait for tasks after everything was told to stop.
const STOP_MAX: Duration = Duration::from_secs(5);

//! The connections of the HTTP API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guard::Peer;
use super::metrics::Metrics;
use crate::Route;
use crate::tls::Certificates;

/// Connections at one time; the next one is closed at once.
const CONNECTIONS_MAX: usize = 8192;
/// From the first byte a connection may send, or the end of its last request, to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest head of a request, in bytes.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Pause after a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An address that others could reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not a loopback address; without TLS imlink listens on 127.0.0.1 or [::1] only \
     (give tls_cert and tls_key, or reach it from elsewhere through ssh -L)"
)]
pub struct NotLoopback(pub SocketAddr);

/// Refuses addresses that others could reach.
pub fn check_loopback(address: SocketAddr) -> Result<(), NotLoopback> {
    if address.ip().is_loopback() { Ok(()) } else { Err(NotLoopback(address)) }
}

/// Serves the API on `listener`, over TLS if there are certificates, until `shutdown`, then lets the requests in flight finish, at most
/// `drain_s` of the route's limits. `registry` holds what else `/metrics` shows.
pub(crate) async fn serve(
    route: Route,
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    registry: Registry,
    shutdown: CancellationToken,
) {
    let address = listener.local_addr().map(check_loopback);
    if let (Ok(Err(error)), None) = (address, &certificates) {
        tracing::error!(%error, "the HTTP API is not served");
        return;
    }
    let drain = Duration::from_secs(route.limits().drain_s.into());
    let (router, metrics) = super::router(route, registry, super::REQUESTS_MAX, shutdown.clone());
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection to the HTTP API was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match connections.clone().try_acquire_owned() {
            Ok(permit) => {
                let connection =
                    Connection { peer: Peer(peer), router: router.clone(), metrics: metrics.clone(), _permit: permit };
                tasks.spawn(connection.accept(stream, certificates.clone(), shutdown.clone()));
            }
            Err(_) => {
                metrics.connections_refused.inc();
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
        tracing::warn!(left = tasks.len(), "requests over HTTP were still in flight at the end of the drain time");
    }
}

/// One connection.
struct Connection {
    peer: Peer,
    router: Router,
    metrics: Metrics,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn accept(self, stream: TcpStream, certificates: Option<Arc<Certificates>>, shutdown: CancellationToken) {
        let _ = stream.set_nodelay(true);
        match certificates {
            None => self.serve(stream, shutdown).await,
            Some(certificates) => match certificates.accept(stream).await {
                Ok(stream) => self.serve(stream, shutdown).await,
                Err(error) => tracing::debug!(%error, "a connection to the HTTP API did not become a TLS one"),
            },
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, shutdown: CancellationToken) {
        self.metrics.connections.inc();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_LEN_MAX);
        let (router, peer) = (TowerToHyperService::new(self.router), self.peer);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        let served = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(served);
        let result = tokio::select! {
            result = served.as_mut() => result,
            () = shutdown.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection to the HTTP API ended early");
        }
        self.metrics.connections.dec();
    }
}

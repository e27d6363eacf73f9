//! Leases: what lives is in the store, and stays there while somebody hears it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use imlink_store::lease;

use super::servers::ServerLink;
use crate::core::Core;

/// Puts `server` into the store now.
pub(super) fn put(core: &Arc<Core>, server: &Arc<ServerLink>) {
    let (shared, server) = (core.clone(), server.lease());
    core.tasks.spawn(async move {
        if let Err(error) = shared.store.register_server(&server, LEASE).await {
            tracing::warn!(server = %server.name, %error, "the lease of an IM-server waits for the store");
        }
    });
}

/// Renews the leases of `route` and of every server that is heard, until the route leaves; then takes
/// the route's own out.
pub(crate) async fn keep_leases(core: Arc<Core>, route: Option<lease::Route>) {
    let mut recoveries = core.store.outages();
    loop {
        renew(&core, route.as_ref()).await;
        let recovered = async {
            if recoveries.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(RENEW) => {}
            () = recovered => {}
            () = core.draining.cancelled() => break,
        }
    }
    // IM-servers must not dial a route that leaves.
    if let Some(route) = route {
        let removed = core.store.remove_route(&route.name, route.incarnation);
        if !matches!(tokio::time::timeout(REMOVE_MAX, removed).await, Ok(Ok(_))) {
            tracing::warn!("the route's lease could not be removed; it ends by itself");
        }
    }
    // Servers stay alive while this route serves what is in flight.
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEW) => renew(&core, None).await,
            () = core.stopped.cancelled() => return,
        }
    }
}

async fn renew(core: &Core, route: Option<&lease::Route>) {
    if let Some(route) = route
        && let Err(error) = core.store.register_route(route, LEASE).await
    {
        tracing::warn!(%error, "the route's lease waits for the store");
        return;
    }
    let cached = core.devices.len();
    core.metrics.devices_cached.set(i64::try_from(cached).unwrap_or(i64::MAX));
    let now = Instant::now();
    for link in core.servers.links() {
        if link.silence(now) < HEARD_WITHIN
            && let Err(error) = core.store.register_server(&link.lease(), LEASE).await
        {
            tracing::warn!(server = %link.name, %error, "the lease of an IM-server waits for the store");
            return;
        }
    }
}

/// Waits until every server that the store knows is linked, or long enough; then the route is ready.
pub(crate) async fn hear_known_servers(core: Arc<Core>) {
    let give_up = Instant::now() + SETTLE_MAX;
    while Instant::now() < give_up {
        let asked = tokio::time::timeout(SETTLE_MAX, core.store.servers()).await;
        if let Ok(Ok(known)) = asked
            && known.iter().all(|server| core.servers.link(server.incarnation).is_some())
        {
            break;
        }
        tokio::time::sleep(SETTLE_POLL).await;
    }
    core.is_settled.store(true, Ordering::Relaxed);
}

/// Length of a lease.
const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);
/// A server not heard for this long is not renewed.
const HEARD_WITHIN: Duration = Duration::from_secs(6);
const SETTLE_MAX: Duration = Duration::from_secs(5);
const SETTLE_POLL: Duration = Duration::from_millis(50);
/// Longest wait for the store at the end.
const REMOVE_MAX: Duration = Duration::from_secs(2);

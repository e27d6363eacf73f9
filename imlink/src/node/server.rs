//! An IM-server of a cluster.

use anyhow::Context;
use imlink_server::{Login, Server};
use imlink_store::node::NodeRole;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::gateway::server_config;
use super::{membership, open_store, ops, shown};
use crate::config::Settings;

/// Runs an IM-server until `shutdown`.
pub(super) async fn run(
    settings: &Settings,
    mut registry: Registry,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        settings.store != "memory",
        "an IM-server of a cluster needs a store that others reach: --store redis://HOST:PORT (on one machine, `imlink gateway` needs none)"
    );
    let store = open_store(settings).await?;
    let metrics = imlink_server::metrics::Metrics::default();
    metrics.register(&mut registry);
    let key = membership::node_key(settings, NodeRole::Server)?;
    let config = imlink_server::Config { node_key: Some(key.clone()), ..server_config(settings, Login::Ticket)? };
    let server = Server::start(config, store.clone(), metrics)?;
    let ops = match settings.ops_listen.address() {
        None => None,
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.with_context(|| {
                format!("cannot listen on {address} for health and metrics; choose another --ops-listen")
            })?)
        }
    };
    let ops_address = ops.as_ref().and_then(|listener| listener.local_addr().ok());
    tracing::info!(
        server = settings.name,
        devices = shown(server.sealed_address()),
        plain = shown(server.plain_address()),
        ops = shown(ops_address),
        "the IM-server listens"
    );
    let stopped = CancellationToken::new();
    let belonging = tokio::spawn(membership::belong(settings.clone(), store, key, stopped.clone()));
    let readiness = server.readiness();
    let serving = ops.map(|listener| tokio::spawn(ops::serve(listener, registry, readiness, stopped.clone())));
    server.run(shutdown, CancellationToken::new()).await;
    stopped.cancel();
    let _ = belonging.await;
    if let Some(serving) = serving {
        let _ = serving.await;
    }
    tracing::info!("the IM-server has left");
    Ok(())
}

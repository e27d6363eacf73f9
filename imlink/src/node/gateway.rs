//! Route, IM-server and store in one process. They speak the node link, as in a cluster, without a socket.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use imlink_server::{Login, Server};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{open_store_of_route, route_config, shown};
use crate::config::Settings;
use crate::keys::{fleet_psks, login_keys};

/// A running gateway.
pub(crate) struct Gateway {
    route: imlink_route::Running,
    server: JoinHandle<()>,
    /// Where devices connect.
    pub(crate) devices: Option<SocketAddr>,
    /// Where devices without a key connect.
    pub(crate) plain: Option<SocketAddr>,
}

impl Gateway {
    /// Starts one, whose metrics join those of `registry`. Everything listens when this returns.
    pub(crate) async fn start(
        settings: &Settings,
        mut registry: Registry,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let store = open_store_of_route(settings).await?;
        let metrics = imlink_server::metrics::Metrics::default();
        metrics.register(&mut registry);
        let server = Server::start(server_config(settings, Login::Direct)?, store.clone(), metrics)?;
        let (devices, plain) = (server.sealed_address(), server.plain_address());
        let mut config = route_config(settings, false)?;
        config.device_address = config.device_address.or(devices.map(|devices| devices.to_string()));
        let route = imlink_route::start(config, store, registry, shutdown.clone()).await?;
        let (here, there) = imlink_link::pair(imlink_link::OUTBOX_LEN_DEFAULT);
        route.route.accept_link(&settings.name, here);
        server.add_link(there);
        let server = tokio::spawn(server.run(shutdown, CancellationToken::new()));
        Ok(Self { route, server, devices, plain })
    }

    /// Where HTTP is served.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.route.http
    }

    /// Where backends link.
    pub(crate) fn backend(&self) -> Option<SocketAddr> {
        self.route.backend
    }

    /// Ends when it has left after its shutdown.
    pub(crate) async fn finished(self) -> anyhow::Result<()> {
        self.route.finished().await;
        self.server.await.context("the IM-server ended by a fault")
    }
}

/// What an IM-server is told.
pub(super) fn server_config(settings: &Settings, login: Login) -> anyhow::Result<imlink_server::Config> {
    let keys = match login {
        Login::Direct => Some(Arc::new(login_keys(settings)?)),
        Login::Ticket => None,
    };
    Ok(imlink_server::Config {
        name: settings.name.clone(),
        listen: settings.device_listen.address(),
        advertise: settings.device_address.clone(),
        plain_listen: settings.plain_listen.address(),
        plain_advertise: settings.plain_address.clone(),
        allow_plain: settings.allow_plain,
        labels: settings.labels.clone(),
        login,
        keys,
        fleet_psks: fleet_psks(&settings.fleet_psk)?,
        node_key: None,
        io_threads: settings.io_threads,
        handshake_threads: settings.handshake_threads,
        limits: settings.server.into(),
    })
}

/// Runs a gateway until `shutdown`.
pub(super) async fn run(settings: &Settings, registry: Registry, shutdown: CancellationToken) -> anyhow::Result<()> {
    let gateway = Gateway::start(settings, registry, shutdown).await?;
    tracing::info!(
        store = if settings.store == "memory" { "memory" } else { "redis" },
        http = shown(gateway.http()),
        backends = shown(gateway.backend()),
        devices = shown(gateway.devices),
        plain = shown(gateway.plain),
        "the gateway listens"
    );
    if settings.store == "memory" {
        tracing::warn!("the memory store keeps nothing across a restart; --store redis://HOST:PORT does");
    }
    gateway.finished().await?;
    tracing::info!("the gateway has left");
    Ok(())
}

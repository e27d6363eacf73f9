//! The long-running commands: gateway, route, server.

mod gateway;
mod membership;
mod nodes;
mod ops;
mod redis_acl;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use imlink_route::http::{NotLoopback, check_loopback};
use imlink_store::node::NodeRole;
use imlink_store::{RecordKey, Store};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::cli::NodeArgs;
use crate::config::{ConfigError, Effective, Listen, Role, Settings, Sources, without_password};
use crate::exit::Exit;
use crate::keys::{fleet_psks, login_keys};
use crate::state_dir::{Secret, StateDir};
use crate::{logging, open_files, signals};

pub(crate) use gateway::Gateway;
pub(crate) use nodes::nodes;
pub(crate) use redis_acl::redis_acl;

/// Runs one of the long-running commands until a signal ends it.
pub(crate) fn run(role: Role, args: &NodeArgs) -> anyhow::Result<Exit> {
    let effective = load(role, |environment| args.sources(environment))?;
    if args.print_config {
        print!("{}", effective.print());
        return Ok(Exit::Done);
    }
    let mut settings = effective.settings;
    let plain = if settings.allow_plain { Listen::NONE } else { settings.plain_listen };
    let mut listens = vec![plain, settings.ops_listen];
    if settings.tls()?.is_none() {
        listens.extend([settings.http_listen, settings.backend_listen]);
    }
    if let Some(open) = listens.into_iter().find_map(|listen| check_loopback(listen.address()?).err()) {
        return refuse(&open);
    }
    let log = logging::start(&settings.log_level, settings.log_format)?;
    let mut registry = Registry::default();
    log.register(&mut registry);
    find_secrets(role, &mut settings)?;
    open_files::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = signals::shutdown()?;
        match role {
            Role::Gateway => gateway::run(&settings, registry, shutdown).await,
            Role::Route => route(&settings, registry, shutdown).await,
            Role::Server => server::run(&settings, registry, shutdown).await,
        }
    })?;
    // Tasks that wait for a store that is away have nobody left who waits for them.
    runtime.shutdown_background();
    Ok(Exit::Done)
}

/// The configuration of `role` that the surroundings and `sources` make.
fn load(role: Role, sources: impl FnOnce(Vec<(String, String)>) -> Sources) -> Result<Effective, ConfigError> {
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let variable = |name: &str| std::env::var(name).ok();
    let state_dir = StateDir::default_path(variable).display().to_string();
    let log_level = variable("RUST_LOG").filter(|filter| !filter.is_empty()).unwrap_or_else(|| "info".into());
    let defaults = Settings::of_role(role, state_dir, log_level);
    Effective::load(role, defaults, sources(environment.collect()))
}

fn refuse(open: &NotLoopback) -> anyhow::Result<Exit> {
    eprintln!("imlink: {open}");
    Ok(Exit::Usage)
}

/// Takes secrets that are not configured from the state directory, making them at the first start.
fn find_secrets(role: Role, settings: &mut Settings) -> anyhow::Result<()> {
    let state = StateDir::new(&settings.state_dir);
    let find = |secret, what, text: &mut String| -> anyhow::Result<()> {
        if text.is_empty() {
            let found = state.read_or_make(secret)?;
            if found.is_new {
                tracing::info!(path = %found.path.display(), "made a {what}; it is kept here");
            }
            *text = found.text;
        }
        Ok(())
    };
    // A server is told its own ticket keys by routes, and no others.
    if role == Role::Server {
        return Ok(());
    }
    find(Secret::RouteKey, "key that devices log in to", &mut settings.route_key)?;
    find(Secret::RouteKeyNext, "next key that devices log in to", &mut settings.route_key_next)?;
    if settings.fleet_psk.is_empty() {
        settings.fleet_psk = state.read(Secret::FleetPsk)?.unwrap_or_default();
    }
    let keys = login_keys(settings)?;
    tracing::info!(
        current = %keys.current.public(),
        next = %keys.next.public(),
        "devices must pin these two public keys; `imlink keys show` tells them again"
    );
    find(Secret::Token, "bearer token for backends", &mut settings.token)?;
    find(Secret::Cluster, "secret for the nodes of the cluster", &mut settings.cluster_secret)
}

/// The store that `settings` name, as a route or gateway uses it: it writes and checks the macs over devices' keys.
async fn open_store_of_route(settings: &Settings) -> anyhow::Result<Store> {
    let secrets = [&settings.cluster_secret, &settings.cluster_secret_former];
    let secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
    open_store_with(settings, secrets.map(|secret| RecordKey::derive(secret.as_bytes())).collect()).await
}

/// The store that `settings` name.
async fn open_store(settings: &Settings) -> anyhow::Result<Store> {
    open_store_with(settings, Vec::new()).await
}

async fn open_store_with(settings: &Settings, record_keys: Vec<RecordKey>) -> anyhow::Result<Store> {
    let mut config = imlink_store::Config { record_keys, ..settings.store_limits.into() };
    if !settings.store_ca.is_empty() {
        let path = &settings.store_ca;
        let read = std::fs::read(path);
        config.tls_ca = Some(read.with_context(|| format!("cannot read the certificates for Redis in {path}"))?);
    }
    match settings.store.as_str() {
        "memory" => Ok(Store::memory(config)),
        url if ["redis://", "rediss://", "unix://", "redis+unix://"].iter().any(|scheme| url.starts_with(scheme)) => {
            let opened = Store::redis(url, config).await;
            opened.with_context(|| format!("cannot use the store {}; is it running?", without_password(url)))
        }
        other => anyhow::bail!("store `{other}` is neither memory nor a Redis URL such as redis://127.0.0.1:6379"),
    }
}

/// What a route is told; `node` and `device` listeners only in a cluster.
fn route_config(settings: &Settings, is_cluster: bool) -> anyhow::Result<imlink_route::Config> {
    let in_cluster = |address: Option<SocketAddr>| address.filter(|_| is_cluster);
    let given = |address: &String| Some(address.clone()).filter(|address| !address.is_empty());
    Ok(imlink_route::Config {
        name: settings.name.clone(),
        store: settings.store.clone(),
        http_listen: settings.http_listen.address(),
        backend_listen: settings.backend_listen.address(),
        node_listen: in_cluster(settings.node_listen.address()),
        node_address: given(&settings.node_address),
        device_listen: in_cluster(settings.device_listen.address()),
        plain_listen: in_cluster(settings.plain_listen.address()),
        allow_plain: settings.allow_plain,
        device_address: given(&settings.device_address),
        keys: Some(Arc::new(login_keys(settings)?)),
        fleet_psks: fleet_psks(&settings.fleet_psk)?,
        token: settings.token.clone(),
        server_labels: settings.server_labels.clone(),
        cluster_secret: settings.cluster_secret.clone(),
        node_key: None,
        tls: settings.tls()?,
        limits: settings.route.clone(),
    })
}

async fn route(settings: &Settings, registry: Registry, shutdown: CancellationToken) -> anyhow::Result<()> {
    anyhow::ensure!(
        settings.store != "memory",
        "a route of a cluster needs a store that others reach: --store redis://HOST:PORT (on one machine, `imlink gateway` needs none)"
    );
    let store = open_store_of_route(settings).await?;
    let key = membership::node_key(settings, NodeRole::Route)?;
    membership::keep_join_token(settings, &store).await?;
    let config = imlink_route::Config { node_key: Some(key), ..route_config(settings, true)? };
    let running = imlink_route::start(config, store, registry, shutdown).await?;
    tracing::info!(
        route = settings.name,
        http = shown(running.http),
        backends = shown(running.backend),
        servers = shown(running.node),
        devices = shown(running.device),
        plain = shown(running.plain),
        "the route listens"
    );
    running.finished().await;
    tracing::info!("the route has left");
    Ok(())
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or("none".into(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        assert_eq!(without_password("redis://u:secret@h:1"), "redis://(hidden)@h:1");
        assert_eq!(without_password("redis://h:1"), "redis://h:1");
    }
}

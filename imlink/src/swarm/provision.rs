//! Provisioning many devices over HTTP.

use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use imlink_route::http::{KeysView, NewDevice};
use imlink_swarm::Keys;
use reqwest::Method;

use crate::cli::ClientArgs;
use crate::client::{Api, ClientError};
use crate::keys::known_fleet_psks;
use crate::state_dir::{Secret, StateDir};

/// Requests in flight.
const IN_FLIGHT: usize = 64;
/// What one may take.
const WAIT: Duration = Duration::from_secs(10);

/// Provisions `ids` with their keys, or as plain devices; ends at the first refusal.
pub(crate) async fn provision(api: &Api, ids: &[String], keys: Option<&Keys>) -> Result<(), ClientError> {
    let one = |id: &String| {
        let device = match keys {
            Some(keys) => NewDevice::of_key(keys.private_key(id).public()),
            None => NewDevice::PLAIN,
        };
        let request = api.request(Method::PUT, &format!("/v1/devices/{id}"), Some(WAIT)).json(&device);
        async move { api.ask(request).await?.bytes().await.map_err(|error| api.unreachable(&error)) }
    };
    stream::iter(ids.iter().map(one)).buffer_unordered(IN_FLIGHT).try_for_each(async |_| Ok(())).await
}

/// The keys of a fleet: its own secret, made once on this machine and kept in the state directory, and what the gateway
/// or route tells.
pub(super) async fn keys(api: &Api, client: &ClientArgs, tenant: &str) -> Result<Keys, ClientError> {
    let view: KeysView = api.ask_json(api.request(Method::GET, "/v1/keys", Some(WAIT))).await?;
    let path = client.state_dir.clone();
    let path = path.unwrap_or_else(|| StateDir::default_path(|name| std::env::var(name).ok()));
    let state = StateDir::new(&path);
    let secret = state.read_or_make(Secret::Swarm)?.text;
    let secret =
        secret.trim().parse().map_err(|why| anyhow::anyhow!("the secret of the swarm in {} {why}", path.display()))?;
    let psk = match view.fleet_psk {
        false => None,
        true => Some(known_fleet_psks(&state)?.remove(tenant).with_context(|| {
            format!("devices of this fleet need its secret, which is not in {}; set IMLINK_FLEET_PSK", path.display())
        })?),
    };
    Ok(Keys { secret, route_keys: route_keys(&view)?, psk })
}

/// The keys that devices pin, as the gateway or route tells them.
pub(crate) fn route_keys(view: &KeysView) -> anyhow::Result<[imlink_protocol::key_pair::PublicKey; 2]> {
    let key = |text: &str| text.parse().map_err(|why| anyhow::anyhow!("a key that the route told {why}"));
    Ok([key(&view.current)?, key(&view.next)?])
}

//! Provisioning many devices over HTTP, as plain ones.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use imlink_route::http::NewDevice;
use reqwest::Method;

use crate::client::{Api, ClientError};

/// Requests in flight.
const IN_FLIGHT: usize = 64;
/// What one may take.
const WAIT: Duration = Duration::from_secs(10);

/// Provisions `ids`; ends at the first refusal.
pub(crate) async fn provision(api: &Api, ids: &[String]) -> Result<(), ClientError> {
    let one = |id: &String| {
        let request = api.request(Method::PUT, &format!("/v1/devices/{id}"), Some(WAIT)).json(&NewDevice::PLAIN);
        async move { api.ask(request).await?.bytes().await.map_err(|error| api.unreachable(&error)) }
    };
    stream::iter(ids.iter().map(one)).buffer_unordered(IN_FLIGHT).try_for_each(async |_| Ok(())).await
}

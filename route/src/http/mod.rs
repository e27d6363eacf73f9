//! The HTTP API of a route or gateway: JSON under `/v1`, health and metrics.
//!
//! ```text
//! TCP ─▶ serve: connections ≤ limit, header time-out ─▶ guard: token · rate · requests ≤ limit ─▶ rules: scope
//!                                        refusals of any kind ─▶ problem details (RFC 9457)   handler ─▶ Route
//! ```
//!
//! Without TLS it listens on loopback only: no byte of it leaves the machine. A connection that
//! ends cancels no message that was begun: the route carries it on in a task of its own.

mod audit;
mod blobs;
mod calls;
mod devices;
mod events;
mod guard;
mod messages;
mod metrics;
mod openapi;
mod ops;
mod payload;
mod problem;
mod query;
mod rules;
mod serve;
mod tokens;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Route;
use metrics::Metrics;
use rules::Rules;

pub use audit::{AuditList, AuditView};
pub use blobs::BlobView;
pub use devices::{NewDevice, NewKey, ProofName};
pub use ops::METRICS_TYPE;
pub use payload::JsonPayload;
pub use problem::{CONTENT_TYPE as PROBLEM_TYPE, More, Problem};
pub(crate) use serve::serve;
pub use serve::{NotLoopback, check_loopback};
pub use tokens::{NewToken, NewTokenView, TokenList, TokenView};
pub use views::{
    DeviceList, DeviceView, EventView, KeysView, MailboxView, MessageView, PathView, ServerList, ServerView,
    SessionView,
};

/// Requests in flight over HTTP; the next one is refused as `overloaded`.
const REQUESTS_MAX: usize = 4096;

/// What the handlers share.
struct Api {
    route: Route,
    registry: Registry,
    metrics: Metrics,
    permits: Arc<Semaphore>,
    requests_max: usize,
    openapi: Bytes,
    rules: Rules,
    shutdown: CancellationToken,
}

/// Every endpoint, with its description.
fn endpoints() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(devices::list))
        .routes(routes!(devices::put, devices::get, devices::delete))
        .routes(routes!(devices::put_next_key))
        .routes(routes!(devices::revoke))
        .routes(routes!(devices::restore))
        .routes(routes!(devices::keys))
        .routes(routes!(messages::post, messages::get, messages::delete))
        .routes(routes!(calls::post))
        .routes(routes!(blobs::put, blobs::get))
        .routes(routes!(events::get))
        .routes(routes!(events::commit))
        .routes(routes!(tokens::list, tokens::post))
        .routes(routes!(tokens::get, tokens::delete))
        .routes(routes!(audit::get))
        .routes(routes!(ops::servers))
        .routes(routes!(ops::openapi))
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
        .routes(routes!(ops::metrics))
}

/// The API over `route`; `registry` holds what else `/metrics` shows.
fn router(route: Route, mut registry: Registry, requests_max: usize, shutdown: CancellationToken) -> (Router, Metrics) {
    route.metrics(&mut registry);
    let metrics = Metrics::new(&mut registry);
    let (router, document) = endpoints().split_for_parts();
    // The document is strings, numbers and maps with text keys.
    let document = serde_json::to_value(openapi::complete(document)).unwrap_or_default();
    let api = Arc::new(Api {
        route,
        registry,
        metrics: metrics.clone(),
        permits: Arc::new(Semaphore::new(requests_max)),
        requests_max,
        rules: Rules::of(&document),
        openapi: document.to_string().into(),
        shutdown,
    });
    let enforce = axum::middleware::from_fn_with_state(api.clone(), rules::enforce);
    let inner = router.route_layer(enforce).with_state(api.clone());
    // The guard stands outside of the router, so that it sees the `Allow` header of a 405.
    let guard = axum::middleware::from_fn_with_state(api, guard::guard);
    (Router::new().fallback_service(inner).layer(guard), metrics)
}

#[cfg(test)]
mod tests;

//! For those who run it: `/v1/servers`, `/healthz`, `/readyz`, `/metrics`, `/v1/openapi.json`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Api;
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Query;
use super::views::{ServerList, ServerView};
use crate::request::Failure;

/// Content type of `/metrics`.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// IM-servers linked to this route, with their load.
#[utoipa::path(
    get, path = "/v1/servers", tag = "operation", security(("token" = ["servers"])),
    responses((status = 200, description = "the servers", body = ServerList), Refusals),
)]
pub(super) async fn servers(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Json<ServerList>, Problem> {
    Query::new(query.as_deref(), &[])?;
    Ok(Json(ServerList {
        route: api.route.name().into(),
        servers: api.route.servers().into_iter().map(ServerView::from).collect(),
    }))
}

/// Whether the process lives. Needs no token.
#[utoipa::path(
    get, path = "/healthz", tag = "operation", security(()),
    responses((status = 200, description = "it lives", body = str, content_type = "text/plain")),
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests should be sent here: the IM-servers are known and the route does not leave. Needs no token.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", security(()),
    responses(
        (status = 200, description = "ready", body = str, content_type = "text/plain"),
        (status = 503, description = "not ready", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Response {
    if api.shutdown.is_cancelled() {
        Problem::new(Failure::Draining, "the route is leaving").into_response()
    } else if api.route.is_ready() {
        "ok\n".into_response()
    } else {
        Problem::named("not-ready", 503, "the IM-servers are not known yet")
            .after(Duration::from_secs(1))
            .into_response()
    }
}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security(("token" = ["metrics"])),
    responses((status = 200, description = "all metrics", body = str, content_type = "text/plain"), Refusals),
)]
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &api.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// This document.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "operation", security(("token" = [])),
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"), Refusals),
)]
pub(super) async fn openapi(State(api): State<Arc<Api>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.openapi.clone()).into_response()
}

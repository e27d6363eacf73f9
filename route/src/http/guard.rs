//! What stands before every handler: the token, its rate, the limit of requests, and one form for all refusals;
//! and behind every handler: the audit record of what it changed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::{CONTENT_TYPE, Problem};
use super::rules::Rule;
use crate::access::Caller;
use crate::request::Failure;

/// What a refused client is told to wait.
const RETRY: Duration = Duration::from_secs(1);
/// Header by which the token of the configuration acts in another tenant.
pub(super) const TENANT_HEADER: &str = "imlink-tenant";

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What a handler changed; left in its answer's extensions, it becomes an audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// What was done, such as `token-added`.
    pub(super) what: &'static str,
    /// To what: an id, never a secret.
    pub(super) object: String,
}

/// Token, rate, room, then the handler; then the audit record, the refusal's form and the count.
pub(super) async fn guard(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let from = request.extensions().get::<Peer>().map_or("unknown".into(), |peer| peer.0.to_string());
    let response = match admit(&api, &method, &path, request.headers()).await {
        Err(problem) => problem.into_response(),
        Ok(None) => next.run(request).await,
        Ok(Some((caller, permit))) => {
            request.extensions_mut().insert(caller.clone());
            let mut response = next.run(request).await;
            if let Some(Change { what, object }) = response.extensions_mut().remove() {
                api.route.audit(&caller, what, object, from);
            }
            drop(permit);
            response
        }
    };
    let response = as_problem(response, method.as_str(), &path);
    api.metrics.count(response.status());
    response
}

type Admitted = Option<(Arc<Caller>, tokio::sync::OwnedSemaphorePermit)>;

async fn admit(api: &Arc<Api>, method: &Method, path: &str, headers: &HeaderMap) -> Result<Admitted, Problem> {
    if api.rules.find(method, path) == Some(Rule::Open) {
        return Ok(None);
    }
    let caller = authenticate(api, headers).await?;
    caller.take_rate(Instant::now())?;
    if api.shutdown.is_cancelled() {
        let detail = "the route is leaving; ask another one, or here later";
        return Err(Problem::new(Failure::Draining, detail).after(RETRY));
    }
    match api.permits.clone().try_acquire_owned() {
        Ok(permit) => Ok(Some((caller, permit))),
        Err(_) => {
            let detail =
                format!("{} requests are in flight, the most this route takes; come back later", api.requests_max);
            Err(Problem::new(Failure::Overloaded, detail).after(RETRY))
        }
    }
}

async fn authenticate(api: &Api, headers: &HeaderMap) -> Result<Arc<Caller>, Problem> {
    let refuse = |detail| Err(Problem::new(Failure::Unauthorized, detail));
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return refuse("no token; send `Authorization: Bearer TOKEN` with the token of the gateway or route");
    };
    let bearer = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let Some(bearer) = bearer else { return refuse("`Authorization` is not of the form `Bearer TOKEN`") };
    let tenant = match headers.get(TENANT_HEADER).map(|tenant| tenant.to_str()) {
        None => "",
        Some(Ok(tenant)) => tenant,
        Some(Err(_)) => return Err(Problem::new(Failure::BadRequest, "`Imlink-Tenant` is not the name of a tenant")),
    };
    Ok(api.route.authenticate(bearer, tenant).await?)
}

/// Gives refusals that are not imlink's own (unknown path, wrong method, bad parameters) the common form.
fn as_problem(response: Response, method: &str, path: &str) -> Response {
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == CONTENT_TYPE);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut problem = match status {
        StatusCode::NOT_FOUND => {
            Problem::new(Failure::NotFound, format!("there is no `{path}` here; /v1/openapi.json lists what there is"))
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::named("method-not-allowed", 405, format!("`{path}` does not take {method}"))
        }
        StatusCode::BAD_REQUEST => Problem::new(Failure::BadRequest, format!("`{path}` is not percent-encoded UTF-8")),
        status if status.is_client_error() => {
            Problem::named("bad-request", status.as_u16(), format!("{method} `{path}` was refused"))
        }
        status => {
            let mut problem = Problem::new(Failure::Internal, "an error of imlink's own; its log says more");
            problem.status = status.as_u16();
            problem
        }
    };
    let allow = response.headers().get(header::ALLOW).cloned();
    if let Some(allowed) = allow.as_ref().and_then(|allow| allow.to_str().ok()) {
        problem.detail.push_str(&format!("; allowed: {allowed}"));
        problem = problem.allowing(allowed.split(',').map(str::trim));
    }
    let mut answer = problem.into_response();
    if let Some(allow) = allow {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    answer
}

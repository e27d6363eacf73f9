//! What stands before every handler: the token, the limit of requests, and one form for all refusals.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::{CONTENT_TYPE, Problem};
use crate::request::Failure;

/// Paths that need no token.
const OPEN: &[&str] = &["/healthz", "/readyz"];
/// What a refused client is told to wait.
const RETRY: Duration = Duration::from_secs(1);

/// Token, then room, then the handler; then the refusal's form and the count.
pub(super) async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = match admit(&api, &request) {
        Err(problem) => problem.into_response(),
        Ok(None) => next.run(request).await,
        Ok(Some(permit)) => {
            let response = next.run(request).await;
            drop(permit);
            response
        }
    };
    let response = as_problem(response, method.as_str(), &path);
    api.metrics.count(response.status());
    response
}

fn admit(api: &Arc<Api>, request: &Request) -> Result<Option<tokio::sync::OwnedSemaphorePermit>, Problem> {
    if OPEN.contains(&request.uri().path()) {
        return Ok(None);
    }
    authorize(api, request)?;
    if api.shutdown.is_cancelled() {
        let detail = "the route is leaving; ask another one, or here later";
        return Err(Problem::new(Failure::Draining, detail).after(RETRY));
    }
    match api.permits.clone().try_acquire_owned() {
        Ok(permit) => Ok(Some(permit)),
        Err(_) => {
            let detail =
                format!("{} requests are in flight, the most this route takes; come back later", api.requests_max);
            Err(Problem::new(Failure::Overloaded, detail).after(RETRY))
        }
    }
}

fn authorize(api: &Api, request: &Request) -> Result<(), Problem> {
    let refuse = |detail| Err(Problem::new(Failure::Unauthorized, detail));
    let Some(value) = request.headers().get(header::AUTHORIZATION) else {
        return refuse("no token; send `Authorization: Bearer TOKEN` with the token of the gateway or route");
    };
    let bearer = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    match bearer {
        None => refuse("`Authorization` is not of the form `Bearer TOKEN`"),
        Some(token) if api.route.is_token(token) => Ok(()),
        Some(_) => refuse("the token is not the one of this gateway or route"),
    }
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

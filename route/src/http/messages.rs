//! `/v1/devices/{id}/messages`: what a device is told, stored until it acknowledged.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use imlink_protocol::id::{MessageId, check_path};

use super::devices::device_id;
use super::openapi::Refusals;
use super::payload::JsonPayload;
use super::problem::Problem;
use super::query::Query;
use super::views::{MessageView, is_final, state_name};
use super::{Api, payload};
use crate::access::Caller;
use crate::request::{Device, Failure, Kind, Send, Wait};

/// Longest `Idempotency-Key`, in bytes.
const IDEMPOTENCY_KEY_LEN_MAX: usize = 64;

/// Store a message for a device.
///
/// A client that hangs up cancels nothing: once begun, the message is stored and delivered. With
/// `wait=acked` the answer comes when the device acknowledged, the message came to another end, or
/// `timeout` is over; the state says which.
#[utoipa::path(
    post, path = "/v1/devices/{id}/messages/{*path}", tag = "messages", security(("token" = ["send"])),
    params(
        ("id" = String, Path, description = "device id"),
        ("path" = String, Path, description = "path such as led/set; slashes as they are"),
        ("wait" = Option<String>, Query, description = "stored (default) or acked"),
        ("ttl" = Option<u32>, Query, description = "lifetime in seconds, 0 for ever; default: the route's ttl_default_s"),
        ("timeout" = Option<f64>, Query, description = "longest wait for the answer, in seconds; default: the route's timeout_default_s"),
        ("Idempotency-Key" = Option<String>, Header, description = "1–64 bytes of visible ASCII: the same key within 24 h gives the first message again"),
    ),
    request_body(content((Vec<u8> = "application/octet-stream"), (JsonPayload = "application/json"))),
    responses(
        (status = 200, description = "stored, and came to an end that nothing changes any more", body = MessageView),
        (status = 202, description = "stored; `Location` is where its state can be read", body = MessageView),
        Refusals,
    ),
)]
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path((id, path)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let query = Query::new(query.as_deref(), &["wait", "ttl", "timeout"])?;
    let limits = api.route.limits();
    let timeout_max = Duration::from_secs(limits.timeout_max_s.into());
    let send = Send {
        tenant: caller.tenant.to_string(),
        device: device_id(id)?,
        path: checked_path(path)?,
        ttl_s: query.number("ttl", 0, u32::MAX)?,
        wait: wait(&query)?,
        timeout: query.seconds("timeout", timeout_max)?,
        idempotency_key: idempotency_key(&headers)?,
        token: caller.token,
        payload: payload::read(&headers, body, limits.payload_len_max).await?,
    };
    let device = send.device.clone();
    let sent = match api.route.send(send).await {
        Ok(sent) => sent,
        Err(failed) => return Err(naming_paths(&api, &caller, &device, Kind::Message, failed.into()).await),
    };
    let status = if is_final(sent.state) { StatusCode::OK } else { StatusCode::ACCEPTED };
    let location = [(header::LOCATION, format!("/v1/devices/{device}/messages/{}", sent.id))];
    Ok((status, location, Json(MessageView::new(sent.id, sent.state))).into_response())
}

/// State of a message.
#[utoipa::path(
    get, path = "/v1/devices/{id}/messages/{*path}", tag = "messages", security(("token" = ["state"])),
    params(
        ("id" = String, Path, description = "device id"),
        ("path" = String, Path, description = "the message's id, generation-sequence"),
    ),
    responses((status = 200, description = "its state", body = MessageView), Refusals),
)]
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path((device, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<MessageView>, Problem> {
    Query::new(query.as_deref(), &[])?;
    let (device, id) = (device_id(device)?, message_id(&id)?);
    let state = api.route.state(&caller.tenant, &device, id).await?;
    Ok(Json(MessageView::new(id, state)))
}

/// Take a message back that did not reach the device.
#[utoipa::path(
    delete, path = "/v1/devices/{id}/messages/{*path}", tag = "messages", security(("token" = ["cancel"])),
    params(
        ("id" = String, Path, description = "device id"),
        ("path" = String, Path, description = "the message's id, generation-sequence"),
    ),
    responses((status = 200, description = "taken back: `cancelled`", body = MessageView), Refusals),
)]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path((device, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<MessageView>, Problem> {
    Query::new(query.as_deref(), &[])?;
    let (device, id) = (device_id(device)?, message_id(&id)?);
    match api.route.cancel(&caller.tenant, &device, id).await {
        Ok(state) => Ok(Json(MessageView::new(id, state))),
        Err(failed) => {
            let is_conflict = failed.failure == Failure::Conflict;
            let mut problem = Problem::from(failed);
            if is_conflict {
                let state = api.route.state(&caller.tenant, &device, id).await;
                problem.more.state = state.ok().map(|state| state_name(state).into());
            }
            Err(problem)
        }
    }
}

/// Lists what the device takes, when the path was not among it.
pub(super) async fn naming_paths(api: &Api, caller: &Caller, device: &str, kind: Kind, problem: Problem) -> Problem {
    if problem.name() != Failure::UnknownPath.name() {
        return problem;
    }
    match api.route.identity(&caller.tenant, device).await {
        Ok(Device { paths: Some(paths), .. }) => {
            problem.allowing(paths.into_iter().filter(|(of, _)| *of == kind).map(|(_, path)| path))
        }
        _ => problem,
    }
}

/// `path` if it is one.
pub(super) fn checked_path(path: String) -> Result<String, Problem> {
    match check_path(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(Problem::new(Failure::BadRequest, format!("path `{path}` {error}"))),
    }
}

fn message_id(text: &str) -> Result<MessageId, Problem> {
    let wrong = |error| Problem::new(Failure::BadRequest, format!("`{text}` {error}"));
    text.parse().map_err(wrong)
}

fn wait(query: &Query) -> Result<Wait, Problem> {
    match query.text("wait") {
        None | Some("stored") => Ok(Wait::Stored),
        Some("acked") => Ok(Wait::Acked),
        Some(other) => {
            let detail = format!("`wait={other}` is not known; allowed: stored, acked");
            Err(Problem::new(Failure::BadRequest, detail).allowing(["stored", "acked"]))
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let is_allowed = |key: &&str| {
        (1..=IDEMPOTENCY_KEY_LEN_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match value.to_str().ok().filter(is_allowed) {
        Some(key) => Ok(Some(key.into())),
        None => Err(Problem::new(
            Failure::BadRequest,
            format!("`Idempotency-Key` must have 1 to {IDEMPOTENCY_KEY_LEN_MAX} bytes of visible ASCII"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn an_idempotency_key_has_its_form_or_is_refused() {
        let of = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            idempotency_key(&[("idempotency-key".parse().unwrap(), value)].into_iter().collect())
        };
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(of(b"order-1"), Ok(Some("order-1".into())));
        for wrong in [&b""[..], b"a b", &[b'x'; 65], "é".as_bytes()] {
            assert_eq!(of(wrong).unwrap_err().status, 400, "{wrong:?}");
        }
    }
}

//! `/v1/devices/{id}/calls`: questions to a device, answered or failed, never stored.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::devices::device_id;
use super::messages::{checked_path, naming_paths};
use super::openapi::Refusals;
use super::payload::{Form, JsonPayload};
use super::problem::Problem;
use super::query::Query;
use super::{Api, payload};
use crate::access::Caller;
use crate::request::{Call, Code, Failure, Kind, Replied};

/// Ask a device and wait for its answer.
///
/// Runs at most once, and starts before its deadline or not at all. Every refusal tells with `may_have_run`
/// whether it may have run all the same.
#[utoipa::path(
    post, path = "/v1/devices/{id}/calls/{*path}", tag = "calls", security(("token" = ["call"])),
    params(
        ("id" = String, Path, description = "device id"),
        ("path" = String, Path, description = "path such as led/get; slashes as they are"),
        ("timeout" = Option<f64>, Query, description = "time to the deadline, in seconds; default: the route's timeout_default_s"),
        ("Accept" = Option<String>, Header, description = "application/octet-stream or application/json; default: the form of the request"),
    ),
    request_body(content((Vec<u8> = "application/octet-stream"), (JsonPayload = "application/json"))),
    responses(
        (status = 200, description = "the device's answer", content(
            (Vec<u8> = "application/octet-stream"), (JsonPayload = "application/json"),
        )),
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
    let query = Query::new(query.as_deref(), &["timeout"])?;
    let limits = api.route.limits();
    let timeout_max = Duration::from_secs(limits.timeout_max_s.into());
    let call = Call {
        tenant: caller.tenant.to_string(),
        device: device_id(id)?,
        path: checked_path(path)?,
        timeout: query.seconds("timeout", timeout_max)?,
        payload: payload::read(&headers, body, limits.payload_len_max).await?,
    };
    let device = call.device.clone();
    let problem = match api.route.call(call).await {
        Ok(replied) if replied.status == Code::OK => return Ok(Form::of_answer(&headers).answer(replied.payload)),
        Ok(replied) => device_problem(&replied),
        Err(failed) => failed.into(),
    };
    Err(naming_paths(&api, &caller, &device, Kind::Call, problem).await)
}

/// How a device's own refusal is told.
fn device_problem(replied: &Replied) -> Problem {
    let (name, status, ran) = match replied.status {
        Code::UNKNOWN_PATH => (Failure::UnknownPath.name(), 404, false),
        Code::BAD_PAYLOAD => ("bad-payload", 422, false),
        Code::DEADLINE => (Failure::Deadline.name(), 504, false),
        Code::BUSY => (Failure::Busy.name(), 429, false),
        Code::TOO_LARGE => (Failure::TooLarge.name(), 413, false),
        _ => ("device-error", 502, true),
    };
    let mut problem = Problem::named(name, status, format!("the device answered {}", replied.status));
    problem.more.may_have_run = Some(ran);
    problem.more.code = Some(replied.status.0);
    if !replied.payload.is_empty() {
        problem.more.payload_base64 = Some(payload::base64(&replied.payload));
    }
    if replied.status == Code::BUSY {
        problem = problem.after(Duration::from_secs(1));
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_own_code_and_answer_reach_the_caller() {
        let problem = device_problem(&Replied { status: Code(300), payload: vec![1].into() });
        assert_eq!((problem.status, problem.name()), (502, "device-error"));
        assert_eq!((problem.more.code, problem.more.may_have_run), (Some(300), Some(true)));
        assert_eq!(problem.more.payload_base64.as_deref(), Some("AQ=="));
    }
}

//! Payloads of messages, calls and their answers, in two forms.
//!
//! ```text
//! content-type: application/octet-stream     the body is the payload (also when no content type is given)
//! content-type: application/json             {"payload_base64": "AQ=="}
//! ```
//!
//! An answer takes the form that `Accept` names first of the two, and without one the form of the request.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use crate::request::Failure;

/// A body that does not arrive whole within this time ends the request.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// What a JSON body may have around its payload, in bytes.
const JSON_OVERHEAD: usize = 1024;
const OCTETS: &str = "application/octet-stream";
const JSON: &str = "application/json";

/// A payload within JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonPayload {
    /// The payload in standard base64 with padding.
    pub payload_base64: String,
}

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The body is the payload.
    Octets,
    /// [`JsonPayload`].
    Json,
}

impl Form {
    /// The form that `headers` say the body has.
    fn of_body(headers: &HeaderMap) -> Result<Self, Problem> {
        match essence(headers.get(header::CONTENT_TYPE)) {
            None => Ok(Self::Octets),
            Some(kind) if kind.eq_ignore_ascii_case(OCTETS) => Ok(Self::Octets),
            Some(kind) if kind.eq_ignore_ascii_case(JSON) => Ok(Self::Json),
            Some(kind) => Err(media_type(kind)),
        }
    }

    /// The form that `headers` ask the answer to have.
    pub(super) fn of_answer(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let named = accept.into_iter().flat_map(|accept| accept.split(',')).find_map(|range| {
            match range.split(';').next().unwrap_or_default().trim() {
                JSON | "application/*" => Some(Self::Json),
                OCTETS => Some(Self::Octets),
                _ => None,
            }
        });
        named.unwrap_or_else(|| Self::of_body(headers).unwrap_or(Self::Octets))
    }

    /// An answer of status 200 with `payload`.
    pub(super) fn answer(self, payload: Bytes) -> Response {
        match self {
            Self::Octets => ([(header::CONTENT_TYPE, OCTETS)], payload).into_response(),
            Self::Json => axum::Json(JsonPayload { payload_base64: STANDARD.encode(&payload) }).into_response(),
        }
    }
}

/// Base64 as this API writes it.
pub(super) fn base64(payload: &[u8]) -> String {
    STANDARD.encode(payload)
}

/// Reads the payload of a message or call, at most `len_max` bytes.
pub(super) async fn read(headers: &HeaderMap, body: Body, len_max: usize) -> Result<Bytes, Problem> {
    match Form::of_body(headers)? {
        Form::Octets => whole(headers, body, len_max, len_max).await,
        Form::Json => {
            let body_max = len_max.div_ceil(3).saturating_mul(4).saturating_add(JSON_OVERHEAD);
            let body = whole(headers, body, body_max, len_max).await?;
            let json: JsonPayload = from_json(&body)?;
            let payload = STANDARD.decode(json.payload_base64.as_bytes()).map_err(|error| {
                let detail = format!("`payload_base64` is not standard base64 with padding: {error}");
                Problem::new(Failure::Unprocessable, detail)
            })?;
            if payload.len() > len_max {
                return Err(too_large(len_max));
            }
            Ok(payload.into())
        }
    }
}

/// Reads a JSON body of at most `len_max` bytes; `None` when it is empty.
pub(super) async fn read_json<T: serde::de::DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    len_max: usize,
) -> Result<Option<T>, Problem> {
    let body = whole(headers, body, len_max, len_max).await?;
    if body.is_empty() {
        return Ok(None);
    }
    match essence(headers.get(header::CONTENT_TYPE)) {
        None => {}
        Some(kind) if kind.eq_ignore_ascii_case(JSON) => {}
        Some(kind) => {
            let detail = format!("content type `{kind}` is not taken here; send {JSON}, or no body");
            return Err(Problem::new(Failure::MediaType, detail).allowing([JSON]));
        }
    }
    from_json(&body).map(Some)
}

/// The whole body within [`BODY_TIMEOUT`], or why not.
async fn whole(headers: &HeaderMap, body: Body, body_max: usize, len_max: usize) -> Result<Bytes, Problem> {
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if stated.is_some_and(|len| len > body_max) {
        return Err(too_large(len_max));
    }
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, body_max)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large(len_max)),
        Ok(Err(error)) => Err(Problem::new(Failure::BadRequest, format!("the body ended early: {error}"))),
        Err(_) => {
            let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Err(Problem::named("request-timeout", 408, detail))
        }
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn from_json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Problem::new(Failure::Unprocessable, format!("the JSON does not have the form asked for: {error}"))
        }
        _ => Problem::new(Failure::BadRequest, format!("the body is not JSON: {error}")),
    })
}

/// Type and subtype of a content type, without parameters.
fn essence(value: Option<&HeaderValue>) -> Option<&str> {
    let text = value?.to_str().unwrap_or("(not ASCII)");
    Some(text.split(';').next().unwrap_or_default().trim())
}

fn media_type(kind: &str) -> Problem {
    let detail = format!(
        "content type `{kind}` is not taken; send the raw payload as {OCTETS} \
         (curl: -H 'content-type: {OCTETS}' --data-binary …), or {{\"payload_base64\": …}} as {JSON}"
    );
    Problem::new(Failure::MediaType, detail).allowing([OCTETS, JSON])
}

fn too_large(len_max: usize) -> Problem {
    Problem::new(Failure::TooLarge, format!("the payload is larger than {len_max} bytes, the most this route takes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        [(name, HeaderValue::from_str(value).unwrap())].into_iter().collect()
    }

    #[tokio::test]
    async fn both_forms_give_the_same_payload() {
        let raw = read(&HeaderMap::new(), Body::from(vec![0, 255]), 8).await.unwrap();
        let json = headers(header::CONTENT_TYPE, "application/json; charset=utf-8");
        let same = read(&json, Body::from(r#"{"payload_base64":"AP8="}"#), 8).await.unwrap();
        assert_eq!(raw, same);
    }

    #[tokio::test]
    async fn wrong_bodies_are_refused_each_with_its_status() {
        let json = headers(header::CONTENT_TYPE, "application/json");
        let form = headers(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let none = HeaderMap::new();
        for (headers, body, status) in [
            (&json, "{", 400),
            (&json, r#"{"payload":"AA=="}"#, 422),
            (&json, r#"{"payload_base64":7}"#, 422),
            (&json, r#"{"payload_base64":"A"}"#, 422),
            (&json, r#"{"payload_base64":"AAAAAAAAAAAAAAAA"}"#, 413),
            (&form, "a=b", 415),
            (&none, "123456789", 413),
        ] {
            let problem = read(headers, Body::from(body), 8).await.unwrap_err();
            assert_eq!(problem.status, status, "{body}: {problem:?}");
        }
    }

    #[test]
    fn the_answer_has_the_form_asked_for() {
        for (accept, form) in [
            ("application/json", Form::Json),
            ("application/octet-stream", Form::Octets),
            ("text/html, application/json;q=0.9", Form::Json),
            ("*/*", Form::Octets),
        ] {
            assert_eq!(Form::of_answer(&headers(header::ACCEPT, accept)), form, "{accept}");
        }
        let asked_in_json = headers(header::CONTENT_TYPE, "application/json");
        assert_eq!(Form::of_answer(&asked_in_json), Form::Json);
    }
}

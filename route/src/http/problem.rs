//! RFC 9457 problem details: how every refusal of the HTTP API looks.
//!
//! ```text
//! HTTP/1.1 404 Not Found
//! content-type: application/problem+json
//!
//! {"type":"urn:imlink:problem:unknown-path","title":"…","status":404,"detail":"…","allowed":["led/set"]}
//! ```
//!
//! `type` ends in the failure's name, the same word as on the backend link. `detail` says what was wrong,
//! what is allowed and what to do next.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::request::{Failed, Failure};

/// Content type of problem details.
pub const CONTENT_TYPE: &str = "application/problem+json";
/// What a `type` begins with; the failure's name follows.
const TYPE_PREFIX: &str = "urn:imlink:problem:";

/// A refusal, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:imlink:problem:` and the failure's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The failure in words, the same for every occurrence.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong, what is allowed, what to do next.
    pub detail: String,
    /// What else is known of it.
    #[serde(flatten)]
    pub more: Box<More>,
}

/// Members of a problem that only some have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct More {
    /// What would have been taken, where it can be listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// Not before this many milliseconds; also in `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The state of the message that stands against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The message may be stored all the same: ask again with the same `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_be_stored: Option<bool>,
    /// Whether the call may have run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_have_run: Option<bool>,
    /// The device's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// What the device answered along with its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// Bytes of the blob that the device has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
}

impl Problem {
    /// A problem of the given failure.
    pub fn new(failure: Failure, detail: impl Into<String>) -> Self {
        Self::named(failure.name(), failure.status(), detail)
    }

    /// A problem of a kind that only HTTP knows.
    pub fn named(name: &str, status: u16, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{TYPE_PREFIX}{name}"),
            title: title(name).into(),
            status,
            detail: detail.into(),
            more: Box::default(),
        }
    }

    /// Lists what would have been taken.
    pub fn allowing<I: IntoIterator<Item = T>, T: Into<String>>(mut self, allowed: I) -> Self {
        self.more.allowed = allowed.into_iter().map(Into::into).collect();
        self
    }

    /// Says when to ask again.
    pub fn after(mut self, wait: Duration) -> Self {
        self.more.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// The failure's name: the last part of `type`.
    pub fn name(&self) -> &str {
        self.kind.strip_prefix(TYPE_PREFIX).unwrap_or(&self.kind)
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        let mut problem = Self::new(failed.failure, failed.detail);
        if let Some(wait) = failed.retry_after {
            problem = problem.after(wait);
        }
        match failed.failure {
            Failure::MayBeStored => problem.more.may_be_stored = Some(true),
            Failure::Deadline | Failure::Disconnected => problem.more.may_have_run = Some(true),
            Failure::Busy | Failure::Offline => problem.more.may_have_run = Some(false),
            _ => {}
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // A struct of strings and numbers always serialises.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(ms) = self.more.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000).max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"imlink\""));
        }
        response
    }
}

fn title(name: &str) -> &'static str {
    match name {
        "bad-request" => "a field or parameter does not have its form",
        "unauthorized" => "no token, or a wrong one",
        "forbidden" => "the token does not allow this",
        "unknown-device" => "the device is not provisioned",
        "unknown-path" => "the device does not list the path",
        "not-found" => "there is no such thing",
        "method-not-allowed" => "the path does not take this method",
        "conflict" => "it contradicts what is there",
        "too-large" => "the payload is too large",
        "unsupported-media-type" => "the body's content type is not taken",
        "unprocessable" => "the body does not have the form asked for",
        "bad-payload" => "the device could not read the payload",
        "revoked" => "the device was revoked",
        "mailbox-full" => "the device's mailbox is full",
        "rate-limited" => "the token makes too many requests",
        "overloaded" => "too many requests in flight",
        "store-away" => "the store does not answer",
        "may-be-stored" => "the message may be stored",
        "draining" => "the route is leaving",
        "not-ready" => "the route is not ready",
        "offline" => "the device is not attached",
        "deadline" => "no answer by the deadline",
        "busy" => "too many calls to this device",
        "disconnected" => "the session ended before the answer",
        "blob-offset" => "the bytes given are not the next ones",
        "blob-unsupported" => "the device takes no part in such transfers",
        "blob-hash" => "the bytes do not have their hash",
        "blob-signature" => "the signature is not taken",
        "device-error" => "the device's handler failed",
        "request-timeout" => "the request did not arrive in time",
        _ => "the request was not done",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_title_and_a_status() {
        for failure in Failure::ALL.iter().copied().filter(|failure| *failure != Failure::Internal) {
            let problem = Problem::new(failure, "x");
            assert_ne!(problem.title, title(""), "{failure:?}");
            assert!((400..600).contains(&problem.status), "{failure:?}");
            assert_eq!(problem.name(), failure.name());
        }
    }

    #[test]
    fn a_later_failure_says_when_in_header_and_body() {
        let failed = Failed::later(Failure::Overloaded, Duration::from_millis(1200), "8192 are in flight");
        let response = Problem::from(failed).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
    }

    #[test]
    fn a_message_that_may_be_stored_and_a_call_that_may_have_run_say_so() {
        let stored = Problem::from(Failed::new(Failure::MayBeStored, "x"));
        assert_eq!((stored.status, stored.more.may_be_stored), (503, Some(true)));
        let ran = Problem::from(Failed::new(Failure::Disconnected, "x"));
        assert_eq!((ran.status, ran.more.may_have_run), (502, Some(true)));
        let never = Problem::from(Failed::new(Failure::Offline, "x"));
        assert_eq!((never.status, never.more.may_have_run), (404, Some(false)));
    }
}

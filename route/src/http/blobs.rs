//! `/v1/devices/{id}/blobs/{name}`: files to and from devices, streamed through.
//!
//! ```text
//! PUT …/app-1.2.0?size=81920&sha256=…&kind=firmware&signature=…          an empty body asks how far the device is
//! 200 {"name":"app-1.2.0","size":81920,"offset":40960,"state":"receiving"}
//! PUT …/app-1.2.0?size=81920&sha256=…&kind=firmware&signature=…&offset=40960     the bytes from there on
//! 200 {"name":"app-1.2.0","size":81920,"offset":81920,"state":"marked"}
//!
//! GET …/core-dump                                                        200, ETag: "its SHA-256"
//! GET …/core-dump   Range: bytes=4096-   If-Match: "its SHA-256"         206, the bytes from there on
//! ```
//!
//! Nothing is kept here. What a device took stays with it over any cut, so a PUT is repeated, a GET resumed.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use imlink_protocol::blob::{Kind, NAME_LEN_MAX, Outcome, SIGNATURE_LEN};
use imlink_protocol::hex::{self, Hex};
use imlink_protocol::id::check_device_id;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::devices::device_id;
use super::events::{LOOK, outlived};
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Query;
use crate::access::Caller;
use crate::blob::{BlobError, Give, Given, Take, Taken};
use crate::request::Failure;

/// How far a blob came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlobView {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u32,
    /// Bytes that the device has.
    pub offset: u32,
    /// `receiving`; `stored`: all there, and the hash fits; `marked`: and it will be booted next.
    pub state: String,
}

/// Give a device a file or a firmware image.
///
/// The bytes go straight to the device, below all other traffic of its link; the answer comes when it has checked
/// their hash. Whatever interrupts it, the device keeps what came: ask with an empty body from where to go on, and
/// give the rest with that `offset`. Bytes before it are passed over.
#[utoipa::path(
    put, path = "/v1/devices/{id}/blobs/{name}", tag = "blobs", security(("token" = ["blob"])),
    params(
        ("id" = String, Path, description = "device id"),
        ("name" = String, Path, description = "name of the blob, of the form of a device id"),
        ("size" = u32, Query, description = "length of the whole, in bytes"),
        ("sha256" = String, Query, description = "SHA-256 of the whole, 64 hexadecimal digits"),
        ("kind" = Option<String>, Query, description = "file (the default) or firmware, which needs a signature"),
        ("signature" = Option<String>, Query, description = "Ed25519 signature of size and hash, 128 hexadecimal digits"),
        ("offset" = Option<u32>, Query, description = "where in the blob the body begins; default 0"),
    ),
    request_body(content((Vec<u8> = "application/octet-stream"))),
    responses((status = 200, description = "how far the device is", body = BlobView), Refusals),
)]
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path((id, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<axum::Json<BlobView>, Problem> {
    let query = Query::new(query.as_deref(), &["size", "sha256", "kind", "signature", "offset"])?;
    let missing = |name| move || bad(format!("parameter `{name}` is missing"));
    let size = query.number("size", 0, u32::MAX)?.ok_or_else(missing("size"))?;
    let give = Give {
        tenant: caller.tenant.to_string(),
        device: device_id(id)?,
        name: blob_name(name)?,
        kind: query.text("kind").map(kind).transpose()?.unwrap_or(Kind::File),
        size,
        sha256: query.text("sha256").map(hash).ok_or_else(missing("sha256"))??,
        signature: query.text("signature").map(signature).transpose()?.unwrap_or_default(),
        offset: query.number("offset", 0, size)?.unwrap_or(0),
    };
    let name = give.name.clone();
    let mut look = tokio::time::interval(LOOK);
    let given = tokio::select! {
        given = api.route.give_blob(give, body.into_data_stream()) => given?,
        failed = outlived(&api, &caller, &mut look) => return Err(failed.into()),
    };
    let Given { offset, outcome } = given;
    let state = outcome.map_or("receiving", Outcome::name).into();
    Ok(axum::Json(BlobView { name, size, offset, state }))
}

/// Fetch a file of a device.
///
/// Streamed as the device sends it; `ETag` is its SHA-256, to be compared at the end. A stream that broke off is
/// resumed with `Range: bytes=N-`, and with `If-Match` only if the file is still the same.
#[utoipa::path(
    get, path = "/v1/devices/{id}/blobs/{name}", tag = "blobs", security(("token" = ["blob"])),
    params(
        ("id" = String, Path, description = "device id"),
        ("name" = String, Path, description = "name of the blob"),
        ("Range" = Option<String>, Header, description = "bytes=N-: from byte N on; no other form is taken"),
        ("If-Match" = Option<String>, Header, description = "the ETag of what is resumed"),
    ),
    responses(
        (status = 200, description = "the file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "the file from that byte on", body = Vec<u8>, content_type = "application/octet-stream"),
        Refusals,
    ),
)]
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let offset = text(header::RANGE).map(range).transpose()?;
    let take = Take {
        tenant: caller.tenant.to_string(),
        device: device_id(id)?,
        name: blob_name(name)?,
        sha256: text(header::IF_MATCH).map(|tag| hash(tag.trim_matches('"'))).transpose()?,
        offset: offset.unwrap_or(0),
    };
    let taken = api.route.take_blob(take).await?;
    let (size, from) = (taken.size(), taken.offset());
    let etag = format!("\"{}\"", Hex(taken.sha256()));
    let mut response = Body::from_stream(bytes(api, caller, taken)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size - from));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    put_text(headers, header::ETAG, &etag);
    if offset.is_some() && from < size {
        put_text(headers, header::CONTENT_RANGE, &format!("bytes {from}-{}/{size}", size - 1));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// The bytes as they come. A transfer that ends early breaks the stream off, before its `Content-Length`.
fn bytes(
    api: Arc<Api>,
    caller: Arc<Caller>,
    taken: Taken,
) -> impl stream::Stream<Item = Result<axum::body::Bytes, BlobError>> {
    let look = tokio::time::interval(LOOK);
    stream::unfold(Some((api, caller, look, taken)), |state| async move {
        let (api, caller, mut look, mut taken) = state?;
        let next = tokio::select! {
            next = taken.next() => next?,
            failed = outlived(&api, &caller, &mut look) => Err(failed.into()),
        };
        let rest = next.is_ok().then_some((api, caller, look, taken));
        Some((next, rest))
    })
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Failed(failed) => {
                let mut problem = Self::from(failed);
                problem.more.may_have_run = None;
                problem
            }
            BlobError::Offset { have } => {
                let detail = format!("the device has {have} bytes; give or ask for what follows them");
                let mut problem = Self::named("blob-offset", 409, detail);
                problem.more.offset = Some(have);
                problem
            }
            BlobError::Device { outcome, detail } => refusal(outcome, detail),
        }
    }
}

fn refusal(outcome: Outcome, detail: u32) -> Problem {
    let (name, status, why) = match outcome {
        Outcome::Unsupported => ("blob-unsupported", 422, "the device takes no part in transfers of this kind"),
        Outcome::Busy => {
            let why = "the device has another transfer open (it takes one at a time), or was attached a moment ago and did \
                       not say yet that it takes part";
            ("busy", 429, why)
        }
        Outcome::TooLarge => {
            return Problem::new(Failure::TooLarge, format!("the device keeps at most {detail} bytes"));
        }
        Outcome::NotFound => ("not-found", 404, "the device has nothing of this name"),
        Outcome::Changed => ("conflict", 409, "the device's file is another one than `If-Match` names; begin anew"),
        Outcome::Hash => ("blob-hash", 422, "the bytes do not have the hash that was stated; the device dropped them"),
        Outcome::Signature => {
            ("blob-signature", 422, "the signature is missing or not by the key that the device pins; it took nothing")
        }
        Outcome::Storage => ("device-error", 502, "the device could not write or read it"),
        _ => ("device-error", 502, "the device broke a rule of the transfer; what it has is kept"),
    };
    let problem = Problem::named(name, status, why);
    if outcome == Outcome::Busy { problem.after(std::time::Duration::from_secs(1)) } else { problem }
}

fn bad(detail: String) -> Problem {
    Problem::new(Failure::BadRequest, detail)
}

fn blob_name(name: String) -> Result<String, Problem> {
    match check_device_id(&name) {
        Ok(()) => Ok(name),
        Err(error) => Err(bad(format!("name `{name}` of a blob {error}"))),
    }
}

fn kind(text: &str) -> Result<Kind, Problem> {
    let found = Kind::ALL.iter().find(|kind| kind.name() == text).copied();
    let names = || Kind::ALL.iter().map(|kind| kind.name());
    found.ok_or_else(|| bad(format!("`kind={text}` is neither file nor firmware")).allowing(names()))
}

fn hash(text: &str) -> Result<[u8; 32], Problem> {
    hex::read(text).map_err(|_| bad("a SHA-256 is written as 64 hexadecimal digits".into()))
}

fn signature(text: &str) -> Result<Vec<u8>, Problem> {
    let bytes = hex::read::<SIGNATURE_LEN>(text).map(Vec::from);
    bytes.map_err(|_| bad("`signature` is written as 128 hexadecimal digits".into()))
}

fn range(text: &str) -> Result<u32, Problem> {
    let first = text.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    let first = first.and_then(|first| first.parse().ok());
    first.ok_or_else(|| bad(format!("`Range: {text}` is not of the form bytes=N-, the only one that is taken")))
}

fn put_text(headers: &mut HeaderMap, name: header::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

const _: () = assert!(NAME_LEN_MAX == imlink_protocol::limits::DEVICE_ID_LEN_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_refuses_is_told_with_its_reason() {
        let problem = Problem::from(BlobError::Device { outcome: Outcome::TooLarge, detail: 1000 });
        assert_eq!((problem.status, problem.name()), (413, "too-large"));
        assert!(problem.detail.contains("1000 bytes"), "{}", problem.detail);
        for outcome in Outcome::ALL {
            let problem = refusal(*outcome, 0);
            assert!((400..600).contains(&problem.status) && !problem.detail.is_empty(), "{outcome}");
        }
        assert_eq!(Problem::from(BlobError::Offset { have: 7 }).more.offset, Some(7));
    }

    #[test]
    fn hashes_signatures_and_ranges_of_another_form_are_refused() {
        assert_eq!(hash(&"aB".repeat(32)).unwrap(), [0xab; 32]);
        for wrong in ["", "ab", &"a".repeat(63), &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)] {
            assert!(hash(wrong).is_err(), "{wrong}");
        }
        assert!(signature(&"00".repeat(63)).is_err() && signature(&"00".repeat(64)).is_ok());
        assert_eq!(range("bytes=17-").unwrap(), 17);
        for wrong in ["bytes=1-2", "bytes=-5", "bytes=x-", "17-", "bytes=4294967296-"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}

//! `/v1/devices`: who may attach.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use imlink_protocol::id::check_device_id;
use imlink_protocol::key_pair::{KeyError, PublicKey};
use imlink_store::session::{NextKey, Proof, Provisioned};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::guard::Change;
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Query;
use super::views::{DeviceList, DeviceView, KeysView};
use super::{Api, payload};
use crate::access::{Caller, Verb};
use crate::request::Failure;

/// Devices on one page unless asked otherwise.
const PAGE_DEFAULT: usize = 100;
/// Devices on one page at most.
const PAGE_MAX: usize = 1000;
/// Longest body of a `PUT`, in bytes.
const BODY_LEN_MAX: usize = 4096;

/// What a `PUT` says of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewDevice {
    /// How the device proves itself; may be left out beside `public_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofName>,
    /// The device's X25519 public key, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Its key of the next generation, as good as the first one until the device logs in with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_public_key: Option<String>,
    /// `true` revokes the device, `false` lifts a revocation; left out, a revocation stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,
}

/// How a device proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProofName {
    /// Not at all: only on plain links, which are loopback only.
    Plain,
    /// By the private key that belongs to its public key.
    PublicKey,
}

/// What follows a device's current key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// X25519 public key, 64 hexadecimal digits.
    pub public_key: String,
}

impl NewDevice {
    /// A device that proves nothing.
    pub const PLAIN: Self =
        Self { proof: Some(ProofName::Plain), public_key: None, next_public_key: None, revoked: None };

    /// A device that proves itself by one key.
    pub fn of_key(key: PublicKey) -> Self {
        Self { public_key: Some(key.to_string()), ..Self::default() }
    }

    fn proof(&self) -> Result<Proof, Problem> {
        match (self.proof, &self.public_key, &self.next_public_key) {
            (Some(ProofName::Plain), None, None) => Ok(Proof::Plain),
            (Some(ProofName::PublicKey) | None, Some(current), next) => Ok(Proof::Keys {
                current: public_key("public_key", current)?,
                next: next.as_ref().map(|next| public_key("next_public_key", next)).transpose()?,
            }),
            (Some(ProofName::Plain), ..) => Err(unproved("a plain device has no key")),
            (None, None, _) => Err(unproved("the body does not say how the device proves itself")),
            (Some(ProofName::PublicKey), None, _) => Err(unproved("`public_key` is missing")),
        }
    }
}

fn unproved(what: &str) -> Problem {
    let detail = format!(
        "{what}; send {{\"public_key\": \"64 hexadecimal digits\"}}, or {{\"proof\": \"plain\"}} for a device that proves \
         nothing and attaches on plain links only"
    );
    Problem::new(Failure::Unprocessable, detail).allowing(["public_key", "proof: plain"])
}

/// The device after a change, which is left for the audit.
async fn changed(api: &Api, caller: &Caller, id: String, what: &'static str) -> Result<Response, Problem> {
    let device = api.route.identity(&caller.tenant, &id).await?;
    let change = Extension(Change { what, object: id });
    Ok((change, Json(DeviceView::from(device))).into_response())
}

/// The bytes of a public key that can be used.
fn public_key(field: &str, text: &str) -> Result<[u8; 32], Problem> {
    let refuse = |why: String| Problem::new(Failure::Unprocessable, format!("`{field}` {why}"));
    let key: PublicKey = text.parse().map_err(|why: KeyError| refuse(why.to_string()))?;
    if !key.is_usable() {
        return Err(refuse("is a point of small order, which no private key has: nothing could be agreed on".into()));
    }
    Ok(key.0)
}

/// Provision a device: say how it proves itself.
///
/// Repeating it is harmless: mailbox, session and revocation stay. The keys become those of the body, so a next key
/// that the body does not name is dropped.
#[utoipa::path(
    put, path = "/v1/devices/{id}", tag = "devices", security(("token" = ["provision"])),
    params(("id" = String, Path, description = "1–64 bytes of A-Z a-z 0-9 . _ : -")),
    request_body(content = NewDevice, description = "`public_key`, or `proof: plain`"),
    responses(
        (status = 201, description = "provisioned", body = DeviceView),
        (status = 200, description = "was provisioned before", body = DeviceView),
        Refusals,
    ),
)]
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Query::new(query.as_deref(), &[])?;
    let id = device_id(id)?;
    let wanted: NewDevice = payload::read_json(&headers, body, BODY_LEN_MAX).await?.unwrap_or_default();
    let (status, mut what) = match api.route.provision(&caller.tenant, &id, wanted.proof()?).await? {
        Provisioned::Created => (StatusCode::CREATED, "device-provisioned"),
        Provisioned::Updated { .. } => (StatusCode::OK, "device-provisioned-again"),
    };
    match wanted.revoked {
        Some(true) => {
            api.route.revoke(&caller.tenant, &id).await?;
            what = "device-revoked";
        }
        Some(false) if api.route.restore(&caller.tenant, &id).await? => what = "device-restored",
        Some(false) | None => {}
    }
    let change = Extension(Change { what, object: id.clone() });
    let device = api.route.identity(&caller.tenant, &id).await?;
    let location = [(header::LOCATION, format!("/v1/devices/{id}"))];
    Ok((status, location, change, Json(DeviceView::from(device))).into_response())
}

/// Give a device the key that follows its current one.
///
/// Both are good until the device first logs in with the next one, which then is the current one.
#[utoipa::path(
    put, path = "/v1/devices/{id}/next-key", tag = "devices", security(("token" = ["provision"])),
    params(("id" = String, Path, description = "device id")),
    request_body(content = NewKey),
    responses((status = 200, description = "the device with both keys", body = DeviceView), Refusals),
)]
pub(super) async fn put_next_key(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Query::new(query.as_deref(), &[])?;
    let id = device_id(id)?;
    let wanted: Option<NewKey> = payload::read_json(&headers, body, BODY_LEN_MAX).await?;
    let wanted = wanted.ok_or_else(|| {
        let detail = "there is no body; send {\"public_key\": \"64 hexadecimal digits\"}";
        Problem::new(Failure::Unprocessable, detail).allowing(["public_key"])
    })?;
    let key = public_key("public_key", &wanted.public_key)?;
    match api.route.set_next_key(&caller.tenant, &id, &key).await? {
        NextKey::Set | NextKey::Current => {}
        // An unknown device was refused as such.
        NextKey::Plain | NextKey::UnknownDevice => {
            let detail =
                format!("device {id} is plain: it has no key that another could follow; PUT /v1/devices/{id} sets one");
            return Err(Problem::new(Failure::Conflict, detail));
        }
    }
    changed(&api, &caller, id, "device-next-key").await
}

/// Revoke a device: refuse it everywhere, and close its session within 2 s.
///
/// Its mailbox stays, and takes nothing more. Repeating it is harmless.
#[utoipa::path(
    post, path = "/v1/devices/{id}/revoke", tag = "devices", security(("token" = ["provision"])),
    params(("id" = String, Path, description = "device id")),
    responses((status = 200, description = "revoked", body = DeviceView), Refusals),
)]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::new(query.as_deref(), &[])?;
    let id = device_id(id)?;
    api.route.revoke(&caller.tenant, &id).await?;
    changed(&api, &caller, id, "device-revoked").await
}

/// Restore a revoked device: it may attach again with the keys it has.
#[utoipa::path(
    post, path = "/v1/devices/{id}/restore", tag = "devices", security(("token" = ["provision"])),
    params(("id" = String, Path, description = "device id")),
    responses((status = 200, description = "not revoked", body = DeviceView), Refusals),
)]
pub(super) async fn restore(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::new(query.as_deref(), &[])?;
    let id = device_id(id)?;
    api.route.restore(&caller.tenant, &id).await?;
    changed(&api, &caller, id, "device-restored").await
}

/// Show what a device is flashed with beside its own key.
#[utoipa::path(
    get, path = "/v1/keys", tag = "devices", security(("token" = ["devices"])),
    responses((status = 200, description = "public keys and addresses", body = KeysView), Refusals),
)]
pub(super) async fn keys(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    RawQuery(query): RawQuery,
) -> Result<Json<KeysView>, Problem> {
    Query::new(query.as_deref(), &[])?;
    let shown = api.route.keys_view(&caller.tenant);
    shown.map(Json).ok_or_else(|| Problem::new(Failure::NotFound, "this route was started without keys of its own"))
}

/// Show a device.
#[utoipa::path(
    get, path = "/v1/devices/{id}", tag = "devices", security(("token" = ["devices"])),
    params(("id" = String, Path, description = "device id")),
    responses((status = 200, description = "the device", body = DeviceView), Refusals),
)]
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<DeviceView>, Problem> {
    Query::new(query.as_deref(), &[])?;
    let device = api.route.identity(&caller.tenant, &device_id(id)?).await?;
    Ok(Json(device.into()))
}

/// Remove a device with its mailbox.
///
/// Its session is closed, and what waits for it is gone.
#[utoipa::path(
    delete, path = "/v1/devices/{id}", tag = "devices", security(("token" = ["provision"])),
    params(("id" = String, Path, description = "device id")),
    responses((status = 204, description = "removed"), Refusals),
)]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::new(query.as_deref(), &[])?;
    let id = device_id(id)?;
    api.route.remove(&caller.tenant, &id).await?;
    Ok((StatusCode::NO_CONTENT, Extension(Change { what: "device-removed", object: id })).into_response())
}

/// List devices, page by page, in the order of their ids.
#[utoipa::path(
    get, path = "/v1/devices", tag = "devices", security(("token" = ["devices"])),
    params(
        ("after" = Option<String>, Query, description = "only ids behind this one"),
        ("limit" = Option<usize>, Query, description = "devices on a page, 1–1000, default 100"),
    ),
    responses((status = 200, description = "a page; of a token that may see some devices only, those of the page that it may see", body = DeviceList), Refusals),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    RawQuery(query): RawQuery,
) -> Result<Json<DeviceList>, Problem> {
    let query = Query::new(query.as_deref(), &["after", "limit"])?;
    let limit = query.number("limit", 1, PAGE_MAX)?.unwrap_or(PAGE_DEFAULT);
    let after = query.text("after").unwrap_or_default();
    if !after.is_empty() {
        device_id(after.into())?;
    }
    let mut devices = api.route.devices(&caller.tenant, after, limit).await?;
    let next = (devices.len() >= limit).then(|| devices.last().cloned()).flatten();
    devices.retain(|device| caller.allows(Verb::Devices, Some(device)));
    Ok(Json(DeviceList { devices, next }))
}

/// `id` if it is a device id.
pub(super) fn device_id(id: String) -> Result<String, Problem> {
    match check_device_id(&id) {
        Ok(()) => Ok(id),
        Err(error) => Err(Problem::new(Failure::BadRequest, format!("device id `{id}` {error}"))),
    }
}

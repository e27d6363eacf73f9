//! `/v1/devices`: who may attach.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use imlink_protocol::id::check_device_id;
use imlink_store::session::{Proof, Provisioned};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::guard::Change;
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Query;
use super::views::{DeviceList, DeviceView};
use super::{Api, payload};
use crate::access::{Caller, Verb};
use crate::request::Failure;

/// Devices on one page unless asked otherwise.
const PAGE_DEFAULT: usize = 100;
/// Devices on one page at most.
const PAGE_MAX: usize = 1000;
/// Longest body of a `PUT`, in bytes.
const BODY_LEN_MAX: usize = 4096;

/// What a `PUT` may say of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewDevice {
    /// How the device proves itself.
    pub proof: ProofName,
    /// Refuse the device everywhere from now on and close its session; `false` lifts that again.
    pub revoked: bool,
}

/// How a device proves itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProofName {
    /// Not at all: only on plain links, which are loopback only.
    #[default]
    Plain,
}

/// Provision a device, or revoke it.
///
/// Repeating it is harmless: mailbox and session stay. A revoked device keeps its mailbox and loses its session.
#[utoipa::path(
    put, path = "/v1/devices/{id}", tag = "devices", security(("token" = ["provision"])),
    params(("id" = String, Path, description = "1–64 bytes of A-Z a-z 0-9 . _ : -")),
    request_body(content = Option<NewDevice>, description = "may be left out"),
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
    let proof = match wanted.proof {
        ProofName::Plain => Proof::Plain,
    };
    let (status, what) = if wanted.revoked {
        api.route.revoke(&caller.tenant, &id).await?;
        (StatusCode::OK, "device-revoked")
    } else {
        match api.route.provision(&caller.tenant, &id, proof).await? {
            Provisioned::Created => (StatusCode::CREATED, "device-provisioned"),
            Provisioned::Updated => {
                api.route.restore(&caller.tenant, &id).await?;
                (StatusCode::OK, "device-provisioned-again")
            }
        }
    };
    let change = Extension(Change { what, object: id.clone() });
    let device = api.route.identity(&caller.tenant, &id).await?;
    let location = [(header::LOCATION, format!("/v1/devices/{id}"))];
    Ok((status, location, change, Json(DeviceView::from(device))).into_response())
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

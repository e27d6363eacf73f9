//! `/v1/audit`: who changed what.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use imlink_store::audit::AuditRecord;
use imlink_store::event::Position;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Query;
use crate::access::Caller;
use crate::request::Failure;

/// Records on one page unless asked otherwise.
const PAGE_DEFAULT: usize = 100;
/// Records on one page at most.
const PAGE_MAX: usize = 1000;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Names the record: the `after` of what follows it.
    pub position: String,
    /// When, ms since 1970.
    pub at_ms: u64,
    /// Id of the token it was done with; `configured` for that of the configuration.
    pub who: String,
    /// What was done, such as `token-added`.
    pub what: String,
    /// To what.
    pub object: String,
    /// The peer's address.
    pub from: String,
}

/// Some changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// The oldest first.
    pub records: Vec<AuditView>,
}

impl From<(Position, AuditRecord)> for AuditView {
    fn from((position, record): (Position, AuditRecord)) -> Self {
        let who = if record.who.is_some() { record.who.to_string() } else { "configured".into() };
        let AuditRecord { what, object, from, .. } = record;
        Self { position: format!("{}-{}", position.ms, position.n), at_ms: position.ms, who, what, object, from }
    }
}

/// Changes of the tenant's tokens and devices: who, what, when, from where.
///
/// The newest 10,000 of each tenant are kept.
#[utoipa::path(
    get, path = "/v1/audit", tag = "tokens", security(("token" = ["audit"])),
    params(
        ("after" = Option<String>, Query, description = "only what follows the record of this `position`; without it, the newest"),
        ("limit" = Option<usize>, Query, description = "records on a page, 1–1000, default 100"),
    ),
    responses((status = 200, description = "a page", body = AuditList), Refusals),
)]
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    RawQuery(query): RawQuery,
) -> Result<Json<AuditList>, Problem> {
    let query = Query::new(query.as_deref(), &["after", "limit"])?;
    let limit = query.number("limit", 1, PAGE_MAX)?.unwrap_or(PAGE_DEFAULT);
    let after = query.text("after").map(position).transpose()?;
    let records = api.route.audit_records(&caller.tenant, after, limit).await?;
    Ok(Json(AuditList { records: records.into_iter().map(AuditView::from).collect() }))
}

fn position(text: &str) -> Result<Position, Problem> {
    let read = text.split_once('-').and_then(|(ms, n)| Some(Position { ms: ms.parse().ok()?, n: n.parse().ok()? }));
    read.ok_or_else(|| {
        let why = format!("`after={text}` is not a position; take one from a record, such as 1764000000000-0");
        Problem::new(Failure::BadRequest, why)
    })
}

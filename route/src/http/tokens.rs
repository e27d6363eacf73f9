//! `/v1/tokens`: who may do what.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use imlink_protocol::id::TokenId;
use imlink_store::token::Token;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::guard::Change;
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Query;
use super::{Api, payload};
use crate::access::Caller;
use crate::administration::Wanted;
use crate::request::Failure;

/// Longest body of a `POST`, in bytes.
const BODY_LEN_MAX: usize = 8192;

/// What a new token shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What people call it, at most 64 bytes.
    #[serde(default)]
    pub name: String,
    /// What it may do, each `verb` or `verb:device-pattern`, such as `send` or `call:lamp-*`; at most 32.
    pub allow: Vec<String>,
    /// Requests a second on each route, with a burst of as many; 0 for no limit of its own.
    #[serde(default)]
    pub rate: u32,
    /// Lifetime in seconds; 0 for ever.
    #[serde(default)]
    pub expires_s: u64,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its public part, 16 hexadecimal digits.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it acts in.
    pub tenant: String,
    /// What it may do.
    pub allow: Vec<String>,
    /// Requests a second on each route; 0 for no limit of its own.
    pub rate: u32,
    /// `active`, `expired` or `revoked`.
    pub state: String,
    /// When it was made, ms since 1970.
    pub created_ms: u64,
    /// When it expires, ms since 1970; null for never.
    pub expires_ms: Option<u64>,
    /// When it was revoked, ms since 1970; null when it was not.
    pub revoked_ms: Option<u64>,
}

/// A token that was made just now.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewTokenView {
    /// What to send as `Authorization: Bearer …`. Told this once: only a hash of it is kept.
    pub token: String,
    /// What is known of it.
    #[serde(flatten)]
    pub about: TokenView,
}

impl std::fmt::Debug for NewTokenView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewTokenView").field("about", &self.about).finish_non_exhaustive()
    }
}

/// The tokens of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// The oldest first.
    pub tokens: Vec<TokenView>,
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        let some = |ms: u64| (ms != 0).then_some(ms);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let state = match (token.revoked_ms, token.expires_ms) {
            (1.., _) => "revoked",
            (0, expires_ms) if expires_ms != 0 && u128::from(expires_ms) <= now.as_millis() => "expired",
            _ => "active",
        };
        Self {
            id: token.id.to_string(),
            name: token.name,
            tenant: token.tenant,
            allow: token.scopes.split(',').map(str::to_owned).collect(),
            rate: token.rate,
            state: state.into(),
            created_ms: token.created_ms,
            expires_ms: some(token.expires_ms),
            revoked_ms: some(token.revoked_ms),
        }
    }
}

/// Make a token.
///
/// It acts in the tenant of the token it is made with and may do no more than that one. Its text is in the answer
/// and nowhere else.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", security(("token" = ["tokens"])),
    request_body(content = NewToken),
    responses((status = 201, description = "made", body = NewTokenView), Refusals),
)]
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Query::new(query.as_deref(), &[])?;
    let wanted: Option<NewToken> = payload::read_json(&headers, body, BODY_LEN_MAX).await?;
    let wanted = wanted.ok_or_else(|| {
        Problem::new(Failure::BadRequest, "the body is missing; send JSON such as {\"allow\":[\"send\",\"state\"]}")
    })?;
    let scopes = wanted.allow.join(",").parse();
    let wanted = Wanted {
        name: wanted.name,
        scopes: scopes.map_err(|error| Problem::new(Failure::Unprocessable, format!("`allow`: {error}")))?,
        rate: wanted.rate,
        lifetime: (wanted.expires_s > 0).then(|| Duration::from_secs(wanted.expires_s)),
    };
    let (token, text) = api.route.add_token(&caller, wanted).await?;
    let about = TokenView::from(token);
    let change = Change { what: "token-added", object: format!("{} {}", about.id, about.allow.join(",")) };
    let headers = [(header::LOCATION, format!("/v1/tokens/{}", about.id)), (header::CACHE_CONTROL, "no-store".into())];
    Ok((StatusCode::CREATED, headers, Extension(change), Json(NewTokenView { token: text, about })).into_response())
}

/// List the tokens of the tenant, without their secrets.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens", security(("token" = ["tokens"])),
    responses((status = 200, description = "all of them, at most 1,000", body = TokenList), Refusals),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    RawQuery(query): RawQuery,
) -> Result<Json<TokenList>, Problem> {
    Query::new(query.as_deref(), &[])?;
    let tokens = api.route.tokens(&caller.tenant).await?;
    Ok(Json(TokenList { tokens: tokens.into_iter().map(TokenView::from).collect() }))
}

/// Show a token, without its secret.
#[utoipa::path(
    get, path = "/v1/tokens/{id}", tag = "tokens", security(("token" = ["tokens"])),
    params(("id" = String, Path, description = "16 hexadecimal digits: the first part of the token behind imt_")),
    responses((status = 200, description = "the token", body = TokenView), Refusals),
)]
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<TokenView>, Problem> {
    Query::new(query.as_deref(), &[])?;
    Ok(Json(api.route.token(&caller.tenant, token_id(&id)?).await?.into()))
}

/// Revoke a token, for ever.
///
/// It counts no more: here at once, everywhere within 2 s. What it sent and no device had yet is `rejected` with
/// the code `forbidden` when its turn comes.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens", security(("token" = ["tokens"])),
    params(("id" = String, Path, description = "16 hexadecimal digits: the first part of the token behind imt_")),
    responses((status = 200, description = "revoked, now or before", body = TokenView), Refusals),
)]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::new(query.as_deref(), &[])?;
    let token = api.route.revoke_token(&caller.tenant, token_id(&id)?).await?;
    Ok((Extension(Change { what: "token-revoked", object: id }), Json(TokenView::from(token))).into_response())
}

fn token_id(text: &str) -> Result<TokenId, Problem> {
    text.parse().map_err(|error| {
        // A whole token may have been given by mistake: it is not repeated.
        let shown: String = text.chars().take(16).collect();
        Problem::new(Failure::BadRequest, format!("`{shown}` {error}"))
    })
}

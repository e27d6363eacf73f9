//! Who may do what: tokens, their scopes, their rate.
//!
//! ```text
//! imt_<id>_<secret> ──Tokens──▶ Caller ──check(Need)──▶ done, or `forbidden` naming the scope
//!                      │  ▲
//!              store, once  └─ RevokedTokens: every token is looked up again when the store's set changed
//! ```
//!
//! Requests are checked in two places and no others: [`http::guard`](crate::http) for every endpoint, by what the
//! OpenAPI document says of it, and `backend::need` for every message of a link. The token of the
//! configuration may do everything, in every tenant.

mod caller;
mod presented;
mod rate;
mod scope;
mod tokens;

pub(crate) use caller::{Caller, Need};
pub(crate) use presented::Presented;
pub(crate) use rate::Bucket;
pub(crate) use scope::is_like;
pub use scope::{ScopeError, Scopes, Verb};
pub(crate) use tokens::Tokens;

//! Tokens and audit records, as the handle gives them to the HTTP API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use imlink_protocol::id::{TENANT_DEFAULT, TokenId};
use imlink_protocol::link::backend::Failure;
use imlink_store::audit::AuditRecord;
use imlink_store::event::Position;
use imlink_store::limits::{TOKEN_NAME_LEN_MAX, TOKENS_PER_TENANT_MAX};
use imlink_store::token::{Token, TokenAdded};

use crate::access::{Caller, Presented, Scopes};
use crate::core::{Core, store_failed};
use crate::handle::Route;
use crate::request::Failed;

/// What a new token shall be.
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) scopes: Scopes,
    /// Requests a second on each route, 0 for no limit of its own.
    pub(crate) rate: u32,
    /// `None` for never.
    pub(crate) lifetime: Option<Duration>,
}

impl Route {
    /// Who presents `text`, acting in `tenant` (empty for the token's own).
    pub(crate) async fn authenticate(&self, text: &str, tenant: &str) -> Result<Arc<Caller>, Failed> {
        self.core().tokens.authenticate(self.core(), text, tenant).await
    }

    /// Whether `caller` counts still.
    pub(crate) fn is_current(&self, caller: &Caller) -> Result<(), Failed> {
        caller.is_current(self.core())
    }

    /// Makes a token that may do no more than `caller`. The text is told this once.
    pub(crate) async fn add_token(&self, caller: &Caller, wanted: Wanted) -> Result<(Token, String), Failed> {
        let core = self.core();
        let now_ms = core.store.now_ms().await.map_err(|error| store_failed(&error))?;
        let expires_ms = wanted.lifetime.map_or(0, |lifetime| {
            now_ms.saturating_add(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)).min((1 << 53) - 1)
        });
        check(caller, &wanted, expires_ms)?;
        let presented = Presented::draw().map_err(|error| {
            Failed::new(Failure::Internal, format!("no random numbers for a token: {error}; try again"))
        })?;
        let token = Token {
            id: presented.id,
            secret_hash: presented.hash(),
            tenant: caller.tenant.to_string(),
            name: wanted.name,
            scopes: wanted.scopes.to_string(),
            rate: wanted.rate,
            created_ms: now_ms,
            expires_ms,
            revoked_ms: 0,
        };
        match core.store.add_token(&token).await.map_err(|error| store_failed(&error))? {
            TokenAdded::Added => Ok((token, presented.reveal())),
            TokenAdded::Exists => Err(Failed::new(Failure::Conflict, "a token of this id exists by chance: try again")),
            TokenAdded::Full => {
                let why = format!(
                    "tenant {} has {TOKENS_PER_TENANT_MAX} tokens, no more are kept; those that were revoked or \
                     expired make room after 30 days",
                    caller.tenant
                );
                Err(Failed::new(Failure::Conflict, why))
            }
        }
    }

    /// The tokens of a tenant, the oldest first.
    pub(crate) async fn tokens(&self, tenant: &str) -> Result<Vec<Token>, Failed> {
        self.core().store.tokens(tenant).await.map_err(|error| store_failed(&error))
    }

    /// A token of a tenant.
    pub(crate) async fn token(&self, tenant: &str, id: TokenId) -> Result<Token, Failed> {
        let found = self.core().store.token(id).await.map_err(|error| store_failed(&error))?;
        found.filter(|token| token.tenant == tenant).ok_or_else(|| no_token(tenant, id))
    }

    /// Makes a token count no more: here at once, everywhere within 2 s.
    pub(crate) async fn revoke_token(&self, tenant: &str, id: TokenId) -> Result<Token, Failed> {
        let core = self.core();
        let revoked = core.store.revoke_token(tenant, id).await.map_err(|error| store_failed(&error))?;
        let token = revoked.ok_or_else(|| no_token(tenant, id))?;
        core.tokens.revoke(id);
        Ok(token)
    }

    /// Writes down what `caller` changed, from a task of its own that tries for a while.
    pub(crate) fn audit(&self, caller: &Caller, what: &str, object: String, from: String) {
        let (tenant, what) = (caller.tenant.to_string(), what.to_owned());
        let record = AuditRecord { who: caller.token, what, object: cut(object), from };
        tracing::info!(
            tenant,
            who = %record.who,
            what = record.what,
            object = record.object,
            from = record.from,
            "audit"
        );
        let core = self.core().clone();
        self.core().tasks.spawn(write(core, tenant, record));
    }

    /// Audit records of a tenant behind `after`, the oldest first; `None` for the newest `limit`.
    pub(crate) async fn audit_records(
        &self,
        tenant: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<(Position, AuditRecord)>, Failed> {
        self.core().store.audit(tenant, after, limit).await.map_err(|error| store_failed(&error))
    }
}

/// Nobody gives more than they have.
fn check(caller: &Caller, wanted: &Wanted, expires_ms: u64) -> Result<(), Failed> {
    let bad = |why| Err(Failed::new(Failure::BadRequest, why));
    let forbidden = |why| Err(Failed::new(Failure::Forbidden, why));
    let is_plain = |c: char| !c.is_control();
    if wanted.name.len() > TOKEN_NAME_LEN_MAX || !wanted.name.chars().all(is_plain) {
        return bad(format!(
            "the token's name must have at most {TOKEN_NAME_LEN_MAX} bytes without control characters"
        ));
    }
    if &*caller.tenant != TENANT_DEFAULT
        && let Some(verb) = wanted.scopes.of_cluster()
    {
        let why =
            format!("the scope `{}` is of no tenant; only tokens of tenant `{TENANT_DEFAULT}` have it", verb.name());
        return bad(why);
    }
    if let Some(scope) = caller.exceeded_by(&wanted.scopes) {
        return forbidden(format!("token {} does not have `{scope}` itself, so it cannot give it", caller.token));
    }
    if caller.rate > 0 && (wanted.rate == 0 || wanted.rate > caller.rate) {
        let why =
            format!("token {} has {} requests a second and cannot give more: name a rate", caller.token, caller.rate);
        return forbidden(why);
    }
    if caller.expires_ms > 0 && (expires_ms == 0 || expires_ms > caller.expires_ms) {
        return forbidden(format!("token {} expires before: name a lifetime within its own", caller.token));
    }
    Ok(())
}

async fn write(core: Arc<Core>, tenant: String, record: AuditRecord) {
    let give_up = Instant::now() + WRITE_MAX;
    while let Err(error) = core.store.add_audit(&tenant, &record).await {
        if Instant::now() >= give_up {
            tracing::error!(%error, tenant, ?record, "an audit record could not be written");
            return;
        }
        tokio::time::sleep(WRITE_PAUSE).await;
    }
}

fn no_token(tenant: &str, id: TokenId) -> Failed {
    Failed::new(Failure::NotFound, format!("tenant {tenant} has no token {id}; list them with `imlink token list`"))
}

fn cut(mut object: String) -> String {
    let end = (0..=OBJECT_LEN_MAX).rev().find(|end| object.is_char_boundary(*end)).unwrap_or_default();
    if object.len() > end {
        object.truncate(end);
    }
    object
}

/// Longest object of an audit record, in bytes.
const OBJECT_LEN_MAX: usize = 256;
/// How long an audit record is tried to be written, and the pause between two tries.
const WRITE_MAX: Duration = Duration::from_secs(60);
const WRITE_PAUSE: Duration = Duration::from_secs(1);

//! From what is presented to who it is, without a round trip for each request.
//!
//! A token is looked up once and then remembered. What is remembered counts as long as the store's set of revoked
//! tokens, which is followed twice a second, did not change; after a change each token is looked up again.
//! While the store is away what is remembered counts for [`STALE_MAX`]: nothing can be revoked meanwhile either.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imlink_protocol::id::{TENANT_DEFAULT, TokenId, check_tenant};
use imlink_protocol::link::backend::Failure;
use imlink_store::token::Token;
use imlink_store::{Error, RevokedTokens, Store};
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::{Caller, Presented};
use crate::core::{Core, store_failed};
use crate::request::Failed;

/// Tokens that this route remembers.
pub(crate) struct Tokens {
    /// SHA-256 of the token of the configuration.
    configured: [u8; 32],
    operator: Arc<Caller>,
    revoked: RevokedTokens,
    known: RwLock<HashMap<TokenId, Known>>,
    /// Tokens that are looked up at one moment: strangers cannot keep the store busy.
    lookups: Semaphore,
}

#[derive(Clone)]
struct Known {
    caller: Arc<Caller>,
    secret_hash: [u8; 32],
    /// State of the revoked tokens under which it was looked up.
    reads: u64,
}

impl Tokens {
    pub(crate) fn new(configured: &str, store: &Store) -> Self {
        let revoked = match Handle::try_current() {
            Ok(runtime) => RevokedTokens::watch(store, &runtime),
            Err(_) => RevokedTokens::default(),
        };
        Self {
            configured: Sha256::digest(configured).into(),
            operator: Arc::new(Caller::of_configuration(TENANT_DEFAULT)),
            revoked,
            known: RwLock::default(),
            lookups: Semaphore::new(LOOKUPS_MAX),
        }
    }

    pub(crate) fn is_revoked(&self, token: TokenId) -> bool {
        self.revoked.contains(token)
    }

    /// A revocation made here counts here at once.
    pub(crate) fn revoke(&self, token: TokenId) {
        self.revoked.insert(token);
    }

    /// Who presents `text`, acting in `tenant` (empty for the token's own).
    pub(crate) async fn authenticate(&self, core: &Core, text: &str, tenant: &str) -> Result<Arc<Caller>, Failed> {
        let digest: [u8; 32] = Sha256::digest(text).into();
        if digest.ct_eq(&self.configured).into() {
            return self.operator_in(tenant);
        }
        let Some(presented) = Presented::parse(text) else { return Err(unknown()) };
        let known = self.find(core, &presented).await?;
        if !presented.is(&known.secret_hash) {
            return Err(unknown());
        }
        let caller = known.caller;
        caller.is_current(core)?;
        if !tenant.is_empty() && tenant != &*caller.tenant {
            let why = format!(
                "token {} acts in tenant {} only; leave the tenant out, or ask for a token of {tenant:?}",
                caller.token, caller.tenant
            );
            return Err(Failed::new(Failure::Forbidden, why));
        }
        Ok(caller)
    }

    fn operator_in(&self, tenant: &str) -> Result<Arc<Caller>, Failed> {
        match tenant {
            "" | TENANT_DEFAULT => Ok(self.operator.clone()),
            other => match check_tenant(other) {
                Ok(()) => Ok(Arc::new(Caller::of_configuration(other))),
                Err(error) => Err(Failed::new(Failure::BadRequest, format!("tenant {other:?} {error}"))),
            },
        }
    }

    async fn find(&self, core: &Core, presented: &Presented) -> Result<Known, Failed> {
        let id = presented.id;
        let remembered = self.known.read().get(&id).cloned();
        let reads = self.revoked.reads();
        let is_fresh = |known: &Known| known.reads == reads && reads > 0 && self.revoked.silence() < STALE_MAX;
        if let Some(known) = remembered.clone().filter(is_fresh) {
            return Ok(known);
        }
        // Nobody makes the store work for a token whose secret is known to be another one.
        if remembered.as_ref().is_some_and(|known| !presented.is(&known.secret_hash)) {
            return Err(unknown());
        }
        let Ok(_permit) = self.lookups.try_acquire() else {
            let why = format!("{LOOKUPS_MAX} tokens are being looked up, no more at once: come back later");
            return Err(Failed::later(Failure::Overloaded, RETRY, why));
        };
        match core.store.token(id).await {
            Ok(Some(token)) => self.learn(token, reads, remembered.as_ref()),
            Ok(None) => {
                self.known.write().remove(&id);
                Err(unknown())
            }
            Err(Error::Away(_)) if remembered.is_some() && self.revoked.silence() < STALE_MAX => {
                remembered.ok_or_else(unknown)
            }
            Err(error) => Err(store_failed(&error)),
        }
    }

    fn learn(&self, token: Token, reads: u64, before: Option<&Known>) -> Result<Known, Failed> {
        if token.revoked_ms != 0 {
            self.known.write().remove(&token.id);
            return Err(Failed::new(Failure::Unauthorized, "the token was revoked; ask for a new one"));
        }
        // A token never changes but by its revocation: what it used of its rate stays used.
        let caller = match before.filter(|known| known.secret_hash == token.secret_hash) {
            Some(known) => known.caller.clone(),
            None => Arc::new(Caller::of_token(&token, Instant::now()).map_err(|error| {
                let why = format!("the scopes of token {} cannot be read: {error}; make it anew", token.id);
                Failed::new(Failure::Internal, why)
            })?),
        };
        let known = Known { caller, secret_hash: token.secret_hash, reads };
        let mut all = self.known.write();
        if all.len() >= KNOWN_MAX && !all.contains_key(&token.id) {
            // Rare; whoever comes again is looked up again.
            all.clear();
        }
        all.insert(token.id, known.clone());
        Ok(known)
    }
}

/// The same for an unknown id and a wrong secret.
fn unknown() -> Failed {
    Failed::new(Failure::Unauthorized, "the token is not known here; ask for one, or use that of the gateway or route")
}

/// Tokens remembered, at about 300 bytes each.
const KNOWN_MAX: usize = 16_384;
const LOOKUPS_MAX: usize = 64;
/// How long what is remembered counts while the store does not answer.
const STALE_MAX: Duration = Duration::from_secs(300);
/// Retry-after of a look-up refused for lack of room.
const RETRY: Duration = Duration::from_secs(1);

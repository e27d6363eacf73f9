//! The revoked tokens as a process knows them, at most half a second and one round trip behind the store.
//!
//! While the store does not answer, what was known last counts: nothing can be revoked meanwhile either.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use imlink_protocol::id::TokenId;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;

use crate::Store;
use crate::token::Revocations;

/// How often the store is asked: a revocation counts everywhere within 2 s.
const LOOK: Duration = Duration::from_millis(500);

/// A set that follows the store; clones share it. Looking is a read of a set, no round trip. The default one is
/// empty and follows nothing.
#[derive(Clone, Debug, Default)]
pub struct RevokedTokens {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ids: RwLock<HashSet<TokenId>>,
    is_any: AtomicBool,
    /// Times the set was read from the store.
    reads: AtomicU64,
    /// When the store last answered.
    answered: Mutex<Option<Instant>>,
}

impl RevokedTokens {
    /// Follows `store` in a task on `runtime` that ends with the last clone.
    pub fn watch(store: &Store, runtime: &Handle) -> Self {
        let shared = Arc::new(Shared::default());
        let (weak, store) = (Arc::downgrade(&shared), store.clone());
        runtime.spawn(async move {
            let mut known = None;
            loop {
                let answer = store.revocations(known).await;
                let Some(shared) = weak.upgrade() else { return };
                match answer {
                    Ok(Some(read)) => {
                        known = Some(read.version);
                        shared.take(read);
                    }
                    Ok(None) => *shared.answered.lock() = Some(Instant::now()),
                    Err(error) => tracing::debug!(%error, "revoked tokens cannot be looked up"),
                }
                drop(shared);
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { shared }
    }

    /// Whether `token` is known to be revoked.
    pub fn contains(&self, token: TokenId) -> bool {
        token.is_some() && self.shared.is_any.load(Ordering::Relaxed) && self.shared.ids.read().contains(&token)
    }

    /// Whether the store was asked successfully at least once.
    pub fn is_known(&self) -> bool {
        self.reads() > 0
    }

    /// How often the set was read anew: whatever was concluded from the store's tokens is to be checked again when
    /// this grew.
    pub fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::Acquire)
    }

    /// How long ago the store last answered; for ever if it never did.
    pub fn silence(&self) -> Duration {
        self.shared.answered.lock().map_or(Duration::MAX, |answered| answered.elapsed())
    }

    /// A revocation made by this process counts here at once.
    pub fn insert(&self, token: TokenId) {
        self.shared.ids.write().insert(token);
        self.shared.is_any.store(true, Ordering::Relaxed);
        self.shared.reads.fetch_add(1, Ordering::Release);
    }
}

impl Shared {
    fn take(&self, read: Revocations) {
        let ids: HashSet<TokenId> = read.ids.into_iter().collect();
        let is_any = !ids.is_empty();
        *self.ids.write() = ids;
        *self.answered.lock() = Some(Instant::now());
        self.is_any.store(is_any, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Release);
    }
}

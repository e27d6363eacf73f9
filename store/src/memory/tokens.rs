//! Tokens and audit records.

use std::collections::{HashMap, VecDeque};

use imlink_protocol::id::TokenId;

use crate::audit::AuditRecord;
use crate::event::Position;
use crate::limits::{AUDIT_MAX, REVOKED_TOKENS_MAX, TOKEN_KEPT_MAX, TOKENS_PER_TENANT_MAX};
use crate::token::{Revocations, RevocationsVersion, Token, TokenAdded};

/// All tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    known: HashMap<TokenId, Token>,
    /// The newest last.
    revoked: VecDeque<TokenId>,
    revocations: u64,
}

impl Tokens {
    pub(super) fn add(&mut self, token: &Token, now_ms: u64) -> TokenAdded {
        if self.known.contains_key(&token.id) {
            return TokenAdded::Exists;
        }
        let count = |known: &HashMap<_, Token>| known.values().filter(|other| other.tenant == token.tenant).count();
        if count(&self.known) >= TOKENS_PER_TENANT_MAX {
            let oldest_ms = now_ms.saturating_sub(TOKEN_KEPT_MAX.as_millis() as u64);
            let is_over = |at_ms: u64| at_ms != 0 && at_ms < oldest_ms;
            self.known.retain(|_, other| {
                other.tenant != token.tenant || !(is_over(other.revoked_ms) || is_over(other.expires_ms))
            });
        }
        if count(&self.known) >= TOKENS_PER_TENANT_MAX {
            return TokenAdded::Full;
        }
        self.known.insert(token.id, token.clone());
        TokenAdded::Added
    }

    pub(super) fn read(&self, id: TokenId) -> Option<Token> {
        self.known.get(&id).cloned()
    }

    pub(super) fn list(&self, tenant: &str) -> Vec<Token> {
        self.known.values().filter(|token| token.tenant == tenant).cloned().collect()
    }

    pub(super) fn revoke(&mut self, tenant: &str, id: TokenId, now_ms: u64) -> Option<Token> {
        let token = self.known.get_mut(&id).filter(|token| token.tenant == tenant)?;
        if token.revoked_ms == 0 {
            token.revoked_ms = now_ms;
            if self.revoked.len() >= REVOKED_TOKENS_MAX {
                self.revoked.pop_front();
            }
            self.revoked.push_back(id);
            self.revocations += 1;
        }
        Some(token.clone())
    }

    pub(super) fn revocations(&self, known: Option<RevocationsVersion>) -> Option<Revocations> {
        let version = RevocationsVersion { lineage: [0; 8], count: self.revocations };
        (known != Some(version)).then(|| Revocations { version, ids: self.revoked.iter().copied().collect() })
    }
}

/// The newest audit records of each tenant.
#[derive(Debug, Default)]
pub(super) struct Audit {
    records: HashMap<String, VecDeque<(Position, AuditRecord)>>,
}

impl Audit {
    pub(super) fn add(&mut self, tenant: &str, record: &AuditRecord, now_ms: u64) {
        let records = self.records.entry(tenant.to_owned()).or_default();
        let last = records.back().map_or(Position::default(), |(position, _)| *position);
        let next = match now_ms > last.ms {
            true => Position { ms: now_ms, n: 0 },
            false => Position { ms: last.ms, n: last.n + 1 },
        };
        if records.len() >= AUDIT_MAX {
            records.pop_front();
        }
        records.push_back((next, record.clone()));
    }

    pub(super) fn read(&self, tenant: &str, after: Option<Position>, limit: usize) -> Vec<(Position, AuditRecord)> {
        let Some(records) = self.records.get(tenant) else { return Vec::new() };
        let skipped = match after {
            Some(after) => records.partition_point(|(position, _)| *position <= after),
            None => records.len().saturating_sub(limit),
        };
        records.iter().skip(skipped).take(limit).cloned().collect()
    }
}

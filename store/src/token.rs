//! Tokens of backends: who may do what, and which were revoked.
//!
//! ```text
//! presented   imt_<id: 16 hex digits>_<secret: 64 hex digits>
//! stored      id · SHA-256 of the secret · tenant · scopes · …        never the secret
//! ```

use std::fmt;

use imlink_protocol::id::TokenId;

/// A token, without its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public part.
    pub id: TokenId,
    /// SHA-256 of the 32 bytes of its secret.
    pub secret_hash: [u8; 32],
    /// What it may act in.
    pub tenant: String,
    /// What people call it, at most [`TOKEN_NAME_LEN_MAX`](crate::limits::TOKEN_NAME_LEN_MAX) bytes.
    pub name: String,
    /// What it may do, as text that only routes read; at most
    /// [`TOKEN_SCOPES_LEN_MAX`](crate::limits::TOKEN_SCOPES_LEN_MAX) bytes.
    pub scopes: String,
    /// Requests a second on each route, 0 for no limit of its own.
    pub rate: u32,
    /// Store's time, ms since 1970.
    pub created_ms: u64,
    /// Store's time from which on it counts no more, 0 for never.
    pub expires_ms: u64,
    /// Store's time of its revocation, 0 when it was not revoked.
    pub revoked_ms: u64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("rate", &self.rate)
            .field("created_ms", &self.created_ms)
            .field("expires_ms", &self.expires_ms)
            .field("revoked_ms", &self.revoked_ms)
            .finish_non_exhaustive()
    }
}

/// What `add_token` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAdded {
    /// It counts from now on.
    Added,
    /// There is one of that id.
    Exists,
    /// The tenant has as many tokens as it may
    /// ([`TOKENS_PER_TENANT_MAX`](crate::limits::TOKENS_PER_TENANT_MAX)).
    Full,
}

/// Names a state of the set of revoked tokens: equal ones have the same contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationsVersion {
    pub(crate) lineage: [u8; 8],
    pub(crate) count: u64,
}

/// Every token that was revoked, at most [`REVOKED_TOKENS_MAX`](crate::limits::REVOKED_TOKENS_MAX).
#[derive(Clone, Debug)]
pub struct Revocations {
    /// To ask for newer ones with.
    pub version: RevocationsVersion,
    /// In any order.
    pub ids: Vec<TokenId>,
}

//! Audit records: who changed what, when, from where. The newest of each tenant are kept.

use imlink_protocol::id::TokenId;

/// One change. No field ever holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// The token it was done with; [`TokenId::NONE`] for that of the configuration.
    pub who: TokenId,
    /// What was done, such as `token-added`.
    pub what: String,
    /// To what: an id.
    pub object: String,
    /// The peer's address, or `local` for this process.
    pub from: String,
}

//! Every limit of the store that is not configured, with its unit and its reason.

use std::time::Duration;

/// Appends whose ids a mailbox remembers, so that a retry finds its first try (DESIGN §6.2).
pub const RECENT_MAX: usize = 16;
/// Outcomes other than acked that a mailbox remembers (DESIGN §6.4).
pub const OUTCOMES_MAX: usize = 64;
/// Age at which an outcome is forgotten.
pub const OUTCOME_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Generations of a mailbox whose first sequence is remembered; ids of older ones are `unknown`.
pub const GENERATIONS_MAX: usize = 4;
/// How often a mailbox's head may be offered to new sessions without progress before it is `failed` (DESIGN §6.3).
pub const OFFERS_MAX: u8 = 8;
/// Payload bytes of one page of a mailbox (DESIGN §6.3); at least one entry is returned.
pub const PAGE_LEN_MAX: usize = 16 * 1024;
/// Incarnations of a device's event queue that are remembered (DESIGN §6.6).
pub const QUEUES_MAX: usize = 2;
/// Tokens that one tenant may have, the revoked and expired ones that are still kept included.
pub const TOKENS_PER_TENANT_MAX: usize = 1000;
/// A token that is over for longer makes room for a new one when the tenant has no other.
pub const TOKEN_KEPT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Revoked tokens of all tenants that are remembered, so that what they sent is not delivered; 8 bytes each in every
/// route and IM-server. Past it the oldest is forgotten.
pub const REVOKED_TOKENS_MAX: usize = 65_536;
/// Longest name of a token, in bytes.
pub const TOKEN_NAME_LEN_MAX: usize = 64;
/// Longest text of a token's scopes, in bytes.
pub const TOKEN_SCOPES_LEN_MAX: usize = 4096;
/// Audit records kept for each tenant; past it the oldest is dropped.
pub const AUDIT_MAX: usize = 10_000;
/// What a client's clock may differ from its own record of when an append was first tried.
pub const RETRY_SLACK: Duration = Duration::from_secs(1);

const _: () = assert!(RECENT_MAX.is_power_of_two());

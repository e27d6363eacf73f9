//! Nodes of a cluster: whose public keys are believed, and which join tokens enrol new ones.
//!
//! ```text
//! no key ──enrol with a token──▶ enrolled ──remove──▶ removed: that key never comes back under that name
//!                                   ▲                    └──enrol with another key and a token──▶ enrolled
//!                                   └── the same key again: nothing changes, no token is used
//! ```
//!
//! Nothing here is secret: keys are public, and a token's secret is derived by routes and kept nowhere.

use std::fmt;
use std::str::FromStr;

/// Bytes of a public key.
pub const NODE_KEY_LEN: usize = 32;
/// Bytes of a join token's id.
pub const JOIN_ID_LEN: usize = 8;
/// Most nodes that a store keeps, removed ones included.
pub const NODES_MAX: usize = 4096;
/// Most join tokens that a store keeps.
pub const JOIN_TOKENS_MAX: usize = 1024;

/// What a node's key is good for. A key of one role never acts in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeRole {
    /// A route: IM-servers dial it.
    Route,
    /// An IM-server: it dials routes.
    Server,
}

/// A node that was enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What its key is good for.
    pub role: NodeRole,
    /// Name, unique among the nodes of its role, of the form of a device id.
    pub name: String,
    /// Public key, X25519.
    pub key: [u8; NODE_KEY_LEN],
    /// When it was enrolled, ms since 1970 by the store.
    pub enrolled_ms: u64,
    /// It was removed: its key is refused.
    pub is_removed: bool,
}

/// A join token as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// Names the token; public.
    pub id: [u8; JOIN_ID_LEN],
    /// What it enrols.
    pub role: NodeRole,
    /// Good until, ms since 1970 by the store; 0 for ever.
    pub expires_ms: u64,
    /// Nodes that it may still enrol; 0 for any number.
    pub uses: u32,
}

/// What became of an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// The key is the node's, now or already.
    Yes,
    /// A node of this name and role has another key.
    NameTaken,
    /// This key was removed.
    Removed,
    /// The token is unknown, over, used up, or for another role.
    NoToken,
    /// [`NODES_MAX`] nodes are known.
    Full,
}

impl NodeRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Route, Self::Server];

    /// As it is written in commands and keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Server => "server",
        }
    }

    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Route => 0,
            Self::Server => 1,
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role of a node: route, server")]
pub struct NodeRoleError(String);

impl FromStr for NodeRole {
    type Err = NodeRoleError;

    fn from_str(text: &str) -> Result<Self, NodeRoleError> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| NodeRoleError(text.into()))
    }
}

impl JoinToken {
    /// Whether its time is over.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now_ms
    }
}

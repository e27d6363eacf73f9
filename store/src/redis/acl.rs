//! What each kind of process may do in Redis: a user a role, made from the list of what the code asks.
//!
//! ```text
//! OPERATIONS   operation · who does it · keys · commands sent, scripts called (their commands: by their text)
//!      └──▶ rules(role)   no-key commands, then one selector for each kind of key: (~im:e:* +evalsha +xadd …)
//! ```
//!
//! A command that is missing here fails the conformance suite, which runs as a user with these rules; an operation of
//! the store that is missing fails a test below; a command too many fails `tests/acl`.
//!
//! A script runs with the rights of who calls it, and every script may be loaded by all. What a role can't do, it
//! can't do by a script either. Commands that delete or read at large (`FLUSHALL`, `KEYS`, `CONFIG` …) are nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::script::Call;

/// A kind of process that opens the store in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A route: provisions, appends, reads events, enrols nodes.
    Route,
    /// An IM-server: holds sessions, delivers, stores events. It reads node keys, interfaces and which tokens are
    /// revoked, and writes neither node keys nor join tokens nor leases nor the list of devices nor backends' tokens.
    Server,
    /// A gateway on Redis: route and IM-server in one.
    Gateway,
    /// `imlink node`: node keys and join tokens, and nothing of devices.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Route, Self::Server, Self::Gateway, Self::Admin];

    /// As it is written in commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Server => "server",
            Self::Gateway => "gateway",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role in Redis: route, server, gateway, admin")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| RoleError(text.into()))
    }
}

/// The rights of a user in `roles`, as modifiers of `ACL SETUSER` (Redis ≥ 7.0: selectors), for a user that has none.
pub fn rules(roles: &[Role]) -> Vec<String> {
    let mut rights: BTreeMap<(Keys, Access), BTreeSet<&str>> = BTreeMap::new();
    for operation in OPERATIONS.iter().filter(|operation| operation.who.iter().any(|who| roles.contains(who))) {
        for (keys, access, commands, scripts) in operation.asks {
            let of_keys = rights.entry((*keys, *access)).or_default();
            of_keys.extend(*commands);
            if !scripts.is_empty() {
                of_keys.insert("EVALSHA");
                of_keys.extend(scripts.iter().flat_map(|script| script.commands()));
                // It has no keys, and everyone may ask for it.
                of_keys.remove("TIME");
            }
        }
    }
    let mut rules = vec!["resetchannels".to_owned(), "-@all".to_owned()];
    let grants = |commands: &BTreeSet<&str>| -> Vec<String> {
        commands.iter().map(|command| format!("+{}", command.to_lowercase())).collect()
    };
    for ((keys, access), commands) in &rights {
        match keys.pattern() {
            None => rules.extend(grants(commands)),
            Some(pattern) => {
                let access = if *access == Access::Read { "%R~" } else { "~" };
                rules.push(format!("({access}{pattern} {})", grants(commands).join(" ")));
            }
        }
    }
    rules
}

/// What a role does in the store, by the names of [`Store`](crate::Store)'s operations.
pub fn operations(role: Role) -> impl Iterator<Item = &'static str> {
    OPERATIONS.iter().filter(move |operation| operation.who.contains(&role)).map(|operation| operation.name)
}

/// A kind of key, see `layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Keys {
    /// A command without keys.
    None,
    /// Hash, queue and outcomes of a device.
    Device,
    /// The list of a tenant's devices.
    Names,
    /// Streams of events, what is known of their queues and groups.
    Events,
    /// What firmware builds speak.
    Interfaces,
    /// Idempotency keys.
    Idempotency,
    /// Leases of routes.
    Routes,
    /// Leases of IM-servers.
    Servers,
    /// Node keys and join tokens.
    Nodes,
    /// Tokens of backends, and which are revoked.
    Tokens,
    /// Which tokens are revoked, without anything else of them.
    RevokedTokens,
    /// Audit records.
    Audit,
}

impl Keys {
    const fn pattern(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Device => Some("im:{*"),
            Self::Names => Some("im:d:*"),
            Self::Events => Some("im:e:*"),
            Self::Interfaces => Some("im:f:*"),
            Self::Idempotency => Some("im:i:*"),
            Self::Routes => Some("im:routes"),
            Self::Servers => Some("im:servers"),
            Self::Nodes => Some("im:n:*"),
            Self::Tokens => Some("im:t:*"),
            Self::RevokedTokens => Some("im:t:{tokens}:?"),
            Self::Audit => Some("im:a:*"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    Read,
    /// Scripts need it whatever they do.
    Write,
}

/// Keys of one kind: what is sent and called with them.
type Ask = (Keys, Access, &'static [&'static str], &'static [Call]);

/// One operation of [`Store`](crate::Store), or what every connection does.
struct Operation {
    name: &'static str,
    who: &'static [Role],
    asks: &'static [Ask],
}

const fn op(name: &'static str, who: &'static [Role], asks: &'static [Ask]) -> Operation {
    Operation { name, who, asks }
}

const EVERYONE: &[Role] = &Role::ALL;
/// Who takes requests of backends.
const ROUTES: &[Role] = &[Role::Route, Role::Gateway];
/// Who holds devices.
const SERVERS: &[Role] = &[Role::Server, Role::Gateway];
const NODES: &[Role] = &[Role::Route, Role::Server, Role::Gateway];
const ADMINS: &[Role] = &[Role::Admin];
/// Who lists IM-servers.
const LISTING: &[Role] = &[Role::Route, Role::Gateway, Role::Admin];
const MEMBERSHIP: &[Role] = &[Role::Route, Role::Admin];

/// What the code asks of Redis. The first is what each connection does by itself.
const OPERATIONS: &[Operation] = &[
    op(
        "connect",
        EVERYONE,
        &[(Keys::None, Access::Read, &["CLIENT|ID", "CLIENT|KILL", "INFO", "PING", "SCRIPT|LOAD", "SELECT"], &[])],
    ),
    op("ping", EVERYONE, &[]),
    op("now_ms", EVERYONE, &[(Keys::None, Access::Read, &["TIME"], &[])]),
    op(
        "provision",
        ROUTES,
        &[(Keys::Names, Access::Write, &["ZADD"], &[]), (Keys::Device, Access::Write, &[], &[Call::Provision])],
    ),
    op("identity", NODES, &[(Keys::Device, Access::Read, &["HMGET"], &[])]),
    op("revoke", ROUTES, &[(Keys::Device, Access::Write, &[], &[Call::Revoke])]),
    op("restore", ROUTES, &[(Keys::Device, Access::Write, &[], &[Call::Restore])]),
    op("set_next_key", ROUTES, &[(Keys::Device, Access::Write, &[], &[Call::NextKey])]),
    op("promote_key", ROUTES, &[(Keys::Device, Access::Write, &[], &[Call::PromoteKey])]),
    op(
        "remove",
        ROUTES,
        &[
            (Keys::Device, Access::Write, &[], &[Call::Remove]),
            (Keys::Names, Access::Write, &["ZREM"], &[]),
            (Keys::Events, Access::Write, &["HDEL"], &[]),
        ],
    ),
    op("devices", ROUTES, &[(Keys::Names, Access::Read, &["ZRANGEBYLEX"], &[])]),
    op(
        "attach",
        SERVERS,
        &[(Keys::Device, Access::Write, &[], &[Call::Attach]), (Keys::Events, Access::Read, &["HGET"], &[])],
    ),
    op("detach", SERVERS, &[(Keys::Device, Access::Write, &[], &[Call::Detach])]),
    op("reassert", SERVERS, &[(Keys::Device, Access::Write, &[], &[Call::Reassert])]),
    op("heads", SERVERS, &[(Keys::Device, Access::Read, &["HGET"], &[])]),
    op("append", ROUTES, &[(Keys::Device, Access::Write, &[], &[Call::Append])]),
    op("read_mailbox", SERVERS, &[(Keys::Device, Access::Write, &[], &[Call::Read])]),
    op("acknowledge", SERVERS, &[(Keys::Device, Access::Write, &[], &[Call::Acknowledge])]),
    op("message_state", ROUTES, &[(Keys::Device, Access::Write, &[], &[Call::State])]),
    op("cancel", ROUTES, &[(Keys::Device, Access::Write, &[], &[Call::State])]),
    op("idempotent", ROUTES, &[(Keys::Idempotency, Access::Write, &[], &[Call::Idempotent])]),
    op("idempotent_done", ROUTES, &[(Keys::Idempotency, Access::Write, &[], &[Call::IdempotentDone])]),
    op("add_token", ROUTES, &[(Keys::Tokens, Access::Write, &[], &[Call::TokenAdd])]),
    op("token", ROUTES, &[(Keys::Tokens, Access::Read, &["HGET"], &[])]),
    op("tokens", ROUTES, &[(Keys::Tokens, Access::Write, &[], &[Call::Tokens])]),
    op("revoke_token", ROUTES, &[(Keys::Tokens, Access::Write, &[], &[Call::TokenRevoke])]),
    op("revocations", NODES, &[(Keys::RevokedTokens, Access::Write, &[], &[Call::Revocations])]),
    op("add_audit", ROUTES, &[(Keys::Audit, Access::Write, &[], &[Call::Audit])]),
    op("audit", ROUTES, &[(Keys::Audit, Access::Read, &["XRANGE", "XREVRANGE"], &[])]),
    op("append_events", SERVERS, &[(Keys::Events, Access::Write, &[], &[Call::Events])]),
    op("read_events", ROUTES, &[(Keys::Events, Access::Read, &["XRANGE"], &[])]),
    op("wait_events", ROUTES, &[(Keys::Events, Access::Read, &["XREAD"], &[])]),
    op("event_tails", ROUTES, &[(Keys::Events, Access::Read, &["XREVRANGE"], &[])]),
    op("commit_events", ROUTES, &[(Keys::Events, Access::Write, &["HSETNX"], &[Call::Commit])]),
    op("committed_events", ROUTES, &[(Keys::Events, Access::Read, &["HGET"], &[])]),
    op("put_interface", SERVERS, &[(Keys::Interfaces, Access::Write, &["SET"], &[])]),
    op("interface", NODES, &[(Keys::Interfaces, Access::Read, &["GET"], &[])]),
    op("register_route", ROUTES, &[(Keys::Routes, Access::Write, &[], &[Call::Lease])]),
    op("routes", EVERYONE, &[(Keys::Routes, Access::Read, &["HGETALL"], &[])]),
    op("remove_route", ROUTES, &[(Keys::Routes, Access::Write, &[], &[Call::Lease])]),
    op("register_server", ROUTES, &[(Keys::Servers, Access::Write, &[], &[Call::Lease])]),
    op("servers", LISTING, &[(Keys::Servers, Access::Read, &["HGETALL"], &[])]),
    op("remove_server", ROUTES, &[(Keys::Servers, Access::Write, &[], &[Call::Lease])]),
    op("enrol_node", &[Role::Route], &[(Keys::Nodes, Access::Write, &[], &[Call::EnrolNode])]),
    op("nodes", &[Role::Route, Role::Server, Role::Admin], &[(Keys::Nodes, Access::Read, &["HGETALL"], &[])]),
    op("node", &[Role::Route, Role::Server, Role::Admin], &[(Keys::Nodes, Access::Read, &["HGET"], &[])]),
    op("remove_node", ADMINS, &[(Keys::Nodes, Access::Write, &[], &[Call::RemoveNode])]),
    op("put_join_token", MEMBERSHIP, &[(Keys::Nodes, Access::Write, &["HDEL", "HGETALL", "HSET"], &[])]),
    op("join_tokens", MEMBERSHIP, &[(Keys::Nodes, Access::Read, &["HGETALL"], &[])]),
    op("remove_join_token", ADMINS, &[(Keys::Nodes, Access::Write, &["HDEL"], &[])]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_of_the_store_is_listed() {
        // What opens it asks what `connect` says.
        let opening = ["redis"];
        let files = [include_str!("../store.rs"), include_str!("../members.rs")];
        let functions = files.iter().flat_map(|source| source.split("pub async fn ").skip(1));
        let asked = functions.filter_map(|rest| rest.split('(').next());
        let asked: Vec<&str> = asked.filter(|name| !opening.contains(name)).collect();
        assert_eq!(asked.len() + opening.len(), OPERATIONS.len(), "a file of the store's is not looked at");
        for name in asked {
            let listed = OPERATIONS.iter().filter(|operation| operation.name == name).count();
            assert_eq!(listed, 1, "who may do `{name}`, and what it asks of Redis, belongs in OPERATIONS");
        }
    }

    #[test]
    fn every_script_belongs_to_an_operation() {
        let asks = OPERATIONS.iter().flat_map(|operation| operation.asks);
        let called: Vec<Call> = asks.flat_map(|(_, _, _, scripts)| *scripts).copied().collect();
        for call in Call::ALL {
            assert!(called.contains(&call), "{call:?} is nobody's");
        }
    }

    #[test]
    fn a_server_writes_no_key_that_says_who_belongs_to_the_cluster() {
        let server = rules(&[Role::Server]).join(" ");
        for pattern in ["~im:d:", "~im:i:", "~im:routes", "~im:servers", "~im:n:"] {
            let written = server.split(pattern).collect::<Vec<_>>();
            let is_only_read = written.iter().take(written.len() - 1).all(|before| before.ends_with("%R"));
            assert!(is_only_read, "{pattern} is written: {server}");
        }
        // Whether a token is revoked, by commands that read.
        assert_eq!(server.matches("im:t:").count(), 1, "{server}");
        assert!(server.contains("(~im:t:{tokens}:? +evalsha +get +zrange)") && !server.contains("im:a:"), "{server}");
        assert!(server.contains("(~im:{* ") && server.contains("(%R~im:n:* +hget +hgetall)"), "{server}");
    }
}

//! Flags of the commands that look after a cluster: they work on its store.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use imlink_protocol::id::check_device_id;
use imlink_store::acl::Role;
use imlink_store::node::NodeRole;

use crate::config::Sources;

pub(crate) const NODE_EXAMPLES: &str = "\
Examples:
  imlink node token --expires 1h --uses 1         on a machine with a route; give what it prints to `imlink server --join`
  imlink node list
  imlink node remove server-2                     its links are closed within 2 s, and its key never comes back
  imlink node tokens
  imlink node revoke 0123456789abcdef             takes a join token back";

pub(crate) const REDIS_ACL_EXAMPLES: &str = "\
Examples:
  imlink redis-acl > users.acl                    for `aclfile users.acl` in redis.conf; passwords go to standard error
  imlink redis-acl --role server --json
  imlink redis-acl --role server --setuser | redis-cli";

/// The store of a cluster, as a route finds it.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Configuration file of a route (TOML)
    #[arg(long, global = true, env = "IMLINK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Redis URL of the cluster [default: redis://127.0.0.1:6379]
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    /// Certificates of who may have signed that of Redis, for rediss:// (PEM) [default: the system's]
    #[arg(long, global = true, value_name = "FILE")]
    store_ca: Option<String>,
    /// Where a route keeps the cluster secret
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl ClusterArgs {
    /// The flags as a layer, on top of the environment and the file.
    pub(crate) fn sources(&self, environment: Vec<(String, String)>) -> Sources {
        let flags = [("store", &self.store), ("store_ca", &self.store_ca), ("state_dir", &self.state_dir)];
        Sources {
            file: self.config.clone(),
            environment,
            flags: flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect(),
            set: Vec::new(),
        }
    }
}

/// `imlink node …`
#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: NodeCommand,
}

/// What `imlink node` does.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Make a join token and print it: whoever has it may enrol a node. It is shown once
    Token {
        /// What it enrols; routes enrol themselves, they have the cluster secret
        #[arg(long, default_value = "server", value_parser = joining_role)]
        role: NodeRole,
        /// How long it is good for: 30m, 1h, 7d, or never
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
        expires: Expires,
        /// Nodes that it may enrol, 0 for any number
        #[arg(long, value_name = "N", default_value_t = 1)]
        uses: u32,
    },
    /// List the nodes and their public keys
    List,
    /// Refuse a node's key for ever, and close its links
    Remove {
        /// Its role
        #[arg(long, default_value = "server")]
        role: NodeRole,
        /// Its name
        #[arg(value_parser = name)]
        name: String,
    },
    /// List the join tokens, without their secrets
    Tokens,
    /// Take a join token back
    Revoke {
        /// Its id, the first half of the token
        #[arg(value_parser = token_id, value_name = "ID")]
        id: TokenId,
    },
}

/// `imlink redis-acl`
#[derive(Debug, Args)]
pub(crate) struct RedisAclArgs {
    /// Only this role: route, server, gateway, admin [default: all, and no default user]
    #[arg(long)]
    pub(crate) role: Option<Role>,
    /// What the names of the users begin with
    #[arg(long, default_value = "imlink-", value_parser = name)]
    pub(crate) prefix: String,
    /// As commands for redis-cli, else as lines of an ACL file
    #[arg(long, conflicts_with = "json")]
    pub(crate) setuser: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// When a token's time is over; `None` for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expires(pub(crate) Option<Duration>);

/// Id of a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenId(pub(crate) [u8; 8]);

fn time(text: &str) -> Result<Expires, String> {
    if text == "never" {
        return Ok(Expires(None));
    }
    let wrong = || format!("`{text}` is no time; expected 45s, 30m, 1h, 7d or never");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1u64,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u32 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    if number == 0 { Err(wrong()) } else { Ok(Expires(Some(Duration::from_secs(seconds * u64::from(number))))) }
}

fn joining_role(text: &str) -> Result<NodeRole, String> {
    match text.parse().map_err(|error: imlink_store::node::NodeRoleError| error.to_string())? {
        NodeRole::Route => Err("a route needs no token: it enrols itself where it has the cluster secret".into()),
        NodeRole::Server => Ok(NodeRole::Server),
    }
}

fn name(text: &str) -> Result<String, String> {
    check_device_id(text).map_err(|error| error.to_string())?;
    Ok(text.into())
}

fn token_id(text: &str) -> Result<TokenId, String> {
    let is_digit = |byte: u8| byte.is_ascii_hexdigit();
    let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16 && text.bytes().all(is_digit));
    let number = number.ok_or("the id of a join token is 16 hexadecimal digits, as `imlink node tokens` lists them")?;
    Ok(TokenId(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(time("30m"), Ok(Expires(Some(Duration::from_secs(1800)))));
        assert_eq!(time("never"), Ok(Expires(None)));
        for wrong in ["", "h", "5", "0h", "-1h", "1w", "1.5h", "é"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
        assert_eq!(token_id("00000000000000ff"), Ok(TokenId([0, 0, 0, 0, 0, 0, 0, 255])));
        for wrong in ["ff", "00000000000000fg", "+0000000000000ff", "00000000000000ff0"] {
            assert!(token_id(wrong).is_err(), "{wrong}");
        }
    }
}

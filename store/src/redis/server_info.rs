//! What `INFO` says of the server at the far end.

use super::link::Lineage;
use crate::Error;

/// The lines that matter.
pub(super) struct ServerInfo<'a> {
    text: &'a str,
}

impl<'a> ServerInfo<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        Self { text }
    }

    /// Refuses a server that would lose data; else gives its lineage.
    pub(super) fn check(&self) -> Result<Lineage, Error> {
        let version = self.line("redis_version").unwrap_or("unknown");
        // Valkey counts on from there, and says so here.
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
        if major < VERSION_MIN {
            return Err(Error::Unusable(format!("Redis is {version}: 7.0 or newer, or Valkey, is needed")));
        }
        match self.line("maxmemory_policy") {
            None | Some("noeviction") => {}
            Some(policy) => {
                return Err(Error::Unusable(format!(
                    "maxmemory-policy of Redis is {policy}, which drops messages when memory is short: set it to \
                     noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf)"
                )));
            }
        }
        if self.line("loading") == Some("1") {
            return Err(Error::Away("Redis is loading its data".into()));
        }
        if self.line("role") == Some("slave") {
            return Err(Error::Away("Redis is a replica here: connect to the master".into()));
        }
        self.line("run_id")
            .and_then(lineage_of)
            .ok_or_else(|| Error::Unusable("INFO of Redis has no run_id: a proxy in between?".into()))
    }

    fn line(&self, name: &str) -> Option<&'a str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }
}

/// The first 64 of the 160 bits of a `run_id`.
fn lineage_of(run_id: &str) -> Option<Lineage> {
    let bits = u64::from_str_radix(run_id.get(..16)?, 16).ok()?;
    Some(bits.max(1).to_be_bytes())
}

const VERSION_MIN: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:0123456789abcdef0123456789abcdef01234567\r\n\
                        maxmemory_policy:noeviction\r\nloading:0\r\nrole:master\r\n";

    fn refusal(from: &str, to: &str) -> String {
        let text = GOOD.replace(from, to);
        ServerInfo::parse(&text).check().expect_err("must be refused").to_string()
    }

    #[test]
    fn a_good_server_gives_its_lineage() {
        let lineage = ServerInfo::parse(GOOD).check().expect("nothing is wrong with it");
        assert_eq!(lineage, 0x0123_4567_89ab_cdef_u64.to_be_bytes());
    }

    #[test]
    fn a_server_that_would_lose_data_is_refused_and_told_what_to_do() {
        assert!(refusal("7.0.15", "6.2.1").contains("7.0 or newer"));
        assert!(refusal("noeviction", "allkeys-lru").contains("CONFIG SET maxmemory-policy noeviction"));
        assert!(refusal("loading:0", "loading:1").contains("loading"));
        assert!(refusal("role:master", "role:slave").contains("replica"));
        assert!(refusal("run_id:0", "run_id:x").contains("run_id"));
    }
}

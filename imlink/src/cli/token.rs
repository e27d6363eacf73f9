//! Flags of `imlink token` and `imlink audit`.

use clap::{Args, Subcommand};

use super::ClientArgs;

pub(crate) const TOKEN_EXAMPLES: &str = "\
Examples:
  imlink token add --allow send,state,call:lamp-* --expires 30d --rate 100/s --name billing
  imlink token add --allow provision,devices,tokens,audit --tenant acme     an administrator of tenant acme
  imlink token list
  imlink token revoke 0f1e2d3c4b5a6978                  counts no more, everywhere within 2 s
What --allow takes, each alone or (those with *) as VERB:DEVICE-PATTERN:
  send*  call*  state*  cancel*  devices*  provision*  events*  servers  metrics  tokens  audit";

/// `imlink token …`
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

/// What `imlink token` does.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, once: only a hash of it is kept
    Add {
        /// What it may do: verbs, each for all devices or for those of a pattern, such as send,call:lamp-*
        #[arg(long, value_name = "SCOPES", required = true, value_delimiter = ',')]
        allow: Vec<String>,
        /// Lifetime, such as 90s, 15m, 12h, 30d [default: for ever]
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u64>,
        /// Requests a second on each route, such as 100/s [default: no limit of its own]
        #[arg(long, value_name = "N/s", value_parser = rate)]
        rate: Option<u32>,
        /// What people call it, at most 64 bytes
        #[arg(long, default_value = "")]
        name: String,
    },
    /// List the tenant's tokens, without their secrets
    List,
    /// Revoke tokens for ever: what they sent and no device had yet is rejected as forbidden
    Revoke {
        /// Ids: the 16 hexadecimal digits behind imt_
        #[arg(required = true, value_parser = token_id)]
        ids: Vec<String>,
    },
}

/// `imlink audit`
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Only what follows the record of this position, as printed with --json [default: the newest]
    #[arg(long, value_name = "POSITION")]
    pub(crate) after: Option<String>,
    /// At most this many, 1–1000
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a time; write a whole number and s, m, h or d, such as 30d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse().ok().filter(|rate| *rate > 0);
    number.ok_or_else(|| format!("`{text}` is not a rate; write requests a second, such as 100/s"))
}

fn token_id(text: &str) -> Result<String, String> {
    let id: Result<imlink_protocol::TokenId, _> = text.parse();
    // A whole token may have been given by mistake: it is not repeated.
    id.map(|id| id.to_string()).map_err(|error| format!("this {error}: the part of the token between imt_ and _"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read_with_their_units() {
        assert_eq!(seconds("30d"), Ok(2_592_000));
        assert_eq!((seconds("90s"), seconds("15m"), seconds("12h")), (Ok(90), Ok(900), Ok(43_200)));
        for wrong in ["", "d", "30", "0d", "-1d", "1.5h", "3é", "99999999999999999999d"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!((rate("100/s"), rate("5")), (Ok(100), Ok(5)));
        assert!(rate("0/s").is_err() && rate("1/m").is_err());
    }
}

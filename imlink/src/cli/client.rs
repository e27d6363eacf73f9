//! Flags of the commands that ask a gateway or route.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use imlink_protocol::id::{check_device_id, check_path, check_tenant};

pub(crate) const SEND_EXAMPLES: &str = "\
Examples:
  imlink send lamp-17 led/set --hex 01                  stored: it arrives when the device is there
  imlink send lamp-17 led/set --hex 01 --wait acked     wait until the device carried it out
  imlink send lamp-17 text/show --text 'door open' --ttl 60
  imlink send lamp-17 config/set --file config.bin --json
  some-program | imlink send lamp-17 led/set --file -";

pub(crate) const CALL_EXAMPLES: &str = "\
Examples:
  imlink call lamp-17 led/get                           the answer in hexadecimal
  imlink call lamp-17 echo --text hello --out text
  imlink call lamp-17 led/get --out raw > answer.bin";

pub(crate) const WATCH_EXAMPLES: &str = "\
Examples:
  imlink watch                                          everything from now on
  imlink watch --devices 'lamp-*' --json | jq .payload_base64
  imlink watch --group billing --commit                 go on where the group stopped, and say so
  imlink watch --count 10";

/// Where to ask, and how answers are printed.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArgs {
    /// HTTP API of the gateway or route
    #[arg(long, global = true, env = "IMLINK_URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// Bearer token [default: the one that a gateway on this machine keeps in its state directory]
    #[arg(long, global = true, env = "IMLINK_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// File with the bearer token
    #[arg(long, global = true, env = "IMLINK_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The gateway's state directory, where its token is
    #[arg(long, global = true, env = "IMLINK_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Tenant to act in, for the gateway's own token [default: the token's tenant]
    #[arg(long, global = true, env = "IMLINK_TENANT", value_name = "TENANT", value_parser = tenant)]
    pub(crate) tenant: Option<String>,
    /// PEM file with the authority of the gateway's certificate, for https [default: those of this machine]
    #[arg(long, global = true, env = "IMLINK_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What goes to the device.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PayloadArgs {
    /// Payload in hexadecimal, such as 01ff
    #[arg(long, value_parser = hex, value_name = "BYTES")]
    pub(crate) hex: Option<Hex>,
    /// Payload as UTF-8 text
    #[arg(long)]
    pub(crate) text: Option<String>,
    /// File with the payload, - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Bytes given in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

/// What `send` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// Until the message is in the store
    Stored,
    /// Until the device carried it out
    Acked,
}

/// `imlink send …`
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Device id
    #[arg(value_parser = device_id)]
    pub(crate) device: String,
    /// Path, such as led/set
    #[arg(value_parser = path)]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) payload: PayloadArgs,
    /// What to wait for
    #[arg(long, value_enum, default_value_t = WaitFor::Stored)]
    pub(crate) wait: WaitFor,
    /// Longest wait for the answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub(crate) timeout: f64,
    /// Lifetime in seconds, 0 for ever [default: the route's, one day]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u32>,
    /// The same key within 24 h gives the first message again
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

/// How an answer's bytes are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Out {
    /// Hexadecimal
    Hex,
    /// As text
    Text,
    /// As they are
    Raw,
}

/// `imlink call …`
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Device id
    #[arg(value_parser = device_id)]
    pub(crate) device: String,
    /// Path, such as led/get
    #[arg(value_parser = path)]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) payload: PayloadArgs,
    /// Time to the deadline, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub(crate) timeout: f64,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Out::Hex)]
    pub(crate) out: Out,
}

/// `imlink watch …`
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Only devices of this form; * stands for any run of characters
    #[arg(long, value_name = "PATTERN")]
    pub(crate) devices: Option<String>,
    /// Consumer group whose position is kept in the store
    #[arg(long, value_parser = device_id)]
    pub(crate) group: Option<String>,
    /// Commit the group's position as events are printed
    #[arg(long, requires = "group")]
    pub(crate) commit: bool,
    /// Resume behind this position, as printed with --json
    #[arg(long)]
    pub(crate) position: Option<String>,
    /// End after this many events
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

pub(super) fn device_id(text: &str) -> Result<String, String> {
    check_device_id(text).map_err(|error| error.to_string())?;
    Ok(text.into())
}

fn tenant(text: &str) -> Result<String, String> {
    check_tenant(text).map_err(|error| error.to_string())?;
    Ok(text.into())
}

fn path(text: &str) -> Result<String, String> {
    check_path(text).map_err(|error| error.to_string())?;
    Ok(text.into())
}

fn hex(text: &str) -> Result<Hex, String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, ' ' | ':' | '_'))
        .map(|c| c.to_digit(16).ok_or_else(|| format!("`{c}` is not a hexadecimal digit")))
        .collect::<Result<_, _>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("an odd number of hexadecimal digits; two make a byte".into());
    }
    let byte = |[high, low]: &[u32; 2]| u8::try_from(high * 16 + low).map_err(|error| error.to_string());
    pairs.iter().map(byte).collect::<Result<_, _>>().map(Hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_with_or_without_separators() {
        assert_eq!(hex("01ff"), Ok(Hex(vec![1, 255])));
        assert_eq!(hex("01:FF 00"), Ok(Hex(vec![1, 255, 0])));
        assert_eq!(hex(""), Ok(Hex(vec![])));
        assert!(hex("0").is_err() && hex("zz").is_err());
    }
}

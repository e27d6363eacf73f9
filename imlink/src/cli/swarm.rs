//! Flags of the simulated fleets.

use std::path::PathBuf;

use clap::Args;

use super::ClientArgs;

pub(crate) const EXAMPLES: &str = "\
Examples:
  imlink swarm --devices 1000 --provision               against a gateway on this machine
  imlink swarm --devices 36000 --processes 2 --connect-rate 2000
  imlink swarm --devices 2000 --event-rate 500 --event-size 32 --seconds 60 --json
  imlink swarm --devices 500 --churn 5 --ledger handled.csv

Each device has a key of its own, made of a secret that is kept in the state directory (swarm-secret), and learns the
keys of the routes over HTTP. A process holds at most 18,000 devices; each needs an open file, so `ulimit -Hn` must allow it.";

/// Devices of one process at most.
pub(crate) const DEVICES_PER_PROCESS: u32 = imlink_swarm::DEVICES_MAX;

/// `imlink swarm …`
#[derive(Clone, Debug, Args)]
pub(crate) struct SwarmArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// How many devices
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) devices: u32,
    /// Run one part of a fleet, told on standard input
    #[arg(long, hide = true)]
    pub(crate) part: bool,
    /// In how many processes [default: as many as 18,000 devices each need]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) processes: Option<u32>,
    /// Where devices log in: a gateway or a route; may be repeated
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    pub(crate) connect: Vec<String>,
    /// Ids are PREFIX-1, PREFIX-2, …
    #[arg(long, default_value = "sim")]
    pub(crate) prefix: String,
    /// Number of the first device
    #[arg(long, default_value_t = 1)]
    pub(crate) first: u32,
    /// Provision the devices over HTTP before they connect
    #[arg(long)]
    pub(crate) provision: bool,
    /// Without keys, over plain links; --connect names a plain port then
    #[arg(long)]
    pub(crate) plain: bool,
    /// New connections a second, of all devices
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1000.0)]
    pub(crate) connect_rate: f64,
    /// Events a second, of all devices
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0.0)]
    pub(crate) event_rate: f64,
    /// Payload of an event, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 16)]
    pub(crate) event_size: usize,
    /// Devices a second that drop their connection and come back, of all
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0.0)]
    pub(crate) churn: f64,
    /// End after this many seconds [default: at SIGINT]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,
    /// Write a line for each message handled: device, id, redelivered
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
}

/// `imlink demo …`
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many devices
    #[arg(long, short = 'n', default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub(crate) devices: u32,
    /// Print one JSON object at the end and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// What is logged meanwhile
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(crate) log_level: String,
}

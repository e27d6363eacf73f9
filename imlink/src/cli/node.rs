//! Flags of the long-running commands.

use std::path::PathBuf;

use clap::Args;

use crate::config::{LogFormat, Sources};

pub(crate) const GATEWAY_EXAMPLES: &str = "\
Examples:
  imlink gateway                                   memory store, API on 127.0.0.1:8080, devices on 127.0.0.1:7000
  imlink gateway --store redis://127.0.0.1:6379    what is stored outlives the process
  imlink gateway --http-listen 127.0.0.1:0 --device-listen 127.0.0.1:0    free ports, logged at start
  IMLINK_ROUTE_MAILBOX_MAX=100 imlink gateway --config imlink.toml --print-config";

pub(crate) const ROUTE_EXAMPLES: &str = "\
Examples:
  imlink route --name route-1 --store redis://127.0.0.1:6379
  imlink route --name route-2 --http-listen 127.0.0.1:8081 --backend-listen 127.0.0.1:7012 \\
               --node-listen 127.0.0.1:7011 --device-listen 127.0.0.1:7010";

pub(crate) const SERVER_EXAMPLES: &str = "\
Examples:
  imlink server --name server-1 --store redis://127.0.0.1:6379
  imlink server --name server-2 --device-listen 127.0.0.1:7101 --ops-listen 127.0.0.1:9101";

/// Flags of `gateway`, `route` and `server`. What is not given here comes from the environment
/// (`IMLINK_HTTP_LISTEN=…`), then from the file, then from the defaults.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Configuration file (TOML)
    #[arg(long, env = "IMLINK_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the configuration that applies, where each value came from, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Set any key of the configuration, such as route.mailbox_max=100; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Name, unique in the cluster
    #[arg(long)]
    name: Option<String>,
    /// Where state lives: memory, or a Redis URL
    #[arg(long, value_name = "memory|URL")]
    store: Option<String>,
    /// Where generated secrets are kept, readable by their owner only
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// HTTP API
    #[arg(long, value_name = "HOST:PORT|none")]
    http_listen: Option<String>,
    /// Binary backend link
    #[arg(long, value_name = "HOST:PORT|none")]
    backend_listen: Option<String>,
    /// PEM file with the certificate of HTTP API and backend link, which may then listen beyond loopback
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Links of IM-servers (route)
    #[arg(long, value_name = "HOST:PORT")]
    node_listen: Option<String>,
    /// Devices
    #[arg(long, value_name = "HOST:PORT")]
    device_listen: Option<String>,
    /// Health and metrics (server)
    #[arg(long, value_name = "HOST:PORT|none")]
    ops_listen: Option<String>,
    /// Labels, such as zone=eu (server)
    #[arg(long, value_name = "KEY=VALUE,…")]
    labels: Option<String>,
    /// error, warn, info, debug, trace, or a filter such as info,imlink_route=debug [also: RUST_LOG]
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
    /// How log lines look
    #[arg(long)]
    log_format: Option<LogFormat>,
}

impl NodeArgs {
    /// The flags as a layer, on top of the environment and the file.
    pub(crate) fn sources(&self, environment: Vec<(String, String)>) -> Sources {
        let log_format = self.log_format.map(|format| match format {
            LogFormat::Human => "human".to_owned(),
            LogFormat::Json => "json".to_owned(),
        });
        let flags = [
            ("name", &self.name),
            ("store", &self.store),
            ("state_dir", &self.state_dir),
            ("http_listen", &self.http_listen),
            ("backend_listen", &self.backend_listen),
            ("tls_cert", &self.tls_cert),
            ("tls_key", &self.tls_key),
            ("node_listen", &self.node_listen),
            ("device_listen", &self.device_listen),
            ("ops_listen", &self.ops_listen),
            ("labels", &self.labels),
            ("log_level", &self.log_level),
            ("log_format", &log_format),
        ];
        Sources {
            file: self.config.clone(),
            environment,
            flags: flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect(),
            set: self.set.clone(),
        }
    }
}

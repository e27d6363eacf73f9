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
  imlink route --node-listen 192.0.2.1:7001       links of IM-servers are sealed, so they may come from elsewhere
  imlink route --name route-2 --http-listen 127.0.0.1:8081 --backend-listen 127.0.0.1:7012 \\
               --node-listen 127.0.0.1:7011 --device-listen 127.0.0.1:7010";

pub(crate) const SERVER_EXAMPLES: &str = "\
Examples:
  imlink server --name server-1 --store redis://127.0.0.1:6379
  imlink server --name server-2 --device-listen 127.0.0.1:7101 --ops-listen 127.0.0.1:9101
  imlink server --name server-3 --join imj_…      once on another machine, with what `imlink node token` printed there";

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
    /// Join token, to enrol this server's key once [default: the one that a route keeps in the same state directory]
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    join: Option<String>,
    /// Certificates of who may have signed that of Redis, for rediss:// (PEM) [default: the system's]
    #[arg(long, value_name = "FILE")]
    store_ca: Option<String>,
    /// HTTP API (gateway, route)
    #[arg(long, value_name = "HOST:PORT|none")]
    http_listen: Option<String>,
    /// Binary backend link (gateway, route)
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
    /// Devices, over sealed links
    #[arg(long, value_name = "HOST:PORT|none")]
    device_listen: Option<String>,
    /// Devices provisioned without a key, over plain links: for development; loopback only
    #[arg(long, value_name = "HOST:PORT|none")]
    plain_listen: Option<String>,
    /// Plain links may come from other machines: everybody on the path reads and changes what they like
    #[arg(long)]
    allow_plain: bool,
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
        let allow_plain = self.allow_plain.then(|| "true".to_owned());
        let flags = [
            ("name", &self.name),
            ("store", &self.store),
            ("state_dir", &self.state_dir),
            ("join", &self.join),
            ("store_ca", &self.store_ca),
            ("http_listen", &self.http_listen),
            ("backend_listen", &self.backend_listen),
            ("tls_cert", &self.tls_cert),
            ("tls_key", &self.tls_key),
            ("node_listen", &self.node_listen),
            ("device_listen", &self.device_listen),
            ("plain_listen", &self.plain_listen),
            ("allow_plain", &allow_plain),
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

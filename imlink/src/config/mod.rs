//! Configuration of the long-running commands.
//!
//! ```text
//! weakest   defaults ─ file (--config, IMLINK_CONFIG) ─ environment (IMLINK_…) ─ flags   strongest
//! ```
//!
//! Every key has one name everywhere: `route.mailbox_max` in a file is `IMLINK_ROUTE_MAILBOX_MAX` in the
//! environment and `--set route.mailbox_max=…` on the command line; the usual keys have flags of their own.
//! A key that does not exist is an error that names the nearest one that does.

mod layers;
mod limits;
mod listen;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub(crate) use layers::{ConfigError, Effective, Sources, without_password};
pub(crate) use limits::{ServerLimits, StoreLimits};
pub(crate) use listen::Listen;

/// Which long-running command is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Route, IM-server and embedded store in one process.
    Gateway,
    /// A route of a cluster.
    Route,
    /// An IM-server of a cluster.
    Server,
}

impl Role {
    /// Its command.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Route => "route",
            Self::Server => "server",
        }
    }

    /// Whether `key` means something to this role.
    fn uses(self, key: &str) -> bool {
        let first = key.split('.').next().unwrap_or_default();
        !self.unused().iter().any(|unused| *unused == key || *unused == first)
    }

    /// Keys (or their first parts) that mean nothing to this role.
    const fn unused(self) -> &'static [&'static str] {
        match self {
            Self::Gateway => &["join", "node_listen", "node_address", "ops_listen", "labels", "server_labels"],
            Self::Route => {
                &["join", "ops_listen", "labels", "io_threads", "handshake_threads", "plain_address", "server"]
            }
            Self::Server => &[
                "cluster_secret",
                "cluster_secret_former",
                "http_listen",
                "backend_listen",
                "tls_cert",
                "tls_key",
                "node_listen",
                "node_address",
                "token",
                "route_key",
                "route_key_next",
                "fleet_psk",
                "server_labels",
                "route",
            ],
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Everything that can be configured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Name, unique in the cluster.
    pub(crate) name: String,
    /// `memory`, or a Redis URL.
    pub(crate) store: String,
    /// Where generated secrets are kept (mode 0600).
    pub(crate) state_dir: String,
    /// Bearer token of backends; empty: the one in the state directory, made at the first start.
    pub(crate) token: String,
    /// Secret of the cluster's nodes; empty: the one in the state directory, made at the first start.
    pub(crate) cluster_secret: String,
    /// The secret before, while it is being replaced: what routes wrote of devices under it is believed too.
    pub(crate) cluster_secret_former: String,
    /// Private key that devices log in to; empty: the one in the state directory, made at the first start.
    pub(crate) route_key: String,
    /// The one that follows it; empty: likewise.
    pub(crate) route_key_next: String,
    /// Secret of the fleet, `KEY` or `TENANT=KEY,…`; empty: the one in the state directory, if there is one.
    pub(crate) fleet_psk: String,
    /// Join token of a server that is not enrolled yet; empty: the one in the state directory, which a route makes there.
    pub(crate) join: String,
    /// File with the certificates (PEM) of who may have signed that of Redis, for `rediss://`; empty: the system's.
    pub(crate) store_ca: String,
    /// HTTP API.
    pub(crate) http_listen: Listen,
    /// Binary backend link.
    pub(crate) backend_listen: Listen,
    /// PEM file with the certificate of HTTP API and backend link; empty: no TLS, and loopback only.
    pub(crate) tls_cert: String,
    /// PEM file with its private key.
    pub(crate) tls_key: String,
    /// Links of IM-servers.
    pub(crate) node_listen: Listen,
    /// What IM-servers dial, `host:port`; empty: the address really bound.
    pub(crate) node_address: String,
    /// Devices, over sealed links.
    pub(crate) device_listen: Listen,
    /// What devices are told to dial, `host:port`; empty: the address really bound.
    pub(crate) device_address: String,
    /// Devices that were provisioned without a key, over plain links: for development.
    pub(crate) plain_listen: Listen,
    /// What such devices are told to dial, `host:port`; empty: the address really bound.
    pub(crate) plain_address: String,
    /// Plain links may come from other machines.
    pub(crate) allow_plain: bool,
    /// Health and metrics of a server.
    pub(crate) ops_listen: Listen,
    /// Labels of a server, `key=value,…`.
    pub(crate) labels: String,
    /// Labels that an IM-server must have to get devices from this route, `key=value,…`.
    pub(crate) server_labels: String,
    /// I/O threads of a server, 0 for half of the cores.
    pub(crate) io_threads: usize,
    /// Threads of a server for handshakes, 0 for half of the cores.
    pub(crate) handshake_threads: usize,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,imlink_route=debug`.
    pub(crate) log_level: String,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
    /// Limits of a route.
    pub(crate) route: imlink_route::Limits,
    /// Limits of an IM-server.
    pub(crate) server: ServerLimits,
    /// Limits of the store.
    pub(crate) store_limits: StoreLimits,
}

impl Settings {
    /// The defaults of `role`; `state_dir` and the log level come from the surroundings.
    pub(crate) fn of_role(role: Role, state_dir: String, log_level: String) -> Self {
        let local = |port| Listen::at(SocketAddr::from(([127, 0, 0, 1], port)));
        let (name, devices) = match role {
            Role::Gateway => ("gateway", local(7000)),
            Role::Route => ("route-1", local(7000)),
            Role::Server => ("server-1", local(7100)),
        };
        let (store, node) = match role {
            Role::Gateway => ("memory", Listen::NONE),
            Role::Route | Role::Server => ("redis://127.0.0.1:6379", local(7001)),
        };
        Self {
            name: name.into(),
            store: store.into(),
            state_dir,
            token: String::new(),
            cluster_secret: String::new(),
            cluster_secret_former: String::new(),
            route_key: String::new(),
            route_key_next: String::new(),
            fleet_psk: String::new(),
            join: String::new(),
            store_ca: String::new(),
            http_listen: local(8080),
            backend_listen: local(7002),
            tls_cert: String::new(),
            tls_key: String::new(),
            node_listen: node,
            node_address: String::new(),
            device_listen: devices,
            device_address: String::new(),
            plain_listen: Listen::NONE,
            plain_address: String::new(),
            allow_plain: false,
            ops_listen: local(9100),
            labels: String::new(),
            server_labels: String::new(),
            io_threads: 0,
            handshake_threads: 0,
            log_level,
            log_format: LogFormat::Human,
            route: imlink_route::Limits::default(),
            server: ServerLimits::default(),
            store_limits: StoreLimits::default(),
        }
    }

    /// Certificate and key of HTTP API and backend link, if they are configured.
    pub(crate) fn tls(&self) -> anyhow::Result<Option<imlink_route::TlsFiles>> {
        match (self.tls_cert.as_str(), self.tls_key.as_str()) {
            ("", "") => Ok(None),
            ("", _) => anyhow::bail!("tls_key is given without tls_cert: give both, or none"),
            (_, "") => anyhow::bail!("tls_cert is given without tls_key: give both, or none"),
            (certificate, key) => Ok(Some(imlink_route::TlsFiles { certificate: certificate.into(), key: key.into() })),
        }
    }

    /// The secret keys: never printed.
    const SECRETS: &'static [&'static str] =
        &["token", "cluster_secret", "cluster_secret_former", "join", "route_key", "route_key_next", "fleet_psk"];
}

#[cfg(test)]
mod tests;

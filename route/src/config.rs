//! What a route is told at its start.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use imlink_link::seal::NodeKey;
use imlink_protocol::id::{IdError, check_device_id};
use imlink_protocol::key_pair::{LoginKeys, Psk};
use imlink_protocol::link::backend::Failure;
use serde::{Deserialize, Serialize};

use crate::request::Failed;
use crate::tls::TlsFiles;

/// Configuration of a route. Every field has a default except the secrets; a file names only what differs.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name, unique in the cluster, of the form of a device id. Default `route-1`.
    pub name: String,
    /// Where state lives: `memory`, or a Redis URL such as `redis://127.0.0.1:6379`. Default `memory`.
    pub store: String,
    /// HTTP API. Default `127.0.0.1:8080`; `None` for no HTTP.
    pub http_listen: Option<SocketAddr>,
    /// Binary backend link. Default `127.0.0.1:7002`; `None` for none.
    pub backend_listen: Option<SocketAddr>,
    /// Links of IM-servers. Default `127.0.0.1:7001`; `None` in a gateway, whose server is handed in.
    pub node_listen: Option<SocketAddr>,
    /// What IM-servers dial, `host:port`; `None` for the address really bound. Default `None`.
    pub node_address: Option<String>,
    /// Devices logging in over sealed links. Default `127.0.0.1:7000`; `None` in a gateway, whose server takes them
    /// itself.
    pub device_listen: Option<SocketAddr>,
    /// Devices without a key logging in over plain links. Default `None`; loopback only unless `allow_plain`.
    pub plain_listen: Option<SocketAddr>,
    /// Plain links may come from other machines. Default `false`.
    pub allow_plain: bool,
    /// What devices are told to dial, `host:port`; `None` for the address really bound. Default `None`.
    pub device_address: Option<String>,
    /// Key pairs that devices log in to, the same on every route of a cluster; not part of a file. Default none.
    #[serde(skip)]
    pub keys: Option<Arc<LoginKeys>>,
    /// Fleet secrets by tenant; a tenant without one uses zeros. Not part of a file. Default none.
    #[serde(skip)]
    pub fleet_psks: HashMap<String, Psk>,
    /// Bearer token of backends, at least 16 bytes. No default.
    pub token: String,
    /// Labels (`key=value,…`) that an IM-server must have to get devices from this route. Default none.
    pub server_labels: String,
    /// Secret shared by the nodes of a cluster, at least 16 bytes. No default.
    pub cluster_secret: String,
    /// Key under which this route links with IM-servers; needed with `node_listen`. No default.
    #[serde(skip)]
    pub node_key: Option<NodeKey>,
    /// TLS for the HTTP API and the backend link, which may then listen beyond loopback. Default `None`.
    pub tls: Option<TlsFiles>,
    /// Every limit, with its unit and reason.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        Self {
            name: "route-1".into(),
            store: "memory".into(),
            http_listen: local(8080),
            backend_listen: local(7002),
            node_listen: local(7001),
            node_address: None,
            device_listen: local(7000),
            plain_listen: None,
            allow_plain: false,
            device_address: None,
            keys: None,
            fleet_psks: HashMap::new(),
            token: String::new(),
            server_labels: String::new(),
            cluster_secret: String::new(),
            node_key: None,
            tls: None,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Checks what can be wrong in it.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_device_id(&self.name).map_err(ConfigError::Name)?;
        for (field, secret) in [("token", &self.token), ("cluster_secret", &self.cluster_secret)] {
            if secret.len() < SECRET_LEN_MIN {
                return Err(ConfigError::Secret { field, len: secret.len() });
            }
        }
        if self.device_listen.is_some() && self.keys.is_none() {
            return Err(ConfigError::NoKeys);
        }
        if self.node_listen.is_some() && self.node_key.is_none() {
            return Err(ConfigError::NoNodeKey);
        }
        // The links of nodes, and of devices that have keys, are sealed.
        let [http, backend] =
            [self.http_listen, self.backend_listen].map(|listen| listen.filter(|_| self.tls.is_none()));
        let listening = [http, backend, self.plain_listen.filter(|_| !self.allow_plain)];
        match listening.into_iter().flatten().find(|address| !address.ip().is_loopback()) {
            Some(address) => Err(ConfigError::NotLoopback(address)),
            None => Ok(()),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The route's name does not have its form.
    #[error("the route's name {0}")]
    Name(IdError),
    /// A secret is too short to be one.
    #[error("{field} has {len} bytes, at least {SECRET_LEN_MIN} are needed: draw it at random")]
    Secret {
        /// Which.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// A listener for nodes without a key to seal their links.
    #[error("a route that listens for IM-servers needs a node key")]
    NoNodeKey,
    /// A listener would be open to other machines although nothing on it is sealed.
    #[error("{0} is not a loopback address, and what goes there is not sealed: use 127.0.0.1")]
    NotLoopback(SocketAddr),
    /// Devices could not know the route.
    #[error("device_listen needs keys by which devices know this route")]
    NoKeys,
}

/// Fewest bytes of a secret.
const SECRET_LEN_MIN: usize = 16;

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("http_listen", &self.http_listen)
            .field("backend_listen", &self.backend_listen)
            .field("node_listen", &self.node_listen)
            .field("node_address", &self.node_address)
            .field("device_listen", &self.device_listen)
            .field("tls", &self.tls)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Every limit of a route. Past one, the newest work is refused with a clear error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Wait for an answer when the request names none, in seconds. Default 10.
    pub timeout_default_s: u32,
    /// Longest wait a request may ask for, in seconds. Default 3,600.
    pub timeout_max_s: u32,
    /// Lifetime of a message whose request names none, in seconds, 0 for ever. Default 86,400.
    pub ttl_default_s: u32,
    /// Largest payload of a message or call, in bytes. Default 61,440: it fits the largest frame.
    pub payload_len_max: usize,
    /// Messages that may wait in one device's mailbox. Default 1,000.
    pub mailbox_max: u32,
    /// Requests of all backends in flight, sends that wait and calls together. Default 262,144.
    pub requests_max: usize,
    /// Requests in flight on one backend link. Default 8,192.
    pub link_requests_max: u32,
    /// Backend links. Default 1,024.
    pub backend_links_max: usize,
    /// Subscriptions to events, of all backends. Default 1,024.
    pub subscriptions_max: usize,
    /// Largest blob that is passed on, in bytes. Default 64 MiB.
    pub blob_len_max: u32,
    /// Transfers of blobs open at once, at about 100 KiB each. Default 256.
    pub blobs_max: usize,
    /// Longest silence of a device within a transfer, in seconds: time to erase flash, or to check a hash. Default 60.
    pub blob_idle_s: u32,
    /// Events kept in memory for subscribers that are nearly up to date, of all tenants that have any, in equal
    /// parts. Default 8,192.
    pub events_kept_max: usize,
    /// Credit of one subscription: events on their way. Default 65,536.
    pub credit_max: u32,
    /// Look-ups of message states in flight, for those that wait for a device elsewhere. Default 256.
    pub state_lookups_max: usize,
    /// Devices whose session and interface are remembered, at about 250 bytes each. Default 262,144.
    pub devices_cached_max: usize,
    /// Interfaces remembered. Default 1,024.
    pub interfaces_cached_max: usize,
    /// Links of IM-servers. Default 1,024.
    pub server_links_max: usize,
    /// Bytes that may wait for one peer of a link. Default 32 MiB.
    pub outbox_len_max: usize,
    /// Connections to the login ports per second from one address, with a burst of twice as many. Default 2,000: many devices
    /// may share the address of a router.
    pub address_logins_per_s: u32,
    /// The same from one /24 of IPv4 or /56 of IPv6. Default 8,000.
    pub prefix_logins_per_s: u32,
    /// Threads for handshakes, 0 for half of the cores. Default 0.
    pub handshake_threads: usize,
    /// Connections to the login ports that proved nothing yet, at up to 4 KiB each; past it the oldest one goes. As
    /// many that did, and as many that are being told why not. Default 4,096.
    pub half_open_max: usize,
    /// Handshakes that wait for a thread. Default 4,096.
    pub handshakes_waiting_max: usize,
    /// Devices logging in per second, with a burst of as many: first messages that know the route's key, and on
    /// plain links each `Hello`. Default 1,000.
    pub logins_per_s: u32,
    /// Retry-after told to a device that is refused for lack of room, in seconds. Default 5.
    pub overload_retry_s: u32,
    /// Time to finish what is in flight when the route leaves, in seconds. Default 10.
    pub drain_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout_default_s: 10,
            timeout_max_s: 3600,
            ttl_default_s: 86_400,
            payload_len_max: 60 * 1024,
            mailbox_max: 1000,
            requests_max: 262_144,
            link_requests_max: 8192,
            backend_links_max: 1024,
            subscriptions_max: 1024,
            blob_len_max: 64 * 1024 * 1024,
            blobs_max: 256,
            blob_idle_s: 60,
            events_kept_max: 8192,
            credit_max: 65_536,
            state_lookups_max: 256,
            devices_cached_max: 262_144,
            interfaces_cached_max: 1024,
            server_links_max: 1024,
            outbox_len_max: imlink_link::OUTBOX_LEN_DEFAULT,
            address_logins_per_s: 2000,
            prefix_logins_per_s: 8000,
            handshake_threads: 0,
            half_open_max: 4096,
            handshakes_waiting_max: 4096,
            logins_per_s: 1000,
            overload_retry_s: 5,
            drain_s: 10,
        }
    }
}

impl Limits {
    /// Checks the length of a message's or call's payload.
    pub(crate) fn check_payload(&self, len: usize) -> Result<(), Failed> {
        let max = self.payload_len_max;
        if len <= max {
            return Ok(());
        }
        let why = format!("the payload has {len} bytes, this route takes at most {max}: send less at once");
        Err(Failed::new(Failure::TooLarge, why))
    }

    /// Wait of a request that names none.
    pub fn timeout_default(&self) -> Duration {
        Duration::from_secs(self.timeout_default_s.into())
    }

    /// Checks how long a request wants to wait.
    pub(crate) fn check_timeout(&self, timeout: Duration) -> Result<Duration, Failed> {
        let max = self.timeout_max_s;
        if timeout >= Duration::from_millis(1) && timeout <= Duration::from_secs(max.into()) {
            return Ok(timeout);
        }
        let why = format!("a timeout of {} ms is not between 1 ms and {max} s", timeout.as_millis());
        Err(Failed::new(Failure::BadRequest, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Config {
        Config {
            token: "t".repeat(16),
            cluster_secret: "s".repeat(16),
            device_listen: None,
            node_key: NodeKey::from_bytes([1; 32]).ok(),
            ..Config::default()
        }
    }

    #[test]
    fn short_secrets_bad_names_and_open_listeners_are_refused_with_their_reason() {
        assert_eq!(good().check(), Ok(()));
        let short = Config { token: "secret".into(), ..good() };
        assert_eq!(short.check(), Err(ConfigError::Secret { field: "token", len: 6 }));
        let open: SocketAddr = "0.0.0.0:7000".parse().unwrap();
        let open_to_all = Config { plain_listen: Some(open), ..good() };
        assert_eq!(open_to_all.check(), Err(ConfigError::NotLoopback(open)));
        assert_eq!(Config { allow_plain: true, ..open_to_all }.check(), Ok(()));
        assert_eq!(Config { device_listen: Some(open), ..good() }.check(), Err(ConfigError::NoKeys));
        let sealed = Config { node_listen: Some(open), ..good() };
        assert_eq!(sealed.check(), Ok(()), "links of nodes are sealed");
        assert_eq!(Config { node_key: None, ..sealed }.check(), Err(ConfigError::NoNodeKey));
        let tls = Some(TlsFiles { certificate: "cert.pem".into(), key: "key.pem".into() });
        let secured = Config { http_listen: Some(open), backend_listen: Some(open), tls, ..good() };
        assert_eq!(secured.check(), Ok(()));
        let error = Config { name: "a b".into(), ..good() }.check().unwrap_err();
        assert!(error.to_string().contains("0x20"), "{error}");
    }

    #[test]
    fn secrets_never_show() {
        let text = format!("{:?}", good());
        assert!(!text.contains("tttt") && !text.contains("ssss"), "{text}");
    }

    #[test]
    fn a_timeout_outside_its_bounds_is_refused_naming_them() {
        let limits = Limits::default();
        assert!(limits.check_timeout(Duration::from_secs(3600)).is_ok());
        for wrong in [Duration::ZERO, Duration::from_secs(3601)] {
            let failed = limits.check_timeout(wrong).unwrap_err();
            assert!(failed.detail.contains("1 ms and 3600 s"), "{}", failed.detail);
        }
    }
}

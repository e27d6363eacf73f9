//! What a route is told at its start.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Configuration of a route. Every field has a default except the two secrets; a file names only what differs.
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
    /// Devices logging in. Default `127.0.0.1:7000`; `None` in a gateway, whose server takes them itself.
    pub device_listen: Option<SocketAddr>,
    /// Bearer token of backends, at least 16 bytes. No default.
    pub token: String,
    /// Secret shared by the nodes of a cluster, at least 16 bytes. No default.
    pub cluster_secret: String,
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
            token: String::new(),
            cluster_secret: String::new(),
            limits: Limits::default(),
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("http_listen", &self.http_listen)
            .field("backend_listen", &self.backend_listen)
            .field("node_listen", &self.node_listen)
            .field("node_address", &self.node_address)
            .field("device_listen", &self.device_listen)
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
    /// Events kept in memory for subscribers that are nearly up to date. Default 8,192.
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
    /// Devices logging in at one moment. Default 1,024.
    pub handshakes_max: usize,
    /// Devices logging in per second, with a burst of as many. Default 1,000.
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
            events_kept_max: 8192,
            credit_max: 65_536,
            state_lookups_max: 256,
            devices_cached_max: 262_144,
            interfaces_cached_max: 1024,
            server_links_max: 1024,
            outbox_len_max: imlink_link::OUTBOX_LEN_DEFAULT,
            handshakes_max: 1024,
            logins_per_s: 1000,
            overload_retry_s: 5,
            drain_s: 10,
        }
    }
}

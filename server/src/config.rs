//! What an IM-server is told at start, and every limit it keeps.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use imlink_link::seal::NodeKey;
use imlink_protocol::id::{IdError, check_device_id};
use imlink_protocol::key_pair::{LoginKeys, Psk};
use imlink_protocol::limits;
use imlink_protocol::ticket::LIFETIME_S;
use imlink_seal::Rates;

/// How devices are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// A device comes with a ticket of a route (cluster).
    Ticket,
    /// A device may also log in here without a ticket (gateway).
    Direct,
}

/// Configuration of an IM-server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name, unique in the cluster, of the form of a device id.
    pub name: String,
    /// Where devices connect over sealed links.
    pub listen: Option<SocketAddr>,
    /// Address told to devices, `host:port`; the listening address when empty.
    pub advertise: String,
    /// Where devices without a key connect over plain links. Loopback only, unless `allow_plain`.
    pub plain_listen: Option<SocketAddr>,
    /// Address told to such devices, `host:port`; the listening address when empty.
    pub plain_advertise: String,
    /// Plain links may come from other machines: everybody on the path reads and changes what they like.
    pub allow_plain: bool,
    /// `key=value,…`, such as `zone=eu`; routes can pin devices to labels.
    pub labels: String,
    /// How devices are admitted.
    pub login: Login,
    /// Key pairs that devices log in to, with [`Login::Direct`].
    pub keys: Option<Arc<LoginKeys>>,
    /// Fleet secrets by tenant; a tenant without one uses zeros.
    pub fleet_psks: HashMap<String, Psk>,
    /// Key under which it links with the routes of a cluster; `None` in a gateway, whose route is handed in.
    pub node_key: Option<NodeKey>,
    /// I/O threads, 0 for half of the cores.
    pub io_threads: usize,
    /// Threads for handshakes, 0 for half of the cores: devices that are attached keep the others.
    pub handshake_threads: usize,
    /// Limits.
    pub limits: Limits,
}

/// Limits of an IM-server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections (default 1,000,000).
    pub connections_max: usize,
    /// Most connections that have not shown a `Hello` yet, per I/O thread (default 4,096); past it the one that has been silent longest goes.
    pub half_open_max: usize,
    /// Most new connections a second, per I/O thread (default 20,000); the next ones are told to come back.
    pub accept_rate: u32,
    /// Most new connections a second from one address and from one /24 or /56, per I/O thread, with a burst of two
    /// seconds' worth (default 2,000 and 8,000: many devices may share the address of a router).
    pub rates: Rates,
    /// Handshakes that may wait for a thread (default 4,096); the next ones are told to come back.
    pub handshakes_waiting_max: usize,
    /// Largest frame taken from a device, in bytes (default 4,096; at most 65,536).
    pub frame_len: usize,
    /// Heartbeat asked for (default 300 s); the cut is at 5/3 of it.
    pub heartbeat: Duration,
    /// From accept to `Hello` (default 10 s).
    pub hello_deadline: Duration,
    /// A frame that stays partial for this long ends the connection (default 30 s).
    pub partial_frame: Duration,
    /// Bytes that may wait for one device (default 256 KiB); past it the connection is closed.
    pub out_len_max: usize,
    /// Events that wait for an unreachable or full store, in bytes per I/O thread (default 16 MiB); past it
    /// the publishing devices are asked to come back later, with their events.
    pub events_waiting_max: usize,
    /// Bytes waiting towards one route (default 32 MiB).
    pub link_outbox_max: usize,
    /// How long a ticket is good for that a device is given here (default and at most 24 h, at least 10 s); an
    /// attached device is given a newer one after half to three quarters of it.
    pub ticket_life: Duration,
    /// Time given to devices to leave on shutdown (default 10 s).
    pub drain: Duration,
    /// Without a route for this long no new device is admitted (default 15 s).
    pub routeless_admit: Duration,
    /// Without a route for this long devices are sent away (default 60 s).
    pub routeless_leave: Duration,
    /// Memory at which the server counts as full, in bytes (0: of the machine or its control group).
    pub memory_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            half_open_max: 4_096,
            accept_rate: 20_000,
            rates: Rates { address: 2_000, prefix: 8_000 },
            handshakes_waiting_max: 4_096,
            frame_len: limits::FRAME_LEN_DEFAULT,
            heartbeat: limits::HEARTBEAT_DEFAULT,
            hello_deadline: limits::HELLO_DEADLINE,
            partial_frame: limits::PARTIAL_FRAME_MAX,
            out_len_max: 256 * 1024,
            events_waiting_max: 16 * 1024 * 1024,
            link_outbox_max: imlink_link::OUTBOX_LEN_DEFAULT,
            ticket_life: TICKET_LIFE_MAX,
            drain: Duration::from_secs(10),
            routeless_admit: Duration::from_secs(15),
            routeless_leave: Duration::from_secs(60),
            memory_max: 0,
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The server's name does not have its form.
    #[error("server name {name:?} {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: IdError,
    },
    /// A listener that strangers could reach.
    #[error(
        "the plain listener {0} is not loopback: everybody on the way could read and change what devices say; give devices keys and use the sealed listener, or allow plain links"
    )]
    NotLoopback(SocketAddr),
    /// Nobody could connect.
    #[error("neither a sealed nor a plain listener for devices is given, at least one is needed")]
    NoListener,
    /// A number outside its range.
    #[error("{what} is {given}, allowed are {allowed}")]
    Range {
        /// Name of the setting.
        what: &'static str,
        /// Value given.
        given: String,
        /// Values allowed.
        allowed: &'static str,
    },
}

impl Config {
    /// Checks every setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_device_id(&self.name).map_err(|why| ConfigError::Name { name: self.name.clone(), why })?;
        if let Some(open) = self.plain_listen.filter(|plain| !plain.ip().is_loopback() && !self.allow_plain) {
            return Err(ConfigError::NotLoopback(open));
        }
        if self.listen.is_none() && self.plain_listen.is_none() {
            return Err(ConfigError::NoListener);
        }
        let range = |what, is_allowed: bool, given: String, allowed| {
            if is_allowed { Ok(()) } else { Err(ConfigError::Range { what, given, allowed }) }
        };
        let limits = &self.limits;
        let frame = (limits::HELLO_FRAME_LEN_MAX..=limits::FRAME_LEN_MAX).contains(&limits.frame_len);
        range("frame_len", frame, limits.frame_len.to_string(), "512 … 65536 bytes")?;
        let heartbeat = (limits::HEARTBEAT_MIN..=limits::HEARTBEAT_MAX).contains(&limits.heartbeat);
        range("heartbeat", heartbeat, format!("{:?}", limits.heartbeat), "1 s … 3600 s")?;
        let connections = (1..=10_000_000).contains(&limits.connections_max);
        range("connections_max", connections, limits.connections_max.to_string(), "1 … 10000000")?;
        let life = (TICKET_LIFE_MIN..=TICKET_LIFE_MAX).contains(&limits.ticket_life);
        range("ticket_life", life, format!("{:?}", limits.ticket_life), "10 s … 86400 s")?;
        let out = limits.out_len_max >= 2 * limits::FRAME_LEN_MAX;
        range("out_len_max", out, limits.out_len_max.to_string(), "131072 bytes or more")?;
        let threads = |what, given: usize| range(what, given <= 256, given.to_string(), "0 … 256");
        threads("io_threads", self.io_threads)?;
        threads("handshake_threads", self.handshake_threads)
    }

    pub(crate) fn io_threads(&self) -> usize {
        threads(self.io_threads)
    }

    pub(crate) fn handshake_threads(&self) -> usize {
        threads(self.handshake_threads)
    }
}

const TICKET_LIFE_MIN: Duration = Duration::from_secs(10);
/// Devices keep a ticket for a day; a server opens those of two days.
const TICKET_LIFE_MAX: Duration = Duration::from_secs(LIFETIME_S);

fn threads(given: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    if given == 0 { (cores / 2).max(1) } else { given }
}

#[cfg(test)]
mod tests {
    use imlink_protocol::key_pair::PrivateKey;

    use super::*;

    fn config() -> Config {
        Config {
            name: "im-1".into(),
            listen: Some(([127, 0, 0, 1], 0).into()),
            advertise: String::new(),
            plain_listen: None,
            plain_advertise: String::new(),
            allow_plain: false,
            labels: String::new(),
            login: Login::Direct,
            keys: None,
            fleet_psks: HashMap::new(),
            node_key: None,
            io_threads: 0,
            handshake_threads: 0,
            limits: Limits::default(),
        }
    }

    #[test]
    fn a_plain_listener_off_loopback_is_refused() {
        let open = ([0, 0, 0, 0], 7000).into();
        let plain = Config { plain_listen: Some(open), ..config() };
        assert_eq!(plain.check(), Err(ConfigError::NotLoopback(open)));
        assert_eq!(Config { allow_plain: true, ..plain }.check(), Ok(()));
        assert_eq!(Config { listen: Some(open), ..config() }.check(), Ok(()), "a sealed one may be open");
        assert_eq!(Config { listen: None, ..config() }.check(), Err(ConfigError::NoListener));
    }

    #[test]
    fn secrets_never_show() {
        let keys = LoginKeys { current: PrivateKey::new([0xa1; 32]), next: PrivateKey::new([0xa2; 32]) };
        let secret = Config {
            keys: Some(Arc::new(keys)),
            fleet_psks: HashMap::from([("acme".into(), Psk::new([0xa3; 32]))]),
            node_key: NodeKey::from_bytes([0xa4; 32]).ok(),
            ..config()
        };
        assert!(secret.node_key.is_some());
        let text = format!("{secret:?}").to_lowercase();
        assert!(text.contains("acme"), "{text}");
        for byte in [0xa1_u8, 0xa2, 0xa3, 0xa4] {
            let shown = [format!("{byte:02x}").repeat(3), format!("{byte}, {byte}"), format!("{byte:x}, {byte:x}")];
            assert!(!shown.iter().any(|shown| text.contains(shown)), "{text}");
        }
    }

    #[test]
    fn a_number_outside_its_range_is_named_with_the_range() {
        let mut wrong = config();
        wrong.limits.frame_len = 100_000;
        let error = wrong.check().unwrap_err().to_string();
        assert_eq!(error, "frame_len is 100000, allowed are 512 … 65536 bytes");
    }
}

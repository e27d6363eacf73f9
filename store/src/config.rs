//! What can be configured of a store.

use std::time::Duration;

use crate::record_key::RecordKey;

/// Limits and times of a store. [`Config::default`] suits a gateway and a cluster of a few machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most events in one of the 64 shards; past it new ones wait at the devices. Default 65,536.
    pub events_per_shard_max: usize,
    /// Events older than this are dropped even if a consumer group did not commit them. Default `None`: never.
    pub event_age_max: Option<Duration>,
    /// While no consumer group exists, events are kept this long so that subscribers can resume. Default 5 min.
    pub event_age_ungrouped: Duration,
    /// How long an idempotency key is remembered. Default 24 h.
    pub idempotency_age: Duration,
    /// Most idempotency keys that the memory store remembers; past it new ones are refused. Default 1,000,000.
    pub idempotency_keys_max: usize,
    /// Most interfaces that the memory store keeps; past it new ones are refused. Default 4,096.
    pub interfaces_max: usize,
    /// Redis: time to connect, log in and learn who is there. Default 1 s.
    pub connect_timeout: Duration,
    /// Redis: time to an answer. A call that takes longer is [`Error::Away`](crate::Error::Away). Default 800 ms.
    pub response_timeout: Duration,
    /// Redis: a connection without an answer for this long, while one is awaited, is rebuilt. Default 2 s.
    pub silence_max: Duration,
    /// Redis: so many time-outs in a row also rebuild the connection. Default 3.
    pub timeouts_max: u32,
    /// Redis: pause between tries to connect. Default 200 ms.
    pub reconnect_pause: Duration,
    /// Redis over TLS (`rediss://`): PEM of the certificate authorities that may have signed its certificate. Default
    /// `None`: those of the system.
    pub tls_ca: Option<Vec<u8>>,
    /// Redis: keys of the macs over devices' keys. The first one writes, a record is believed if any fits. Default
    /// empty, as in an IM-server: nothing is written or checked. The memory store has no other writer and needs none.
    pub record_keys: Vec<RecordKey>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            events_per_shard_max: 65_536,
            event_age_max: None,
            event_age_ungrouped: Duration::from_secs(300),
            idempotency_age: Duration::from_secs(24 * 3600),
            idempotency_keys_max: 1_000_000,
            interfaces_max: 4096,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_millis(800),
            silence_max: Duration::from_secs(2),
            timeouts_max: 3,
            reconnect_pause: Duration::from_millis(200),
            tls_ca: None,
            record_keys: Vec::new(),
        }
    }
}

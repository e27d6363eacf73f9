//! Limits of the IM-server and the store in the units of a configuration file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of an IM-server; `imlink_server::Limits` says what each is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerLimits {
    connections_max: usize,
    half_open_max: usize,
    accept_rate: u32,
    address_rate: u32,
    prefix_rate: u32,
    handshakes_waiting_max: usize,
    frame_len: usize,
    heartbeat_s: u64,
    hello_deadline_s: u64,
    partial_frame_s: u64,
    out_len_max: usize,
    events_waiting_max: usize,
    link_outbox_max: usize,
    ticket_life_s: u64,
    drain_s: u64,
    routeless_admit_s: u64,
    routeless_leave_s: u64,
    memory_max: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        let limits = imlink_server::Limits::default();
        Self {
            connections_max: limits.connections_max,
            half_open_max: limits.half_open_max,
            accept_rate: limits.accept_rate,
            address_rate: limits.rates.address,
            prefix_rate: limits.rates.prefix,
            handshakes_waiting_max: limits.handshakes_waiting_max,
            frame_len: limits.frame_len,
            heartbeat_s: limits.heartbeat.as_secs(),
            hello_deadline_s: limits.hello_deadline.as_secs(),
            partial_frame_s: limits.partial_frame.as_secs(),
            out_len_max: limits.out_len_max,
            events_waiting_max: limits.events_waiting_max,
            link_outbox_max: limits.link_outbox_max,
            ticket_life_s: limits.ticket_life.as_secs(),
            drain_s: limits.drain.as_secs(),
            routeless_admit_s: limits.routeless_admit.as_secs(),
            routeless_leave_s: limits.routeless_leave.as_secs(),
            memory_max: limits.memory_max,
        }
    }
}

impl From<ServerLimits> for imlink_server::Limits {
    fn from(limits: ServerLimits) -> Self {
        Self {
            connections_max: limits.connections_max,
            half_open_max: limits.half_open_max,
            accept_rate: limits.accept_rate,
            rates: imlink_server::Rates { address: limits.address_rate, prefix: limits.prefix_rate },
            handshakes_waiting_max: limits.handshakes_waiting_max,
            frame_len: limits.frame_len,
            heartbeat: Duration::from_secs(limits.heartbeat_s),
            hello_deadline: Duration::from_secs(limits.hello_deadline_s),
            partial_frame: Duration::from_secs(limits.partial_frame_s),
            out_len_max: limits.out_len_max,
            events_waiting_max: limits.events_waiting_max,
            link_outbox_max: limits.link_outbox_max,
            ticket_life: Duration::from_secs(limits.ticket_life_s),
            drain: Duration::from_secs(limits.drain_s),
            routeless_admit: Duration::from_secs(limits.routeless_admit_s),
            routeless_leave: Duration::from_secs(limits.routeless_leave_s),
            memory_max: limits.memory_max,
        }
    }
}

/// Limits of the store; `imlink_store::Config` says what each is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreLimits {
    events_per_shard_max: usize,
    /// 0 for never.
    event_age_max_s: u64,
    event_age_ungrouped_s: u64,
    idempotency_age_s: u64,
    idempotency_keys_max: usize,
    interfaces_max: usize,
    connect_timeout_ms: u64,
    response_timeout_ms: u64,
    silence_max_ms: u64,
    timeouts_max: u32,
    reconnect_pause_ms: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        let config = imlink_store::Config::default();
        Self {
            events_per_shard_max: config.events_per_shard_max,
            event_age_max_s: config.event_age_max.map_or(0, |age| age.as_secs()),
            event_age_ungrouped_s: config.event_age_ungrouped.as_secs(),
            idempotency_age_s: config.idempotency_age.as_secs(),
            idempotency_keys_max: config.idempotency_keys_max,
            interfaces_max: config.interfaces_max,
            connect_timeout_ms: in_ms(config.connect_timeout),
            response_timeout_ms: in_ms(config.response_timeout),
            silence_max_ms: in_ms(config.silence_max),
            timeouts_max: config.timeouts_max,
            reconnect_pause_ms: in_ms(config.reconnect_pause),
        }
    }
}

impl From<StoreLimits> for imlink_store::Config {
    fn from(limits: StoreLimits) -> Self {
        Self {
            events_per_shard_max: limits.events_per_shard_max,
            event_age_max: (limits.event_age_max_s > 0).then(|| Duration::from_secs(limits.event_age_max_s)),
            event_age_ungrouped: Duration::from_secs(limits.event_age_ungrouped_s),
            idempotency_age: Duration::from_secs(limits.idempotency_age_s),
            idempotency_keys_max: limits.idempotency_keys_max,
            interfaces_max: limits.interfaces_max,
            connect_timeout: Duration::from_millis(limits.connect_timeout_ms),
            response_timeout: Duration::from_millis(limits.response_timeout_ms),
            silence_max: Duration::from_millis(limits.silence_max_ms),
            timeouts_max: limits.timeouts_max,
            reconnect_pause: Duration::from_millis(limits.reconnect_pause_ms),
            tls_ca: None,
            record_keys: Vec::new(),
        }
    }
}

fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

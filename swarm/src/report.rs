//! What a fleet did.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::live::{Live, quantile};

/// What a fleet did, from start to end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Devices of the fleet.
    pub devices: u32,
    /// Seconds from start to end.
    pub elapsed_s: f64,
    /// Seconds until all were attached at once for the first time.
    pub all_attached_s: Option<f64>,
    /// Sessions opened; more than devices when some came back.
    pub sessions: u64,
    /// Connections that ended with an error, or could not be made.
    pub failures: u64,
    /// The same by what was wrong.
    pub errors: BTreeMap<String, u64>,
    /// Messages handled.
    pub messages: u64,
    /// Of these, marked as redelivered by the server.
    pub redelivered: u64,
    /// Calls answered.
    pub calls: u64,
    /// Events published.
    pub events_published: u64,
    /// Events stored, as far as the devices know.
    pub events_stored: u64,
    /// Events that found their queue full.
    pub events_dropped: u64,
    /// From publishing an event to its acknowledgement.
    pub event_latency: Latency,
}

/// Latencies in milliseconds; zero when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// Longest.
    pub max_ms: f64,
}

impl Report {
    pub(crate) fn new(config: &Config, live: &Live, elapsed: Duration) -> Self {
        let (event_latency, errors) = live.with_details(|latency, errors| {
            let ms = |at| quantile(latency, at).as_secs_f64() * 1000.0;
            let latency = Latency { p50_ms: ms(0.5), p99_ms: ms(0.99), p999_ms: ms(0.999), max_ms: ms(1.0) };
            (latency, errors.clone())
        });
        Self {
            devices: config.devices,
            elapsed_s: elapsed.as_secs_f64(),
            all_attached_s: live.all_attached().map(|after| after.as_secs_f64()),
            sessions: live.sessions.load(Relaxed),
            failures: live.failures.load(Relaxed),
            errors,
            messages: live.messages.load(Relaxed),
            redelivered: live.redelivered.load(Relaxed),
            calls: live.calls.load(Relaxed),
            events_published: live.events_published.load(Relaxed),
            events_stored: live.events_stored.load(Relaxed),
            events_dropped: live.events_dropped.load(Relaxed),
            event_latency,
        }
    }
}

//! Latencies of one run.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// A histogram from 1 µs to a minute with three digits.
pub struct Latencies(Histogram<u64>);

/// The usual percentiles in µs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// Samples.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 99 %.
    pub p99_us: u64,
    /// 99.9 %.
    pub p999_us: u64,
    /// Worst.
    pub max_us: u64,
}

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        let longest_us = 60_000_000;
        Self(Histogram::new_with_bounds(1, longest_us, 3).expect("constant bounds are valid"))
    }

    /// One more; what is longer than a minute counts as a minute.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// The summary.
    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            count: self.0.len(),
            p50_us: self.0.value_at_quantile(0.5),
            p99_us: self.0.value_at_quantile(0.99),
            p999_us: self.0.value_at_quantile(0.999),
            max_us: self.0.max(),
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

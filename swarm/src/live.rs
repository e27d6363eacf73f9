//! Counters of a running fleet.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Counters of a running fleet, written by its threads and read by whoever draws a progress line.
#[derive(Debug)]
pub struct Live {
    began: Instant,
    pub(crate) attached: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) events_published: AtomicU64,
    pub(crate) events_stored: AtomicU64,
    pub(crate) events_dropped: AtomicU64,
    all_attached_ms: AtomicU64,
    detail: Mutex<Detail>,
}

#[derive(Debug)]
struct Detail {
    /// Microseconds from publish to `EventAck`: of all time, and since the last snapshot.
    whole: Histogram<u64>,
    recent: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

/// The counters at one moment. Counts are since the start; latencies since the snapshot before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Devices attached now.
    pub attached: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Connections that ended with an error, or could not be made.
    pub failures: u64,
    /// Messages handled.
    pub messages: u64,
    /// Calls answered.
    pub calls: u64,
    /// Events published.
    pub events_published: u64,
    /// Events stored.
    pub events_stored: u64,
    /// From publishing to the acknowledgement, median.
    pub event_p50: Duration,
    /// The same, 99th percentile.
    pub event_p99: Duration,
    /// Time since the start.
    pub elapsed: Duration,
}

/// Kinds of errors that are counted one by one.
const ERRORS_MAX: usize = 32;

impl Live {
    pub(crate) fn new() -> Self {
        let detail = Detail { whole: histogram(), recent: histogram(), errors: BTreeMap::new() };
        Self {
            began: Instant::now(),
            attached: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            events_published: AtomicU64::new(0),
            events_stored: AtomicU64::new(0),
            events_dropped: AtomicU64::new(0),
            all_attached_ms: AtomicU64::new(0),
            detail: Mutex::new(detail),
        }
    }

    /// The counters now; latencies begin anew.
    pub fn snapshot(&self) -> Snapshot {
        let (event_p50, event_p99) = self.detail(|detail| {
            let quantiles = (quantile(&detail.recent, 0.5), quantile(&detail.recent, 0.99));
            detail.recent.reset();
            quantiles
        });
        Snapshot {
            attached: self.attached.load(Relaxed),
            sessions: self.sessions.load(Relaxed),
            failures: self.failures.load(Relaxed),
            messages: self.messages.load(Relaxed),
            calls: self.calls.load(Relaxed),
            events_published: self.events_published.load(Relaxed),
            events_stored: self.events_stored.load(Relaxed),
            event_p50,
            event_p99,
            elapsed: self.began.elapsed(),
        }
    }

    /// Whether this many devices are attached now; for tests that wait for a fleet.
    pub fn is_attached(&self, devices: u64) -> bool {
        self.attached.load(Relaxed) >= devices
    }

    pub(crate) fn handle_attached(&self, devices: u64) {
        if self.attached.fetch_add(1, Relaxed) + 1 == devices {
            let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
            let _ = self.all_attached_ms.compare_exchange(0, ms, Relaxed, Relaxed);
        }
        self.sessions.fetch_add(1, Relaxed);
    }

    pub(crate) fn handle_error(&self, error: String) {
        self.failures.fetch_add(1, Relaxed);
        self.detail(|detail| {
            let name = if detail.errors.len() < ERRORS_MAX { error } else { "other".to_owned() };
            *detail.errors.entry(name).or_default() += 1;
        });
    }

    pub(crate) fn handle_event_stored(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.detail(|detail| {
            detail.whole.saturating_record(us);
            detail.recent.saturating_record(us);
        });
    }

    pub(crate) fn all_attached(&self) -> Option<Duration> {
        Some(self.all_attached_ms.load(Relaxed)).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    pub(crate) fn with_details<R>(&self, look: impl FnOnce(&Histogram<u64>, &BTreeMap<String, u64>) -> R) -> R {
        self.detail(|detail| look(&detail.whole, &detail.errors))
    }

    fn detail<R>(&self, work: impl FnOnce(&mut Detail) -> R) -> R {
        work(&mut self.detail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) fn quantile(histogram: &Histogram<u64>, quantile: f64) -> Duration {
    Duration::from_micros(histogram.value_at_quantile(quantile))
}

fn histogram() -> Histogram<u64> {
    // 1 µs to 1 h with two digits.
    Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("the bounds are valid")
}

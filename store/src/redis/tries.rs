//! When appends were first tried, so that a retry can tell whether its first try may have been forgotten.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits::RETRY_SLACK;

/// Appends without an answer, by id.
#[derive(Debug, Default)]
pub(super) struct Tries {
    open: Mutex<HashMap<[u8; 16], Instant>>,
}

/// Tries remembered; past it old ones are dropped, and their retries are answered `Unknown` more often.
const TRIES_MAX: usize = 65_536;
/// A try older than this is not retried any more.
const TRY_AGE_MAX: Duration = Duration::from_secs(3600);

impl Tries {
    /// Notes a first try, if it is one.
    pub(super) fn begin(&self, id: &[u8; 16]) {
        let now = Instant::now();
        let mut open = self.open.lock();
        if open.len() >= TRIES_MAX {
            open.retain(|_, since| now.duration_since(*since) < TRY_AGE_MAX);
            if open.len() >= TRIES_MAX {
                return;
            }
        }
        open.entry(*id).or_insert(now);
    }

    /// Milliseconds since the first try, and some more since clocks differ; `None` when it was not made here.
    pub(super) fn age_ms(&self, id: &[u8; 16]) -> Option<u64> {
        let since = *self.open.lock().get(id)?;
        u64::try_from((since.elapsed() + RETRY_SLACK).as_millis()).ok()
    }

    /// It was answered.
    pub(super) fn end(&self, id: &[u8; 16]) {
        self.open.lock().remove(id);
    }
}

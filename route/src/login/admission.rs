//! Who may begin to log in: so many at one moment, so many a second.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The room for logins.
pub(super) struct Admission {
    handshakes: Arc<Semaphore>,
    /// Connections that are told why they are refused; past them they are only closed.
    refusals: Arc<Semaphore>,
    bucket: Mutex<Bucket>,
}

/// Why a connection is not admitted.
pub(super) enum Refused {
    /// There is room to tell it.
    Told(OwnedSemaphorePermit),
    /// Not even that.
    Untold,
}

struct Bucket {
    /// In millionths of a login.
    tokens: u64,
    per_s: u64,
    filled: Option<Instant>,
}

impl Admission {
    pub(super) fn new(at_once: usize, per_s: u32) -> Self {
        let per_s = u64::from(per_s.max(1));
        Self {
            handshakes: Arc::new(Semaphore::new(at_once)),
            refusals: Arc::new(Semaphore::new(at_once)),
            bucket: Mutex::new(Bucket { tokens: per_s * LOGIN, per_s, filled: None }),
        }
    }

    /// Room for one login, held as long as it goes on.
    pub(super) fn admit(&self, now: Instant) -> Result<OwnedSemaphorePermit, Refused> {
        if let Ok(permit) = self.handshakes.clone().try_acquire_owned()
            && self.bucket.lock().take(now)
        {
            return Ok(permit);
        }
        self.refuse()
    }

    /// No room, and whether there is room to say so.
    pub(super) fn refuse(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Err(match self.refusals.clone().try_acquire_owned() {
            Ok(permit) => Refused::Told(permit),
            Err(_) => Refused::Untold,
        })
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let since = self.filled.map_or(0, |at| now.saturating_duration_since(at).as_micros());
        let gained = u64::try_from(since).unwrap_or(u64::MAX).saturating_mul(self.per_s);
        self.tokens = self.tokens.saturating_add(gained).min(self.per_s * LOGIN);
        self.filled = Some(now);
        match self.tokens.checked_sub(LOGIN) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }
}

/// One login, in the bucket's unit.
const LOGIN: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_of_a_second_passes_and_then_the_rate_counts() {
        let admission = Admission::new(1000, 10);
        let start = Instant::now();
        let admitted = |now| admission.admit(now).is_ok();
        assert_eq!((0..30).filter(|_| admitted(start)).count(), 10);
        assert!(!admitted(start + Duration::from_millis(99)));
        assert!(admitted(start + Duration::from_millis(200)));
    }

    #[test]
    fn past_the_handshakes_in_flight_some_are_told_and_the_rest_closed() {
        let admission = Admission::new(2, 1000);
        let now = Instant::now();
        let _held: Vec<_> = (0..2).map(|_| admission.admit(now).ok().unwrap()).collect();
        let told: Vec<_> = (0..3).map(|_| admission.admit(now).err().unwrap()).collect();
        assert!(matches!(told[..], [Refused::Told(_), Refused::Told(_), Refused::Untold]));
    }
}

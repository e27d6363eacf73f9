//! A bucket: so many requests a second, with a burst of one second's worth.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What may still be done on this route: by one token, by all logins.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, state: Mutex::new((per_second, now)) }
    }

    /// Takes one request; else says in how long there will be one.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.state.lock();
        let (left, since) = *state;
        let left = (left + now.saturating_duration_since(since).as_secs_f64() * self.per_second).min(self.per_second);
        if left >= 1.0 {
            *state = (left - 1.0, now.max(since));
            return Ok(());
        }
        *state = (left, now.max(since));
        Err(Duration::from_secs_f64((1.0 - left) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_one_at_a_time() {
        let start = Instant::now();
        let bucket = Bucket::new(10, start);
        assert_eq!((0..20).filter(|_| bucket.take(start).is_ok()).count(), 10);
        let wait = bucket.take(start).unwrap_err();
        assert!(wait > Duration::from_millis(90) && wait <= Duration::from_millis(100), "{wait:?}");
        assert!(bucket.take(start + wait).is_ok());
        assert!(bucket.take(start + wait).is_err());
        let later = start + Duration::from_secs(60);
        assert_eq!((0..20).filter(|_| bucket.take(later).is_ok()).count(), 10);
        // A clock read before another one's adds nothing.
        assert!(bucket.take(start).is_err());
    }
}

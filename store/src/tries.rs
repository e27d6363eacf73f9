//! When appends were first tried, so that a retry can tell whether its first try may have been forgotten.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits::RETRY_SLACK;

/// Appends without a final answer, by id: when they were first sent, `None` while that does not count.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    open: Mutex<HashMap<[u8; 16], Option<Instant>>>,
}

/// What is known of earlier tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// None was sent: this is the first.
    None,
    /// The first was sent so many milliseconds ago, and some more since clocks differ.
    Sent(u64),
    /// There may have been some; not by this process, or too long ago.
    Unknown,
}

/// Tries remembered; past it new ones are not, and their retries are answered `Unknown` more often.
const TRIES_MAX: usize = 65_536;
/// A try older than this is not retried any more.
const TRY_AGE_MAX: Duration = Duration::from_secs(3600);

impl Tries {
    /// A try is sent now; answers what is known of earlier ones.
    pub(crate) fn send(&self, id: &[u8; 16], retry: bool) -> Earlier {
        let now = Instant::now();
        let mut open = self.open.lock();
        match open.get_mut(id) {
            Some(Some(since)) => {
                let age = now.duration_since(*since) + RETRY_SLACK;
                return Earlier::Sent(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
            }
            Some(never) => *never = Some(now),
            None if retry => return Earlier::Unknown,
            None => insert(&mut open, *id, Some(now)),
        }
        Earlier::None
    }

    /// No try so far stored anything: the next one is the first.
    pub(crate) fn start_over(&self, id: &[u8; 16]) {
        let mut open = self.open.lock();
        open.remove(id);
        insert(&mut open, *id, None);
    }

    /// It was answered.
    pub(crate) fn end(&self, id: &[u8; 16]) {
        self.open.lock().remove(id);
    }
}

fn insert(open: &mut HashMap<[u8; 16], Option<Instant>>, id: [u8; 16], since: Option<Instant>) {
    if open.len() >= TRIES_MAX {
        open.retain(|_, since| since.is_some_and(|since| since.elapsed() < TRY_AGE_MAX));
    }
    if open.len() < TRIES_MAX {
        open.entry(id).or_insert(since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_the_first_try_when_none_was_sent() {
        let (tries, id) = (Tries::default(), [1; 16]);
        tries.start_over(&id);
        assert_eq!(tries.send(&id, true), Earlier::None);
        assert!(matches!(tries.send(&id, true), Earlier::Sent(1000..)));
        tries.start_over(&id);
        assert_eq!(tries.send(&id, true), Earlier::None);
        tries.end(&id);
        assert_eq!(tries.send(&id, true), Earlier::Unknown);
        assert_eq!(tries.send(&id, false), Earlier::None);
    }

    #[test]
    fn no_more_tries_are_remembered_than_may_be() {
        let tries = Tries::default();
        for n in 0..=TRIES_MAX as u128 {
            tries.send(&n.to_be_bytes(), false);
        }
        assert_eq!(tries.open.lock().len(), TRIES_MAX);
        assert_eq!(tries.send(&(TRIES_MAX as u128).to_be_bytes(), true), Earlier::Unknown);
    }
}

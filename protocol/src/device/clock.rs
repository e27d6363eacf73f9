//! The session clock as a device knows it.

use core::time::Duration;

use crate::time::Instant;

/// The session clock, 0 when the server wrote `Welcome`.
///
/// **Invariant:** never behind the server's, so that a call never starts after its deadline. An answer
/// says what the server's clock was somewhere between question and answer; the latest of these is taken,
/// unless an earlier answer is known to be closer.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionClock {
    at: Instant,
    ms: u64,
}

impl SessionClock {
    /// `Welcome` came at `now`, `round_trip` after `Hello` was sent.
    pub(super) fn new(now: Instant, round_trip: Duration) -> Self {
        Self { at: now, ms: millis(round_trip) }
    }

    /// `Pong` came at `now` and says `server_ms`; its `Ping` was sent `round_trip` ago.
    pub(super) fn handle_pong(&mut self, now: Instant, server_ms: u64, round_trip: Duration) {
        let drift = millis(now.since(self.at)) / DRIFT;
        let known = self.now_ms(now).saturating_add(drift).saturating_add(1);
        let latest = server_ms.saturating_add(millis(round_trip));
        *self = Self { at: now, ms: known.min(latest).max(server_ms) };
    }

    pub(super) fn now_ms(&self, now: Instant) -> u64 {
        self.ms.saturating_add(millis(now.since(self.at)))
    }
}

/// A device's clock may be slow by one part in this many (a resonator's 0.1 %).
const DRIFT: u64 = 1000;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn the_clock_is_never_behind_and_as_close_as_the_best_answer() {
        // Welcome took 80 ms; the server wrote it somewhere in between.
        let mut clock = SessionClock::new(at(1000), Duration::from_millis(80));
        assert_eq!(clock.now_ms(at(1000)), 80);
        // A quick answer is closer than what was known.
        clock.handle_pong(at(2000), 1010, Duration::from_millis(10));
        assert_eq!(clock.now_ms(at(2000)), 1020);
        // A slow answer does not spoil it.
        clock.handle_pong(at(3000), 1500, Duration::from_millis(900));
        assert_eq!(clock.now_ms(at(3000)), 2022);
        // A server that is ahead is believed.
        clock.handle_pong(at(4000), 9000, Duration::from_millis(5));
        assert_eq!(clock.now_ms(at(4000)), 9000);
    }
}

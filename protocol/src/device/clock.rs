//! The session clock and the server's time as a device knows them.

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
    /// `Welcome` came at `now`, `round_trip_ms` after `Hello` was sent.
    pub(super) fn new(now: Instant, round_trip_ms: u64) -> Self {
        Self { at: now, ms: round_trip_ms }
    }

    /// `Pong` came at `now` and says `server_ms`; its `Ping` was sent `round_trip_ms` ago.
    pub(super) fn handle_pong(&mut self, now: Instant, server_ms: u64, round_trip_ms: u64) {
        let drift = now.millis_since(self.at) / DRIFT;
        let known = self.now_ms(now).saturating_add(drift).saturating_add(1);
        let latest = server_ms.saturating_add(round_trip_ms);
        *self = Self { at: now, ms: known.min(latest).max(server_ms) };
    }

    pub(super) fn now_ms(&self, now: Instant) -> u64 {
        self.ms.saturating_add(now.millis_since(self.at))
    }
}

/// The server's time, for who wants to know when something was.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerTime {
    /// Milliseconds since 1970 when the device's clock was 0.
    zero_ms: u64,
}

impl ServerTime {
    /// An answer that came at `now` says `ms` since 1970; its question was sent `round_trip_ms` ago.
    pub(super) fn new(now: Instant, ms: u64, round_trip_ms: u64) -> Self {
        Self { zero_ms: ms.saturating_add(round_trip_ms / 2).saturating_sub(now.as_millis()) }
    }

    /// A later answer. A slow one would make it worse than the drift of the device's clock does.
    pub(super) fn handle_pong(&mut self, now: Instant, ms: u64, round_trip_ms: u64) {
        if round_trip_ms <= SLOW_MS {
            *self = Self::new(now, ms, round_trip_ms);
        }
    }

    pub(super) fn now_ms(self, now: Instant) -> u64 {
        self.zero_ms.saturating_add(now.as_millis())
    }
}

/// Longest round trip of an answer that mends the time, in milliseconds.
const SLOW_MS: u64 = 2000;
/// A device's clock may be slow by one part in this many: twice a resonator's 0.1 %. A power of two, which a
/// microcontroller divides by without a library.
const DRIFT: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn the_time_is_the_middle_of_question_and_answer_and_mended_by_every_quick_answer() {
        let mut time = ServerTime::new(at(1000), 5_000_000, 400);
        assert_eq!(time.now_ms(at(1100)), 5_000_300);
        time.handle_pong(at(2000), 5_001_000, 20);
        assert_eq!(time.now_ms(at(2000)), 5_001_010);
        time.handle_pong(at(9000), 5_004_000, 3000);
        assert_eq!(time.now_ms(at(9000)), 5_008_010, "a slow one says less than the device's own clock");
        assert_eq!(ServerTime::new(at(9000), 0, 0).now_ms(at(0)), 0, "a server that knows no time");
    }

    #[test]
    fn the_clock_is_never_behind_and_as_close_as_the_best_answer() {
        // Welcome took 80 ms; the server wrote it somewhere in between.
        let mut clock = SessionClock::new(at(1000), 80);
        assert_eq!(clock.now_ms(at(1000)), 80);
        // A quick answer is closer than what was known.
        clock.handle_pong(at(2000), 1010, 10);
        assert_eq!(clock.now_ms(at(2000)), 1020);
        // A slow answer does not spoil it.
        clock.handle_pong(at(3000), 1500, 900);
        assert_eq!(clock.now_ms(at(3000)), 2022);
        // A server that is ahead is believed.
        clock.handle_pong(at(4000), 9000, 5);
        assert_eq!(clock.now_ms(at(4000)), 9000);
    }
}

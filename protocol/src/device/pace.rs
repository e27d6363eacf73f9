//! Which interval between heartbeats is used.

use core::time::Duration;

use crate::time::Instant;

/// How often a device gives a sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Pacing {
    /// In the interval that the server asks for.
    #[default]
    Server,
    /// In the longest interval that the path survives, from 60 s up to what the server asks for. It is searched: each
    /// interval that was survived is followed by a longer one, and one that a NAT or firewall on the path did not
    /// survive costs a connection.
    Adaptive,
}

/// The search for the longest interval of silence that the path survives.
///
/// ```text
/// 60 s ──▶ twice as long, up to what the server asks for ──▶ settled there
///              │ the connection is gone
///              ▼
///          halves what lies between the longest that was survived and the shortest that was not,
///          until they are an eighth apart ──▶ settled; after 12 h longer ones are tried again
/// ```
///
/// A `Ping` names the next interval before it is answered, so each one is used twice before a longer one is. The search
/// lasts over connections. Only silence that a `Ping` ended counts, since everything that is sent or heard keeps a
/// NAT's memory of the connection.
#[derive(Debug)]
pub(super) struct Pace {
    kind: Pacing,
    /// Longest silence that was survived, in milliseconds; 0 at first.
    survived_ms: u32,
    /// Shortest silence above it after which the connection was gone, 0 when there is none; and when that was.
    lost_ms: u32,
    lost_at: Instant,
    /// It was gone after a silence that had been survived; once may be chance.
    is_doubted: bool,
}

impl Pace {
    pub(super) const fn new(kind: Pacing) -> Self {
        Self { kind, survived_ms: 0, lost_ms: 0, lost_at: Instant::from_millis(0), is_doubted: false }
    }

    /// The next interval, when the server asks for `asked_ms`.
    pub(super) fn interval_ms(&mut self, now: Instant, asked_ms: u32) -> u32 {
        if self.kind == Pacing::Server {
            return asked_ms;
        }
        if now >= self.lost_at.after(LOST_KEPT) {
            self.lost_ms = 0;
        }
        let survived = self.survived_ms;
        let apart = self.lost_ms.saturating_sub(survived);
        let next = match self.lost_ms {
            0 => survived.saturating_mul(2),
            _ if apart > survived / 8 => survived + apart / 2,
            _ => survived,
        };
        next.max(FLOOR_MS).min(asked_ms)
    }

    /// Whether the path may not survive a silence as long as this. The first interval is no try: a path whose answers
    /// take longer than a try waits for them would never get further.
    pub(super) fn is_tried(&self, silence_ms: u32) -> bool {
        self.kind == Pacing::Adaptive && silence_ms > self.survived_ms.max(FLOOR_MS)
    }

    /// A `Ping` after this silence was answered.
    pub(super) fn handle_survived(&mut self, silence_ms: u32) {
        if silence_ms >= self.survived_ms {
            self.survived_ms = silence_ms;
            self.is_doubted = false;
        }
    }

    /// The connection ended while a `Ping` after this silence waited for its answer.
    pub(super) fn handle_lost(&mut self, now: Instant, silence_ms: u32) {
        if self.kind == Pacing::Server || silence_ms < FLOOR_MS {
            return;
        }
        if silence_ms <= self.survived_ms {
            if !core::mem::replace(&mut self.is_doubted, true) {
                return;
            }
            self.is_doubted = false;
            // The path became another one.
            self.survived_ms = 0;
        }
        (self.lost_ms, self.lost_at) = (silence_ms, now);
    }
}

/// The first interval, and the shortest but for a server that asks for a shorter one.
const FLOOR_MS: u32 = 60_000;
/// How long a silence counts as one that the path does not survive: paths change, and it may have been chance.
const LOST_KEPT: Duration = Duration::from_secs(12 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_millis(s * 1000)
    }

    /// The intervals, in seconds, of `count` heartbeats on a path that forgets a connection after `nat_s`.
    fn search(pace: &mut Pace, from: &mut u64, nat_s: u32, asked_s: u32, count: usize) -> std::vec::Vec<u32> {
        let beat = |_| {
            let interval = pace.interval_ms(at(*from), asked_s * 1000);
            *from += u64::from(interval / 1000);
            if interval < nat_s * 1000 {
                pace.handle_survived(interval);
            } else {
                pace.handle_lost(at(*from), interval);
            }
            interval / 1000
        };
        (0..count).map(beat).collect()
    }

    #[test]
    fn what_the_server_asks_for_is_used_without_a_search() {
        let mut pace = Pace::new(Pacing::Server);
        assert_eq!(search(&mut pace, &mut 0, 100, 300, 4), [300, 300, 300, 300]);
    }

    #[test]
    fn on_a_path_that_forgets_nothing_it_doubles_up_to_what_the_server_asks_for() {
        let mut pace = Pace::new(Pacing::Adaptive);
        assert_eq!(search(&mut pace, &mut 0, u32::MAX / 1000, 300, 6), [60, 120, 240, 300, 300, 300]);
        assert_eq!(pace.interval_ms(at(9999), 30_000), 30_000, "a server may ask for less");
    }

    #[test]
    fn it_settles_below_what_the_path_forgets_and_looks_again_after_half_a_day() {
        let (mut pace, mut now) = (Pace::new(Pacing::Adaptive), 0);
        assert_eq!(search(&mut pace, &mut now, 200, 300, 7), [60, 120, 240, 180, 210, 195, 195]);
        let day = search(&mut pace, &mut now, 200, 300, 12 * 3600 / 195);
        let tried = day.iter().filter(|interval| **interval != 195).count();
        assert_eq!(tried, 1, "one longer interval in half a day: {day:?}");
        // Meanwhile the path became better.
        let later = search(&mut pace, &mut now, 1000, 300, 12 * 3600 / 195 + 3);
        assert_eq!(later.last(), Some(&300));
    }

    #[test]
    fn a_path_that_became_worse_is_believed_at_the_second_loss() {
        let (mut pace, mut now) = (Pace::new(Pacing::Adaptive), 0);
        search(&mut pace, &mut now, 1000, 300, 5);
        let found = search(&mut pace, &mut now, 100, 300, 40);
        assert_eq!(found[..6], [300, 300, 150, 75, 112, 93], "the first may be chance");
        let settled = *found.last().unwrap();
        assert!((60..100).contains(&settled), "{found:?}");
        assert!(found.iter().filter(|interval| **interval >= 100).count() == 5, "{found:?}");
    }

    #[test]
    fn the_first_interval_is_judged_as_any_and_a_longer_one_at_once() {
        let mut pace = Pace::new(Pacing::Adaptive);
        assert!(!pace.is_tried(60_000) && pace.is_tried(60_001));
        pace.handle_survived(120_000);
        assert!(!pace.is_tried(120_000) && pace.is_tried(120_001));
        assert!(!Pace::new(Pacing::Server).is_tried(300_000));
    }

    #[test]
    fn a_path_that_survives_less_than_a_minute_is_given_a_minute() {
        let mut pace = Pace::new(Pacing::Adaptive);
        assert_eq!(search(&mut pace, &mut 0, 30, 300, 3), [60, 60, 60]);
    }
}

//! When to give a sign of life, and when the server counts as dead.

use core::time::Duration;

use super::pace::Pace;
use crate::limits::{HEARTBEAT_MAX, HEARTBEAT_MIN, cut_after_ms};
use crate::time::Instant;

/// Heartbeat of one connection.
///
/// A `Ping` goes out every interval. The server is dead when nothing was heard for 5/3 of the interval
/// although a `Ping` asked, or for [`ANSWER_MAX`] after an urgent one.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// What the server asks for, and what was announced last.
    asked_ms: u32,
    interval_ms: u32,
    /// When a frame was last sent or heard.
    moved: Instant,
    /// The silence that an unanswered `Ping` ended, in milliseconds; 0 when none did.
    silence_ms: u32,
    heard: Instant,
    pinged: Instant,
    /// When the oldest unanswered `Ping` was sent, and how many there are.
    unanswered_since: Option<Instant>,
    unanswered: u16,
    is_ping_due: bool,
    is_urgent: bool,
    /// The caller does not read, so silence means nothing; the last sign of life given.
    blocked: Option<Instant>,
}

/// The longest wait for the answer to an urgent `Ping`.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// While the caller does not read, the server's probes go unseen: a sign of life in this interval answers
/// each before its time is over (`PROBE_TIMEOUT`, 5 s).
pub(super) const BLOCKED_INTERVAL: Duration = Duration::from_secs(4);

impl Heartbeat {
    pub(super) fn new(now: Instant, heartbeat_s: u16, pace: &mut Pace) -> Self {
        let asked_ms = u32::from(heartbeat_s).clamp(INTERVAL_MIN_S, INTERVAL_MAX_S) * 1000;
        Self {
            asked_ms,
            interval_ms: pace.interval_ms(now, asked_ms),
            moved: now,
            silence_ms: 0,
            heard: now,
            pinged: now,
            unanswered_since: None,
            unanswered: 0,
            is_ping_due: false,
            is_urgent: false,
            blocked: None,
        }
    }

    pub(super) fn handle_frame(&mut self, now: Instant) {
        self.heard = now;
        self.moved = now;
        self.is_urgent = false;
    }

    /// A frame other than a `Ping` is sent.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.moved = now;
    }

    pub(super) fn interval_ms(&self) -> u32 {
        self.interval_ms
    }

    /// The silence that ended with a `Ping` which is not answered, in milliseconds.
    pub(super) fn unanswered_silence_ms(&self) -> u32 {
        self.silence_ms
    }

    /// Returns the longest time that question and answer can have taken, in milliseconds.
    pub(super) fn handle_pong(&mut self, now: Instant, pace: &mut Pace) -> Option<u64> {
        let since = self.unanswered_since?;
        pace.handle_survived(core::mem::take(&mut self.silence_ms));
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 {
            self.unanswered_since = None;
        }
        Some(now.millis_since(since))
    }

    /// The caller stops or goes on reading.
    pub(super) fn handle_reading(&mut self, now: Instant, is_blocked: bool) {
        if is_blocked != self.blocked.is_some() {
            self.blocked = is_blocked.then_some(now);
            self.heard = now;
        }
    }

    /// Asks for an answer at once.
    pub(super) fn ask(&mut self) {
        self.is_ping_due = true;
        self.is_urgent = true;
    }

    /// Gives a sign of life at once.
    pub(super) fn show(&mut self) {
        self.is_ping_due = true;
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if now >= self.ping_at() {
            self.is_ping_due = true;
        }
    }

    /// Takes the `Ping` that is due; the interval it announces, in milliseconds.
    pub(super) fn poll(&mut self, now: Instant, pace: &mut Pace) -> Option<u32> {
        if !core::mem::take(&mut self.is_ping_due) {
            return None;
        }
        let silence_ms = u32::try_from(now.millis_since(self.moved)).unwrap_or(u32::MAX);
        self.silence_ms = self.silence_ms.max(silence_ms);
        // A silence that the path may not have survived is no reason to wait for long.
        self.is_urgent |= pace.is_tried(silence_ms);
        self.interval_ms = pace.interval_ms(now, self.asked_ms);
        self.moved = now;
        self.pinged = now;
        if self.blocked.is_some() {
            self.blocked = Some(now);
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.unanswered_since.get_or_insert(now);
        Some(self.interval_ms)
    }

    pub(super) fn is_dead(&self, now: Instant) -> bool {
        self.dead_at().is_some_and(|at| now >= at)
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.dead_at().map_or(self.ping_at(), |dead_at| dead_at.min(self.ping_at()))
    }

    fn ping_at(&self) -> Instant {
        let regular = self.pinged.after_millis(self.interval_ms.into());
        self.blocked.map_or(regular, |since| regular.min(since.after(BLOCKED_INTERVAL)))
    }

    fn dead_at(&self) -> Option<Instant> {
        let is_asked = self.unanswered > 0 && self.pinged >= self.heard;
        if !is_asked || self.blocked.is_some() {
            return None;
        }
        let cut = self.heard.after_millis(cut_after_ms(self.interval_ms));
        Some(if self.is_urgent { cut.min(self.pinged.after(ANSWER_MAX)) } else { cut })
    }
}

const INTERVAL_MIN_S: u32 = HEARTBEAT_MIN.as_secs() as u32;
const INTERVAL_MAX_S: u32 = HEARTBEAT_MAX.as_secs() as u32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::pace::Pacing;

    fn pace() -> Pace {
        Pace::new(Pacing::Server)
    }

    fn at(s: u64) -> Instant {
        Instant::from_millis(s * 1000)
    }

    /// What the heartbeat does at each of its own timeouts: seconds, and `ping` or `dead`.
    fn run(heartbeat: &mut Heartbeat, until: u64) -> std::vec::Vec<(u64, &'static str)> {
        let mut seen = std::vec::Vec::new();
        loop {
            let now = heartbeat.poll_timeout();
            if now > at(until) {
                return seen;
            }
            heartbeat.handle_timeout(now);
            if heartbeat.is_dead(now) {
                seen.push((now.as_millis() / 1000, "dead"));
                return seen;
            }
            if heartbeat.poll(now, &mut pace()).is_some() {
                seen.push((now.as_millis() / 1000, "ping"));
            }
        }
    }

    #[test]
    fn a_server_that_never_answers_is_dead_at_five_thirds() {
        assert_eq!(run(&mut Heartbeat::new(at(0), 300, &mut pace()), 1000), [(300, "ping"), (500, "dead")]);
    }

    #[test]
    fn an_urgent_question_is_answered_within_ten_seconds() {
        let mut heartbeat = Heartbeat::new(at(0), 300, &mut pace());
        heartbeat.ask();
        assert_eq!(heartbeat.poll(at(20), &mut pace()), Some(300_000));
        assert_eq!(run(&mut heartbeat, 1000), [(30, "dead")]);
    }

    #[test]
    fn any_frame_puts_death_off() {
        let mut heartbeat = Heartbeat::new(at(0), 300, &mut pace());
        heartbeat.handle_timeout(at(300));
        heartbeat.poll(at(300), &mut pace());
        heartbeat.handle_frame(at(310));
        assert_eq!(run(&mut heartbeat, 700), [(600, "ping")]);
        assert_eq!(heartbeat.handle_pong(at(610), &mut pace()), Some(310_000), "of the older Ping");
    }

    #[test]
    fn signs_of_life_go_on_while_nothing_is_read_and_silence_means_nothing() {
        let mut heartbeat = Heartbeat::new(at(0), 300, &mut pace());
        heartbeat.handle_reading(at(1), true);
        assert_eq!(run(&mut heartbeat, 13), [(5, "ping"), (9, "ping"), (13, "ping")]);
        heartbeat.handle_reading(at(1000), false);
        assert!(!heartbeat.is_dead(at(1000)));
    }
}

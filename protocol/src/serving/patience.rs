//! How long the server waits for the device: acknowledgement, probe, handling, heartbeat.
//!
//! ```text
//!            sent                    5 s                      any frame: resend once
//! Quiet ───────────▶ Unacked ──────────────▶ Probed ──────────────────────▶ Handling
//!   ▲                   │ ▲                    │ 5 s without a frame           │ 5 min, extended by Busy
//!   └──── all acked ────┘ └── some acked ──┐   ▼                               ▼
//!                                          └─ (any)                    the connection is closed
//! ```

use core::time::Duration;

use crate::limits::{ACK_TIMEOUT, HANDLING_MAX, PROBE_TIMEOUT, cut_after_ms};
use crate::time::Instant;

/// Bytes a second of the slowest link that is not taken for a dead one.
const SLOWEST_LINK: u32 = 1024;

/// Waiting for the oldest unacknowledged message, and for signs of life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    wait: Wait,
    heard: Instant,
    interval_ms: u32,
    /// Bytes of payload unacknowledged, about: a slow link needs time to carry them, and a device says
    /// nothing while a long frame comes in.
    bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Quiet,
    Unacked { since: Instant },
    Probed { since: Instant },
    Handling { since: Instant },
}

/// What is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Nothing: look again at this instant at the latest.
    Nothing(Instant),
    /// Ask for a sign of life.
    Probe,
    /// No frame for 5/3 of the interval, or none after a `Probe`: the connection is dead.
    Silent,
    /// The device lives but did not handle its message within the limit.
    Stuck,
}

impl Patience {
    pub(super) const fn new(now: Instant, interval: Duration) -> Self {
        Self { wait: Wait::Quiet, heard: now, interval_ms: interval.as_millis() as u32, bytes: 0 }
    }

    /// A frame came. True when it answers a probe: what is unacknowledged is sent once more.
    pub(super) fn handle_frame(&mut self, now: Instant) -> bool {
        self.heard = now;
        let answers = matches!(self.wait, Wait::Probed { .. });
        if answers {
            self.wait = Wait::Handling { since: now };
        }
        answers
    }

    pub(super) fn handle_interval(&mut self, interval_ms: u32) {
        self.interval_ms = interval_ms;
    }

    /// The handler is still at work.
    pub(super) fn handle_busy(&mut self, now: Instant) {
        if self.wait != Wait::Quiet {
            self.wait = Wait::Handling { since: now };
        }
    }

    /// `done` messages were acknowledged, `in_flight` are left.
    pub(super) fn handle_acked(&mut self, now: Instant, done: usize, in_flight: usize) {
        let (done, left) = (done as u64, in_flight as u64);
        self.bytes = (u64::from(self.bytes) * left / (done + left).max(1)) as u32;
        self.wait = if in_flight == 0 { Wait::Quiet } else { Wait::Unacked { since: now } };
    }

    pub(super) fn handle_sent(&mut self, now: Instant, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u32);
        if self.wait == Wait::Quiet {
            self.wait = Wait::Unacked { since: now };
        }
    }

    pub(super) fn poll(&mut self, now: Instant) -> Overdue {
        let cut = self.heard.after_millis(cut_after_ms(self.interval_ms));
        let carrying = Duration::from_secs(u64::from(self.bytes / SLOWEST_LINK));
        let (due, overdue) = match self.wait {
            Wait::Quiet => (cut, Overdue::Silent),
            Wait::Unacked { since } => (since.after(ACK_TIMEOUT + carrying), Overdue::Probe),
            Wait::Probed { since } => (since.after(PROBE_TIMEOUT + carrying), Overdue::Silent),
            Wait::Handling { since } => (since.after(HANDLING_MAX), Overdue::Stuck),
        };
        if now >= cut {
            return Overdue::Silent;
        }
        if now < due {
            return Overdue::Nothing(due.min(cut));
        }
        if overdue == Overdue::Probe {
            self.wait = Wait::Probed { since: now };
        }
        overdue
    }
}

//! What a session holds only while attached.

use core::time::Duration;

use super::calls::Calls;
use super::clock::SessionClock;
use super::events::Events;
use super::heartbeat::Heartbeat;
use super::mailbox::Mailbox;
use super::output::Transmit;
use super::pace::Pace;
use crate::limits::HANDLING_MAX;
use crate::message::{FromDevice, Welcome};
use crate::time::Instant;

/// What exists only while attached.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) since: Instant,
    pub(super) clock: SessionClock,
    /// The server's time when the session clock was 0.
    pub(super) began_ms: u64,
    pub(super) heartbeat: Heartbeat,
    pub(super) calls: Calls,
    /// Replies that the caller holds.
    pub(super) replies: u16,
    pub(super) frame_limit: u32,
    pub(super) describe: Option<u32>,
    pub(super) is_probed: bool,
    /// When the handler started, or its last `Busy`.
    pub(super) busy_since: Option<Instant>,
    /// The events in flight were asked about.
    pub(super) is_asked: bool,
}

impl Live {
    pub(super) fn new(
        now: Instant,
        round_trip_ms: u64,
        welcome: &Welcome<'_>,
        is_running: bool,
        pace: &mut Pace,
    ) -> Self {
        Self {
            since: now,
            clock: SessionClock::new(now, round_trip_ms),
            began_ms: welcome.time_ms,
            heartbeat: Heartbeat::new(now, welcome.heartbeat_s, pace),
            calls: Calls::default(),
            replies: 0,
            frame_limit: welcome.frame_limit,
            describe: None,
            is_probed: false,
            busy_since: is_running.then_some(now),
            is_asked: false,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, events: &Events) {
        let ask_at = events.waiting_since().map(|since| since.after(EVENT_ACK_MAX));
        if !self.is_asked && ask_at.is_some_and(|at| now >= at) {
            self.is_asked = true;
            self.heartbeat.ask();
        }
        self.heartbeat.handle_timeout(now);
    }

    /// Acknowledgements, replies and signs of life.
    pub(super) fn poll_answer(
        &mut self,
        now: Instant,
        mailbox: &mut Mailbox,
        pace: &mut Pace,
    ) -> Option<Transmit<'static>> {
        if let Some(frame) = mailbox.poll() {
            return Some(Transmit::Frame(frame));
        }
        if let Some((request, status)) = self.calls.poll_refused() {
            return Some(Transmit::Frame(FromDevice::Reply { request, status, payload: &[] }));
        }
        if self.replies > 0 {
            return Some(Transmit::Reply);
        }
        let is_busy = mailbox.is_running();
        if !is_busy {
            self.busy_since = None;
        }
        let is_busy_due = self.busy_since.is_some_and(|since| now >= since.after(BUSY_INTERVAL));
        let is_probed = core::mem::take(&mut self.is_probed);
        if is_busy && (is_probed || is_busy_due) {
            self.busy_since = Some(now);
            return Some(Transmit::Frame(FromDevice::Busy));
        }
        if is_probed {
            self.heartbeat.show();
        }
        let next_ms = self.heartbeat.poll(now, pace)?;
        mailbox.handle_ping_sent();
        Some(Transmit::Frame(FromDevice::Ping { next_ms }))
    }

    /// Events, then the interface.
    pub(super) fn poll_bulk(&self, events: &Events) -> Option<Transmit<'static>> {
        if let Some((index, sequence)) = events.poll() {
            return Some(Transmit::Event { index, sequence });
        }
        self.describe.map(|offset| Transmit::Interface { offset })
    }

    pub(super) fn poll_timeout(&self, mailbox: &Mailbox, events: &Events) -> Instant {
        let busy_at = self.busy_since.filter(|_| mailbox.is_running()).map(|since| since.after(BUSY_INTERVAL));
        let ask_at = events.waiting_since().filter(|_| !self.is_asked).map(|since| since.after(EVENT_ACK_MAX));
        [busy_at, ask_at].into_iter().flatten().fold(self.heartbeat.poll_timeout(), Instant::min)
    }
}

/// Longest wait for an `EventAck` before the server is asked for a sign of life.
const EVENT_ACK_MAX: Duration = Duration::from_secs(10);
/// While a handler works the server is told so, often enough for its limit.
const BUSY_INTERVAL: Duration = Duration::from_secs(60);

const _: () = assert!(BUSY_INTERVAL.as_secs() * 2 < HANDLING_MAX.as_secs());

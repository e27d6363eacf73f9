//! Numbering, window and resend of the event queue.

use super::error::SessionError;
use crate::limits::{EVENT_WINDOW_MAX, NUMBER_MAX};
use crate::time::Instant;

/// Where the event queue stands. The events themselves are the caller's.
///
/// ```text
/// queue    numbered (sent once at least) · · · | not yet numbered · · ·
///          acked + 1 … numbered                  queued − (numbered − acked)
/// ```
///
/// An event gets its number when it is first sent, so that an older one which was dropped before that
/// leaves no gap, and a numbered one is never dropped. A queue that outlives power losses numbers its events itself: the
/// caller [adds](Self::add) them in that order and [skips](Self::skip) the numbers that it has no event for.
#[derive(Debug, Default)]
pub(super) struct Events {
    acked: u64,
    numbered: u64,
    /// Last one sent over this connection (or acknowledged).
    sent: u64,
    queued: u32,
    window: u8,
    /// When the oldest one in flight was sent or another one acknowledged.
    waiting_since: Option<Instant>,
}

/// How far an event queue got that is older than this power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventRange {
    /// Events up to this number are known to be stored.
    pub stored: u64,
    /// Number of the last event that may have been sent. A `Welcome` may say that events up to this one are stored.
    pub numbered: u64,
}

impl Events {
    pub(super) fn new(range: EventRange) -> Self {
        let acked = range.stored.min(NUMBER_MAX);
        let numbered = range.numbered.clamp(acked, NUMBER_MAX);
        Self { acked, numbered, sent: acked, ..Self::default() }
    }

    pub(super) fn add(&mut self) {
        self.queued = self.queued.saturating_add(1);
    }

    /// Whether a session may say that the events up to `position` are stored.
    pub(super) fn check_welcome(&self, position: u64) -> Result<(), SessionError> {
        if position > self.numbered {
            return Err(SessionError::EventAhead { given: position, sent: self.numbered });
        }
        Ok(())
    }

    /// The session is open, `position` was checked; returns how many events at the queue's front are already stored.
    pub(super) fn handle_welcome(&mut self, position: u64, window: u8) -> u32 {
        let stored = self.take(position);
        self.sent = self.acked;
        self.window = window.min(EVENT_WINDOW_MAX);
        self.waiting_since = None;
        stored
    }

    /// Events up to `sequence` are stored; returns how many leave the queue's front.
    pub(super) fn handle_ack(&mut self, now: Instant, sequence: u64) -> Result<u32, SessionError> {
        if sequence > self.sent {
            return Err(SessionError::EventAhead { given: sequence, sent: self.sent });
        }
        let stored = self.take(sequence);
        if stored > 0 {
            self.waiting_since = (self.sent > self.acked).then_some(now);
        }
        Ok(stored)
    }

    fn take(&mut self, position: u64) -> u32 {
        let stored = u32::try_from(position.saturating_sub(self.acked)).unwrap_or(u32::MAX);
        self.acked = self.acked.max(position);
        self.queued = self.queued.saturating_sub(stored);
        stored
    }

    /// The next event to send: its place in the queue and its number.
    pub(super) fn poll(&self) -> Option<(usize, u64)> {
        let index = self.sent - self.acked;
        let may_go = index < u64::from(self.window) && index < u64::from(self.queued);
        may_go.then_some((index as usize, self.sent + 1))
    }

    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.sent += 1;
        self.numbered = self.numbered.max(self.sent);
        self.waiting_since.get_or_insert(now);
    }

    /// Place of the oldest event that may be dropped.
    pub(super) fn droppable(&self) -> Option<usize> {
        let index = self.numbered - self.acked;
        (index < u64::from(self.queued)).then_some(index as usize)
    }

    pub(super) fn remove_dropped(&mut self) {
        self.queued = self.queued.saturating_sub(1);
    }

    /// There is no event of the numbers up to `sequence`: they count as stored. Only of an empty queue; true when it is done.
    pub(super) fn skip(&mut self, sequence: u64) -> bool {
        let may_skip = self.queued == 0 && (self.acked..NUMBER_MAX).contains(&sequence);
        if may_skip {
            (self.acked, self.sent) = (sequence, sequence);
            self.numbered = self.numbered.max(sequence);
        }
        may_skip
    }

    /// Up to which number events are stored or skipped.
    pub(super) fn stored(&self) -> u64 {
        self.acked
    }

    /// Number of the next event that is added, when none is dropped.
    pub(super) fn next(&self) -> u64 {
        self.acked + u64::from(self.queued) + 1
    }

    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_all(events: &mut Events) -> std::vec::Vec<u64> {
        let mut sent = std::vec::Vec::new();
        while let Some((_, sequence)) = events.poll() {
            sent.push(sequence);
            events.handle_sent(Instant::default());
        }
        sent
    }

    #[test]
    fn no_more_than_the_window_is_in_flight() {
        let mut events = Events::default();
        events.handle_welcome(0, 2);
        (0..5).for_each(|_| events.add());
        assert_eq!(send_all(&mut events), [1, 2]);
        assert_eq!(events.handle_ack(Instant::default(), 1), Ok(1));
        assert_eq!(send_all(&mut events), [3]);
        assert!(events.handle_ack(Instant::default(), 4).is_err(), "never sent");
    }

    #[test]
    fn a_reconnect_resends_what_is_not_stored_under_its_old_numbers() {
        let mut events = Events::default();
        events.handle_welcome(0, 8);
        (0..4).for_each(|_| events.add());
        assert_eq!(send_all(&mut events), [1, 2, 3, 4]);
        assert_eq!(events.handle_welcome(2, 8), 2);
        assert_eq!(events.poll(), Some((0, 3)));
        assert_eq!(send_all(&mut events), [3, 4]);
        assert!(events.check_welcome(9).is_err());
    }

    #[test]
    fn a_queue_that_is_older_than_the_power_on_goes_on_under_its_numbers() {
        let mut events = Events::new(EventRange { stored: 10, numbered: 14 });
        (11..14).for_each(|_| events.add());
        assert!(events.check_welcome(15).is_err(), "never sent");
        assert_eq!(events.check_welcome(14), Ok(()), "sent before the power failed");
        assert_eq!(events.handle_welcome(12, 8), 2);
        assert_eq!(send_all(&mut events), [13]);
        assert_eq!(events.next(), 14);
    }

    #[test]
    fn numbers_without_an_event_are_skipped_once_all_before_them_are_stored() {
        let mut events = Events::new(EventRange { stored: 3, numbered: 9 });
        events.handle_welcome(0, 8);
        events.add();
        assert!(!events.skip(6), "4 is not stored yet");
        assert_eq!(send_all(&mut events), [4]);
        events.handle_ack(Instant::default(), 4).unwrap();
        assert!(events.skip(6) && !events.skip(5));
        events.add();
        assert_eq!(send_all(&mut events), [7]);
        assert_eq!(events.handle_ack(Instant::default(), 7), Ok(1));
    }

    #[test]
    fn only_events_without_a_number_are_dropped_and_leave_no_gap() {
        let mut events = Events::default();
        events.handle_welcome(0, 1);
        (0..3).for_each(|_| events.add());
        assert_eq!(send_all(&mut events), [1]);
        assert_eq!(events.droppable(), Some(1));
        events.remove_dropped();
        events.handle_ack(Instant::default(), 1).unwrap();
        assert_eq!(send_all(&mut events), [2]);
        assert_eq!(events.droppable(), None);
    }
}

//! What the application, and the caller that keeps its payloads, tell a session.

use super::calls::CallEnded;
use super::mailbox::NacksFull;
use super::session::Session;
use crate::id::MessageId;
use crate::message::Code;
use crate::time::Instant;

impl Session {
    /// The handler of the oldest message kept starts.
    pub fn start_message(&mut self, now: Instant, id: MessageId) {
        self.mailbox.set_running(Some(id));
        if let Some(live) = self.live_mut() {
            live.busy_since = Some(now);
        }
    }

    /// The handler stopped without an answer; the message stays the oldest one.
    pub fn stop_message(&mut self) {
        self.mailbox.set_running(None);
    }

    /// The oldest message kept is handled: it will be acknowledged.
    pub fn finish_message(&mut self, id: MessageId) {
        self.mailbox.finish(id);
    }

    /// The oldest message kept is refused for good. When too many refusals are unconfirmed it stays kept.
    pub fn reject_message(&mut self, id: MessageId, code: Code) -> Result<(), NacksFull> {
        self.mailbox.reject(id, code)
    }

    /// A handler wants to start: only with `Ok` it may.
    pub fn start_call(&mut self, now: Instant, request: u32) -> Result<(), CallEnded> {
        let live = self.live_mut().ok_or(CallEnded::Gone)?;
        let now_ms = live.clock.now_ms(now);
        live.calls.start(request, now_ms)
    }

    /// A handler is done. True when the caller is to keep its reply for [`Transmit::Reply`](super::Transmit::Reply).
    pub fn finish_call(&mut self, request: u32) -> bool {
        let Some(live) = self.live_mut() else {
            return false;
        };
        let is_awaited = live.calls.finish(request);
        live.replies = live.replies.saturating_add(u16::from(is_awaited));
        is_awaited
    }

    /// Answers a call with a code alone, its handler never starts.
    pub fn refuse_call(&mut self, request: u32, code: Code) {
        if let Some(live) = self.live_mut() {
            live.calls.refuse(request, code);
        }
    }

    /// An event was put at the end of the caller's queue.
    pub fn add_event(&mut self) {
        self.events.add();
    }

    /// Incarnation of the caller's queue, 0 without events.
    pub fn event_queue(&self) -> u64 {
        self.event_queue
    }

    /// Number of the next event that is put there, when none is dropped.
    pub fn next_event(&self) -> u64 {
        self.events.next()
    }

    /// Up to which number events are stored or skipped.
    pub fn events_stored(&self) -> u64 {
        self.events.stored()
    }

    /// There is no event of the numbers up to `sequence`: the next one is `sequence + 1`. Only while the queue is empty
    /// and holds no later event; false when nothing was done.
    pub fn skip_events(&mut self, sequence: u64) -> bool {
        self.events.skip(sequence)
    }

    /// Place in the queue of the oldest event that may be dropped: no event that was sent.
    pub fn droppable_event(&self) -> Option<usize> {
        self.events.droppable()
    }

    /// An event that was not sent left the queue.
    pub fn handle_event_dropped(&mut self) {
        self.events.remove_dropped();
    }

    /// The event that was offered is sent.
    pub fn handle_event_sent(&mut self, now: Instant) {
        self.events.handle_sent(now);
    }

    /// The reply that was offered is sent, and no longer kept.
    pub fn handle_reply_sent(&mut self) {
        if let Some(live) = self.live_mut() {
            live.replies = live.replies.saturating_sub(1);
        }
    }

    /// The chunk that was offered is sent.
    pub fn handle_interface_sent(&mut self) {
        if let Some(live) = self.live_mut() {
            live.describe = None;
        }
    }
}

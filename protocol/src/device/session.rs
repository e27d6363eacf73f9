//! One device's way through its connections.

use core::time::Duration;

use super::clock::ServerTime;
use super::error::{SessionError, kind};
use super::events::Events;
use super::live::Live;
use super::mailbox::Mailbox;
use super::output::{Event, StateName, Transmit};
use super::pace::Pace;
use super::retry::{End, Retry, Target};
use super::start::{Profile, Start};
#[cfg(feature = "blob")]
use crate::blob::BlobFrame;
use crate::id::{Cursor, Epoch};
use crate::message::{FromDevice, RejectCode, ToDevice};
use crate::seal::{Claim, KEY_LEN};
use crate::time::Instant;

/// The rules of a device, from boot to power-off. No heap, no payloads, no clock, no randomness of its own.
///
/// ```text
///              handle_connected              Welcome                     GoAway, leave
/// ┌▶ Detached ─────────────────▶ Greeting ───────────▶ Attached ──────────────────────▶ Leaving
/// │                                 │                      │                               │
/// │                                 │ Redirect, Reject,    │ Reject,                       │ answered, or 5 s
/// │                                 │ silence, wrong frame │ silence, wrong frame          │ over: Bye
/// │   handle_disconnected           ▼                      ▼                               ▼
/// └──────────────────────────────────────────── Ended ◀────────────────────────────────────┘
///         (from every state)
/// ```
///
/// **Driving it: after every `handle_*` and command, send what [`poll_transmit`](Self::poll_transmit)
/// gives until it gives nothing, close the connection when [`is_ended`](Self::is_ended), and come back at
/// [`poll_timeout`](Self::poll_timeout) at the latest.** Late, early and repeated timeouts are harmless.
#[derive(Debug)]
pub struct Session {
    incarnation: u64,
    pub(super) event_queue: u64,
    attempt: u32,
    pub(super) epoch: Epoch,
    pub(super) mailbox: Mailbox,
    pub(super) events: Events,
    pub(super) retry: Retry,
    pub(super) pace: Pace,
    pub(super) time: Option<ServerTime>,
    pub(super) state: State,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one, and no heap to put the largest on")]
pub(super) enum State {
    Detached,
    Greeting {
        since: Instant,
        is_hello_due: bool,
    },
    /// With what is to come when it is left: a session that leaves is still attached.
    Attached(Live, Option<Leave>),
    Ended {
        end: End,
        attached_ms: Option<u64>,
        delay: Duration,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Leave {
    until: Instant,
    end: End,
    delay: Duration,
}

impl Session {
    /// A device that was just switched on.
    pub fn new(start: &Start) -> Self {
        Self {
            incarnation: start.incarnation.get(),
            event_queue: start.event_queue,
            attempt: 0,
            epoch: 0,
            mailbox: Mailbox::new(start.cursor),
            events: Events::new(start.events),
            retry: Retry::default(),
            pace: Pace::new(start.heartbeat),
            time: None,
            state: State::Detached,
        }
    }

    /// A connection to [`target`](Self::target) is being made.
    pub fn handle_connecting(&mut self, now: Instant) {
        self.retry.handle_connecting(now);
    }

    /// The connection is made.
    pub fn handle_connected(&mut self, now: Instant) {
        self.attempt = self.attempt.saturating_add(1);
        self.state = State::Greeting { since: now, is_hello_due: true };
    }

    /// The connection is closed, or could not be made. `random` is spread evenly over its range.
    pub fn handle_disconnected(&mut self, now: Instant, random: u32) -> End {
        let (end, attached_ms, delay) = match &self.state {
            State::Detached | State::Greeting { .. } => (End::Lost, None, Duration::ZERO),
            State::Attached(live, leave) => {
                if leave.is_none() {
                    self.pace.handle_lost(now, live.heartbeat.unanswered_silence_ms());
                }
                let (end, delay) = leave.map_or((End::Lost, Duration::ZERO), |leave| (leave.end, leave.delay));
                (end, Some(now.millis_since(live.since)), delay)
            }
            State::Ended { end, attached_ms, delay } => (*end, *attached_ms, *delay),
        };
        self.retry.handle_end(now, end, attached_ms, delay, random);
        self.state = State::Detached;
        end
    }

    /// Takes a frame of the server. To be called only while [`has_room`](Self::has_room).
    ///
    /// After an error the session has ended: the stream has no meaning any more.
    pub fn handle_frame<'a>(&mut self, now: Instant, frame: &ToDevice<'a>) -> Result<Option<Event<'a>>, SessionError> {
        let taken = match &mut self.state {
            State::Greeting { since, is_hello_due: false } => {
                let since = *since;
                self.handle_greeting(now, since, frame)
            }
            State::Attached(live, _) => {
                live.heartbeat.handle_frame(now);
                self.handle_attached(now, frame)
            }
            State::Detached | State::Greeting { .. } | State::Ended { .. } => Err(self.out_of_order(frame)),
        };
        taken.inspect_err(|error| self.end(now, End::Fault(*error), Duration::ZERO))
    }

    fn handle_attached<'a>(&mut self, now: Instant, frame: &ToDevice<'a>) -> Result<Option<Event<'a>>, SessionError> {
        let State::Attached(live, _) = &mut self.state else {
            return Err(self.out_of_order(frame));
        };
        match *frame {
            ToDevice::Pong { now_ms } => {
                if let Some(round_trip) = live.heartbeat.handle_pong(now, &mut self.pace) {
                    live.clock.handle_pong(now, now_ms, round_trip);
                    if let Some(time) = &mut self.time {
                        time.handle_pong(now, live.began_ms.saturating_add(now_ms), round_trip);
                    }
                    self.mailbox.handle_pong();
                }
                Ok(None)
            }
            ToDevice::Probe => {
                live.is_probed = true;
                Ok(None)
            }
            ToDevice::Message { sequence, key, flags, payload, .. } => {
                let id = self.mailbox.handle_message(sequence)?;
                Ok(id.map(|id| Event::Message { id, key, is_redelivered: flags.is_redelivered(), payload }))
            }
            ToDevice::Generation { generation } => self.mailbox.handle_generation(generation).map(|()| None),
            ToDevice::Call { request, key, deadline_ms, payload } => {
                let is_kept = live.calls.handle_call(request, deadline_ms, live.clock.now_ms(now))?;
                Ok(is_kept.then_some(Event::Call { request, key, payload }))
            }
            ToDevice::Cancel { request } => {
                Ok(live.calls.handle_cancel(request).then_some(Event::Cancelled { request }))
            }
            ToDevice::EventAck { sequence } => {
                live.is_asked = false;
                let stored = self.events.handle_ack(now, sequence)?;
                Ok((stored > 0).then_some(Event::Stored(stored)))
            }
            ToDevice::Describe { offset } => {
                live.describe = Some(offset);
                Ok(None)
            }
            ToDevice::Grant { grant } => self.retry.handle_grant(now, grant).map(|()| None),
            ToDevice::GoAway { reason, reconnect_after_s } => {
                self.begin_to_leave(now, End::Asked(reason), seconds(reconnect_after_s));
                Ok(None)
            }
            ToDevice::Reject { code, retry_after_s } => {
                Ok(Some(self.end_by_peer(now, End::Rejected(code), retry_after_s)))
            }
            ToDevice::Welcome(_) | ToDevice::Redirect { .. } => Err(self.out_of_order(frame)),
            #[cfg(feature = "blob")]
            ToDevice::BlobOpen(open) => Ok(Some(Event::Blob(BlobFrame::Open(open)))),
            #[cfg(feature = "blob")]
            ToDevice::BlobChunk(chunk) => Ok(Some(Event::Blob(BlobFrame::Chunk(chunk)))),
            #[cfg(feature = "blob")]
            ToDevice::BlobAck(ack) => Ok(Some(Event::Blob(BlobFrame::Ack(ack)))),
            #[cfg(feature = "blob")]
            ToDevice::BlobDone(done) => Ok(Some(Event::Blob(BlobFrame::Done(done)))),
        }
    }

    /// The server refused before anything was proved. Anybody on the path can say so, hence the delay is believed
    /// up to a minute only, and a ticket is not forgotten: the next connection is a login, and if that fails the one
    /// behind it is made with the ticket again.
    pub fn handle_refused(&mut self, now: Instant, code: RejectCode, retry_after_s: u32) {
        self.end(now, End::Refused(code), seconds(retry_after_s).min(REFUSED_MAX));
    }

    /// Time has passed. An error ends the session.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        let state = self.state();
        let is_silent = match &mut self.state {
            State::Detached | State::Ended { .. } => false,
            State::Greeting { since, .. } => now >= since.after(GREETING_MAX),
            State::Attached(live, _) => {
                live.handle_timeout(now, &self.events);
                let is_dead = live.heartbeat.is_dead(now);
                if is_dead {
                    self.pace.handle_lost(now, live.heartbeat.unanswered_silence_ms());
                }
                is_dead
            }
        };
        if !is_silent {
            return Ok(());
        }
        let error = SessionError::Silent { state };
        self.end(now, End::Fault(error), Duration::ZERO);
        Err(error)
    }

    /// The caller has no room for what the server sends and stops reading, or goes on.
    pub fn handle_reading(&mut self, now: Instant, is_blocked: bool) {
        if let Some(live) = self.live_mut() {
            live.heartbeat.handle_reading(now, is_blocked);
        }
    }

    /// Leaves in good order: what is begun is answered, then `Bye`.
    pub fn leave(&mut self, now: Instant) {
        self.begin_to_leave(now, End::Left, Duration::ZERO);
    }

    /// The next thing to send: acknowledgements and replies first, then signs of life, then events, then
    /// the interface.
    pub fn poll_transmit<'a>(&'a mut self, now: Instant, profile: &Profile<'a>) -> Option<Transmit<'a>> {
        match &mut self.state {
            State::Detached | State::Ended { .. } => None,
            State::Greeting { is_hello_due, .. } => {
                if !core::mem::take(is_hello_due) {
                    return None;
                }
                let cursor = self.mailbox.handle_hello();
                Some(Transmit::Frame(FromDevice::Hello(self.hello(cursor, profile))))
            }
            State::Attached(live, leave) => {
                let answer = live.poll_answer(now, &mut self.mailbox, &mut self.pace);
                let Some(leave) = *leave else {
                    let next = answer.or_else(|| live.poll_bulk(&self.events));
                    if next.is_some() {
                        live.heartbeat.handle_sent(now);
                    }
                    return next;
                };
                if answer.is_some() || (!live.calls.is_idle() && now < leave.until) {
                    return answer;
                }
                self.end(now, leave.end, leave.delay);
                Some(Transmit::Frame(FromDevice::Bye))
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), or while detached, to connect.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Detached => Some(self.retry.not_before()),
            State::Greeting { since, .. } => Some(since.after(GREETING_MAX)),
            State::Attached(live, leave) => {
                let due = live.poll_timeout(&self.mailbox, &self.events);
                Some(leave.map_or(due, |leave| due.min(leave.until)))
            }
            State::Ended { .. } => None,
        }
    }

    /// Where to connect, once [`poll_timeout`](Self::poll_timeout) has come.
    pub fn target(&self, now: Instant) -> Target<'_> {
        self.retry.target(now)
    }

    /// Which connection the handshake of a sealed link claims to be.
    pub fn claim(&self) -> Claim {
        Claim { incarnation: self.incarnation, attempt: self.attempt }
    }

    /// The ticket to be shown on the connection that was made, with its key; `None`: log in.
    pub fn ticket(&self) -> Option<(&[u8; KEY_LEN], &[u8])> {
        self.retry.ticket()
    }

    /// Where the session stands.
    pub fn state(&self) -> StateName {
        match self.state {
            State::Detached => StateName::Detached,
            State::Greeting { .. } => StateName::Greeting,
            State::Attached(_, None) => StateName::Attached,
            State::Attached(_, Some(_)) => StateName::Leaving,
            State::Ended { .. } => StateName::Ended,
        }
    }

    /// Whether the connection is to be closed, once what was polled is sent.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    /// Whether a frame may be handled; else send first.
    pub fn has_room(&self) -> bool {
        self.live().is_none_or(|live| live.calls.has_room())
    }

    /// Whether a message of this sequence was handed over before, so that no room is needed for it.
    pub fn is_duplicate(&self, sequence: u64) -> bool {
        self.mailbox.is_duplicate(sequence)
    }

    /// Number of the current or last session, 0 before the first.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How far the mailbox is handled.
    pub fn cursor(&self) -> Cursor {
        self.mailbox.cursor()
    }

    /// The server's time in milliseconds since 1970; `None` before the first session.
    pub fn time_ms(&self, now: Instant) -> Option<u64> {
        self.time.map(|time| time.now_ms(now))
    }

    /// The interval of heartbeats that the next one ends, in milliseconds, while attached.
    pub fn heartbeat_ms(&self) -> Option<u32> {
        self.live().map(|live| live.heartbeat.interval_ms())
    }

    /// Largest frame (body and check) that the server takes, while attached.
    pub fn frame_limit(&self) -> Option<u32> {
        self.live().map(|live| live.frame_limit)
    }

    fn begin_to_leave(&mut self, now: Instant, end: End, delay: Duration) {
        match &mut self.state {
            State::Attached(_, leave) => {
                leave.get_or_insert(Leave { until: now.after(LEAVING_MAX), end, delay });
            }
            State::Greeting { .. } => self.end(now, end, delay),
            State::Detached | State::Ended { .. } => {}
        }
    }

    pub(super) fn end_by_peer(&mut self, now: Instant, end: End, delay_s: u32) -> Event<'static> {
        self.end(now, end, seconds(delay_s));
        Event::Ended(end)
    }

    pub(super) fn end(&mut self, now: Instant, end: End, delay: Duration) {
        if !self.is_ended() {
            let attached_ms = self.live().map(|live| now.millis_since(live.since));
            self.state = State::Ended { end, attached_ms, delay };
        }
    }

    pub(super) fn out_of_order(&self, frame: &ToDevice<'_>) -> SessionError {
        SessionError::Order { state: self.state(), frame: kind(frame) }
    }

    fn live(&self) -> Option<&Live> {
        match &self.state {
            State::Attached(live, _) => Some(live),
            _ => None,
        }
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.state {
            State::Attached(live, _) => Some(live),
            _ => None,
        }
    }
}

fn seconds(delay_s: u32) -> Duration {
    Duration::from_secs(delay_s.into())
}

/// Longest wait for `Welcome`: the server's own deadlines are shorter.
const GREETING_MAX: Duration = Duration::from_secs(20);
/// Longest delay that a refusal without proof is believed for.
const REFUSED_MAX: Duration = Duration::from_secs(60);
/// Longest wait for handlers of calls before leaving.
const LEAVING_MAX: Duration = Duration::from_secs(5);

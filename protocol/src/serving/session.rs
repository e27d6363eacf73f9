//! One attached device, as its IM-server sees it.

use super::exchange::{CallRefused, Delivered, HeadCheck, Incoming, MailboxHead, Opening, Outgoing, PageTaken, Wanted};
use super::in_flight::InFlight;
use super::patience::{Overdue, Patience};
use super::{Transmit, Violation};
#[cfg(feature = "blob")]
use crate::blob::BlobFrame;
use crate::id::{Cursor, Epoch, MessageId};
use crate::key::Key;
use crate::limits::{EVENT_WINDOW_MAX, HEARTBEAT_MAX, HEARTBEAT_MIN, NUMBER_MAX, PAYLOAD_OVERHEAD, WINDOW_MAX};
use crate::message::{Code, Flags, FromDevice, ToDevice};
use crate::time::Instant;

/// The rules of one session. About 230 bytes, no heap, no payloads.
///
/// **Invariant:** the messages in flight all belong to `generation`, are in order, and nothing after them
/// in the mailbox was sent. Everything stored up to `head` is sent or final.
#[derive(Debug)]
pub struct Session {
    epoch: Epoch,
    /// Session clock 0 in the caller's clock, and in the store's time.
    opened: Instant,
    opened_store_ms: u64,
    /// Generation of the stream: of the last message sent.
    generation: u64,
    /// The device answered for `generation`: acknowledgements count.
    is_confirmed: bool,
    in_flight: InFlight,
    /// Highest message ever sent in this session, and highest acknowledged.
    sent: Cursor,
    acked: Cursor,
    /// Where the mailbox stood when everything in it was sent or final.
    head: MailboxHead,
    /// Messages up to here may have reached the device in an earlier session.
    offered: Cursor,
    mailbox: Mailbox,
    /// What is in flight is to be read and sent once more.
    is_resending: bool,
    /// What comes next is of a newer generation: it is read once nothing is in flight.
    is_switching: bool,
    /// More entries wait in the store than are known of here, since the last acknowledgement.
    has_surplus: bool,
    window: u8,
    receive_limit: u32,
    patience: Patience,
    next_request: u32,
    event_received: u64,
    event_stored: u64,
    events_open: u8,
    /// Refusals of the device that the store does not have yet: its `Ping` is answered behind them.
    nacks_open: u8,
    is_pong_due: bool,
}

/// What is known of the mailbox behind `head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mailbox {
    /// Nothing waits there.
    Clean,
    /// Something may wait there.
    More,
    /// It is being read; the highest message heard of meanwhile.
    Reading { hinted: MessageId },
}

impl Session {
    /// Opens the session; the caller has written `Welcome` with `opening.generation`. The entries that came
    /// with the answer to `attach` follow by [`handle_page`](Self::handle_page), or are given up by
    /// [`handle_read_failed`](Self::handle_read_failed).
    pub fn new(now: Instant, opening: &Opening) -> Self {
        Self {
            epoch: opening.epoch,
            opened: now,
            opened_store_ms: opening.store_ms,
            generation: opening.generation,
            is_confirmed: true,
            in_flight: InFlight::default(),
            sent: opening.cursor,
            acked: opening.cursor,
            head: MailboxHead::default(),
            offered: opening.offered,
            mailbox: Mailbox::Reading { hinted: MessageId::default() },
            is_resending: false,
            is_switching: false,
            has_surplus: false,
            window: opening.window.clamp(1, WINDOW_MAX as u8),
            receive_limit: opening.receive_limit,
            patience: Patience::new(now, opening.interval),
            next_request: 1,
            event_received: opening.event_position,
            event_stored: opening.event_position,
            events_open: 0,
            nacks_open: 0,
            is_pong_due: false,
        }
    }

    /// Takes a frame of the device.
    pub fn handle_frame<'a>(
        &mut self,
        now: Instant,
        frame: &FromDevice<'a>,
        out: &mut impl Transmit,
    ) -> Result<Incoming<'a>, Violation> {
        let answers_probe = self.patience.handle_frame(now);
        let incoming = match *frame {
            FromDevice::Hello(_) => return Err(Violation::SecondHello),
            FromDevice::Ping { next_ms } => self.handle_ping(now, next_ms, out)?,
            FromDevice::Busy => {
                self.patience.handle_busy(now);
                Incoming::Nothing
            }
            FromDevice::Ack { sequence } => self.handle_ack(now, sequence)?.map_or(Incoming::Nothing, Incoming::Acked),
            FromDevice::Nack { sequence, code } => self.handle_ack(now, sequence)?.map_or(Incoming::Nothing, |id| {
                self.nacks_open = self.nacks_open.saturating_add(1);
                Incoming::Nacked(id, code)
            }),
            FromDevice::Generation { generation } if generation == self.generation => {
                self.is_confirmed = true;
                Incoming::Nothing
            }
            FromDevice::Generation { generation } => {
                return Err(Violation::Generation { given: generation, expected: self.generation });
            }
            FromDevice::Reply { request, status, payload } => Incoming::Reply { request, status, payload },
            FromDevice::Event { sequence, key, payload } => self.handle_event(sequence, key, payload)?,
            FromDevice::Interface { offset, total, chunk } => Incoming::Interface { offset, total, chunk },
            FromDevice::Bye => Incoming::Bye,
            #[cfg(feature = "blob")]
            FromDevice::BlobOpen(open) => Incoming::Blob(BlobFrame::Open(open)),
            #[cfg(feature = "blob")]
            FromDevice::BlobChunk(chunk) => Incoming::Blob(BlobFrame::Chunk(chunk)),
            #[cfg(feature = "blob")]
            FromDevice::BlobAck(ack) => Incoming::Blob(BlobFrame::Ack(ack)),
            #[cfg(feature = "blob")]
            FromDevice::BlobDone(done) => Incoming::Blob(BlobFrame::Done(done)),
        };
        // The device lives, but what it was sent may be lost: send it again, once. Not when it has it in its
        // handler or was done with some of it just now.
        let is_at_work =
            matches!(frame, FromDevice::Busy) || matches!(incoming, Incoming::Acked(_) | Incoming::Nacked(..));
        if answers_probe && !is_at_work && !self.in_flight.is_empty() {
            self.is_resending = true;
        }
        Ok(incoming)
    }

    /// A message was appended. Goes straight out only when it is next in order, in the generation of the
    /// stream, and the window has room; else the mailbox will be read.
    pub fn handle_deliver(&mut self, now: Instant, message: &Outgoing<'_>, out: &mut impl Transmit) -> Delivered {
        let id = message.id;
        if id <= self.sent || (id.generation == self.head.generation && id.sequence <= self.head.last) {
            return Delivered::Known;
        }
        let is_next = id.generation == self.generation
            && self.head == (MailboxHead { generation: id.generation, last: id.sequence.saturating_sub(1) });
        let is_expired = message.expires_ms != 0 && message.expires_ms <= self.store_ms(now);
        if self.mailbox == Mailbox::Clean && !self.is_resending && is_next && !is_expired && self.has_room(message) {
            self.send(now, message, out);
            self.head.last = id.sequence;
            return Delivered::Sent;
        }
        self.handle_hint(id);
        Delivered::Later
    }

    /// Something up to this message may wait in the mailbox: it will be read.
    pub fn handle_hint(&mut self, id: MessageId) {
        self.mailbox = match self.mailbox {
            Mailbox::Reading { hinted } => Mailbox::Reading { hinted: hinted.max(id) },
            Mailbox::Clean | Mailbox::More => Mailbox::More,
        };
    }

    /// The read of the mailbox to make now, if any; answered by [`handle_page`](Self::handle_page) or
    /// [`handle_read_failed`](Self::handle_read_failed). One at a time.
    pub fn poll_read(&mut self) -> Option<Wanted> {
        let open = self.in_flight.len();
        let free = usize::from(self.window).saturating_sub(open);
        let wanted = match self.mailbox {
            Mailbox::Reading { .. } => return None,
            // Nothing would be taken before the device is done with the older generation.
            Mailbox::More if self.is_switching && open > 0 && !self.is_resending => return None,
            _ if self.is_resending => Wanted { after: self.acked, limit: (open + free) as u32 },
            // Reading waits until half of the window is free, so that pages are worth their round trip.
            Mailbox::More if open <= free => Wanted { after: self.sent, limit: free as u32 },
            Mailbox::More | Mailbox::Clean => return None,
        };
        self.mailbox = Mailbox::Reading { hinted: MessageId::default() };
        Some(wanted)
    }

    /// Takes entries of the mailbox in order and sends what the window takes; the rest is read again later.
    pub fn handle_page<'a>(
        &mut self,
        now: Instant,
        entries: impl IntoIterator<Item = Outgoing<'a>>,
        head: MailboxHead,
        more: bool,
        out: &mut impl Transmit,
    ) -> PageTaken {
        let hinted = match self.mailbox {
            Mailbox::Reading { hinted } => hinted,
            Mailbox::Clean | Mailbox::More => MessageId::default(),
        };
        self.is_resending = false;
        self.is_switching = false;
        self.mailbox = Mailbox::More;
        let mut taken = 0;
        for entry in entries {
            match self.offer(now, &entry, out) {
                Offer::Taken => taken += 1,
                Offer::Full => return PageTaken { taken, refused: None },
                Offer::Refused(code) => return PageTaken { taken, refused: Some((entry.id, code)) },
            }
        }
        if !more {
            self.head = head;
            let is_known = hinted.generation <= head.generation && hinted.sequence <= head.last;
            if is_known {
                self.mailbox = Mailbox::Clean;
            }
        }
        PageTaken { taken, refused: None }
    }

    /// The store did not answer: what waits there is read later.
    pub fn handle_read_failed(&mut self) {
        self.mailbox = Mailbox::More;
    }

    /// Compares with where the store says the mailbox stands and how many entries wait there.
    pub fn handle_head(&mut self, head: MailboxHead, waiting: u64) -> HeadCheck {
        let is_behind = head.generation < self.sent.generation
            || (head.generation == self.sent.generation && head.last < self.sent.sequence);
        if is_behind {
            return HeadCheck::RolledBack;
        }
        if head == self.head {
            // Once may be an acknowledgement on its way to the store; again without a newer one is not.
            let has_surplus = self.mailbox == Mailbox::Clean && waiting > self.in_flight.len() as u64;
            let had_surplus = core::mem::replace(&mut self.has_surplus, has_surplus);
            return if has_surplus && had_surplus { HeadCheck::WentBack } else { HeadCheck::Same };
        }
        // The answer to a read that is under way may be older than this.
        self.handle_hint(MessageId::new(head.generation, head.last));
        HeadCheck::More
    }

    /// Asks the device; the answer comes as [`Incoming::Reply`] with the number returned here.
    pub fn call(
        &mut self,
        now: Instant,
        key: Key,
        remaining: core::time::Duration,
        payload: &[u8],
        out: &mut impl Transmit,
    ) -> Result<u32, CallRefused> {
        let max = self.payload_max();
        if payload.len() > max {
            return Err(CallRefused::TooLarge { max: max as u32 });
        }
        let request = self.next_request;
        self.next_request = self.next_request.wrapping_add(1).max(1);
        let deadline_ms = self.clock_ms(now.after(remaining));
        out.transmit(&ToDevice::Call { request, key, deadline_ms, payload });
        Ok(request)
    }

    /// The next `count` events are stored; `upto` is the last of them.
    pub fn handle_events_stored(&mut self, upto: u64, count: usize, out: &mut impl Transmit) {
        self.events_open = self.events_open.saturating_sub(count.min(255) as u8);
        if upto > self.event_stored {
            self.event_stored = upto;
        }
        out.transmit(&ToDevice::EventAck { sequence: self.event_stored });
    }

    /// `count` messages that came as [`Incoming::Nacked`] are recorded as refused.
    pub fn handle_nacks_stored(&mut self, now: Instant, count: usize, out: &mut impl Transmit) {
        self.nacks_open = self.nacks_open.saturating_sub(count.min(255) as u8);
        self.pong(now, out);
    }

    /// To be called from time to time, at the latest when [`Overdue::Nothing`] said. Early and repeated
    /// calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Transmit) -> Overdue {
        let overdue = self.patience.poll(now);
        if overdue == Overdue::Probe {
            out.transmit(&ToDevice::Probe);
        }
        overdue
    }

    /// Number of the session.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Highest message ever sent in this session (or the device's cursor at its beginning).
    pub fn sent(&self) -> Cursor {
        self.sent
    }

    /// When it was opened, by the caller's clock.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Number of messages sent and not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether this message was sent and is not acknowledged.
    pub fn is_in_flight(&self, id: MessageId) -> bool {
        id.generation == self.generation && self.in_flight.contains(id.sequence)
    }

    /// Whether messages wait in the mailbox, as far as is known.
    pub fn is_waiting(&self) -> bool {
        self.mailbox != Mailbox::Clean
    }

    /// Session clock: milliseconds since `Welcome`.
    pub fn clock_ms(&self, now: Instant) -> u64 {
        now.since(self.opened).as_millis() as u64
    }

    fn handle_ping(
        &mut self,
        now: Instant,
        next_ms: u32,
        out: &mut impl Transmit,
    ) -> Result<Incoming<'static>, Violation> {
        let range = HEARTBEAT_MIN.as_millis()..=HEARTBEAT_MAX.as_millis();
        if !range.contains(&u128::from(next_ms)) {
            return Err(Violation::Interval { ms: next_ms });
        }
        self.patience.handle_interval(next_ms);
        self.is_pong_due = true;
        self.pong(now, out);
        Ok(Incoming::Heartbeat)
    }

    /// The device takes a `Pong` for the word that its refusals arrived and forgets them: a message would be
    /// taken for handled if that were not true.
    fn pong(&mut self, now: Instant, out: &mut impl Transmit) {
        if self.nacks_open == 0 && core::mem::take(&mut self.is_pong_due) {
            out.transmit(&ToDevice::Pong { now_ms: self.clock_ms(now) });
        }
    }

    fn handle_ack(&mut self, now: Instant, sequence: u64) -> Result<Option<MessageId>, Violation> {
        if !self.is_confirmed {
            // Belongs to the older generation, of which nothing is in flight any more.
            return Ok(None);
        }
        let sent = if self.sent.generation == self.generation { self.sent.sequence } else { 0 };
        if sequence > sent {
            return Err(Violation::AckAhead { sequence, sent });
        }
        let done = self.in_flight.remove_upto(sequence);
        if done == 0 {
            return Ok(None);
        }
        self.acked = MessageId::new(self.generation, sequence);
        self.has_surplus = false;
        self.patience.handle_acked(now, done, self.in_flight.len());
        Ok(Some(self.acked))
    }

    fn handle_event<'a>(&mut self, sequence: u64, key: Key, payload: &'a [u8]) -> Result<Incoming<'a>, Violation> {
        if sequence <= self.event_received || sequence > NUMBER_MAX || self.events_open >= EVENT_WINDOW_MAX {
            return Err(Violation::Event { sequence });
        }
        self.event_received = sequence;
        self.events_open += 1;
        Ok(Incoming::Event { sequence, key, payload })
    }

    fn offer(&mut self, now: Instant, entry: &Outgoing<'_>, out: &mut impl Transmit) -> Offer {
        if entry.id <= self.sent {
            if self.is_in_flight(entry.id) {
                self.transmit(entry, out);
            }
            return Offer::Taken;
        }
        // Before the generation: one that is announced is followed by a message, so there is one at a time.
        if entry.payload.len() > self.payload_max() {
            return Offer::Refused(Code::TOO_LARGE);
        }
        if entry.id.generation != self.generation {
            if !self.in_flight.is_empty() {
                self.is_switching = true;
                return Offer::Full;
            }
            self.generation = entry.id.generation;
            self.is_confirmed = false;
            out.transmit(&ToDevice::Generation { generation: self.generation });
        }
        if !self.has_room(entry) {
            return Offer::Full;
        }
        self.send(now, entry, out);
        Offer::Taken
    }

    fn has_room(&self, message: &Outgoing<'_>) -> bool {
        self.in_flight.len() < usize::from(self.window)
            && self.in_flight.has_room(message.id.sequence)
            && message.payload.len() <= self.payload_max()
    }

    fn send(&mut self, now: Instant, message: &Outgoing<'_>, out: &mut impl Transmit) {
        self.transmit(message, out);
        self.in_flight.push(message.id.sequence);
        self.sent = message.id;
        self.patience.handle_sent(now, message.payload.len());
    }

    fn transmit(&self, message: &Outgoing<'_>, out: &mut impl Transmit) {
        let was_offered = message.id <= self.offered || message.id <= self.sent;
        out.transmit(&ToDevice::Message {
            sequence: message.id.sequence,
            key: message.key,
            expiry_ms: match message.expires_ms {
                0 => 0,
                expires => expires.saturating_sub(self.opened_store_ms).max(1),
            },
            flags: if was_offered { Flags::REDELIVERED } else { Flags::NONE },
            payload: message.payload,
        });
    }

    fn payload_max(&self) -> usize {
        (self.receive_limit as usize).saturating_sub(PAYLOAD_OVERHEAD)
    }

    fn store_ms(&self, now: Instant) -> u64 {
        self.opened_store_ms.saturating_add(self.clock_ms(now))
    }
}

enum Offer {
    Taken,
    Full,
    Refused(Code),
}

//! The queue of one device's stored messages.
//!
//! ```text
//!   first                 offered            last
//!     │ waiting · tomb · waiting │ waiting · waiting │      entry i has sequence first + i
//!     └── trimmed from here by acks and cursors      └── appended here
//! ```
//! Invariant: the first entry, if any, waits; `waiting` counts the entries that are not tombstones.

use std::collections::VecDeque;

use imlink_protocol::id::{Cursor, Epoch, MessageId};

use super::outcomes::Outcomes;
use super::recent::Recent;
use super::{Moment, Slot};
use crate::limits::{GENERATIONS_MAX, OFFERS_MAX, PAGE_LEN_MAX, RECENT_MAX};
use crate::mailbox::{Append, Entry, State};

#[derive(Debug)]
pub(super) struct Mailbox {
    queue: VecDeque<Slot>,
    /// Sequence of the first entry, or the next to be assigned.
    first: u64,
    waiting: u32,
    /// Up to this sequence messages may have reached the device.
    offered: u64,
    /// Up to this sequence a cumulative trim proves nothing: they survived a loss of newer contents, in which
    /// they may have ended otherwise.
    doubt: u64,
    /// Except up to this sequence by this session: it held them in flight, so that nobody else could end them.
    sure: u64,
    sure_epoch: Epoch,
    /// The head last offered by an attach, and how often.
    head: u64,
    offers: u8,
    /// No waiting entry expires before this store time; 0 when none ever does.
    next_expiry_ms: u64,
    /// Entries past their time wait for the end of the session that holds them.
    has_held: bool,
    /// An append may have been stored under a lineage that is gone.
    has_lost_appends: bool,
    recent: Recent,
    /// Generations and their first sequences, the newest last.
    generations: Vec<(u64, u64)>,
    outcomes: Option<Box<Outcomes>>,
}

/// An empty queue gives back room for more entries than this.
const KEPT_LEN: usize = 4;
/// `expires_ms` of a message that is final: long past.
const LONG_PAST_MS: u64 = 1;

impl Mailbox {
    pub(super) fn new(generation: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            first: 1,
            waiting: 0,
            offered: 0,
            doubt: 0,
            sure: 0,
            sure_epoch: 0,
            head: 0,
            offers: 0,
            next_expiry_ms: 0,
            has_held: false,
            has_lost_appends: false,
            recent: Recent::default(),
            generations: vec![(generation, 1)],
            outcomes: None,
        }
    }

    pub(super) fn push(&mut self, append: &Append, is_attached: bool, at: Moment) -> (MessageId, u64) {
        let sequence = self.last() + 1;
        let generation = self.generations.last().map_or(0, |(generation, _)| *generation);
        let id = MessageId::new(generation, sequence);
        let expires_ms = match append.ttl_s {
            0 => 0,
            ttl_s => at.now_ms.saturating_add(u64::from(ttl_s) * 1000),
        };
        let (key, fingerprint, token) = (append.key, append.fingerprint, append.token);
        let entry = Entry { id, key, fingerprint, token, expires_ms, payload: append.payload.clone() };
        self.queue.push_back(Slot { entry, is_ended: false });
        self.waiting += 1;
        self.next_expiry_ms = earlier(self.next_expiry_ms, expires_ms);
        self.recent.insert(&append.id, sequence);
        if is_attached {
            self.offered = sequence;
        }
        (id, expires_ms)
    }

    /// What an append with this id made, if it is one of the last. A session may be told of it again.
    pub(super) fn find_recent(&mut self, id: &[u8; 16], is_attached: bool) -> Option<(MessageId, u64)> {
        let sequence = self.recent.find(id, self.last())?;
        let generation = self.generation_of(sequence)?;
        if is_attached {
            self.offered = self.offered.max(sequence);
        }
        let waiting = self.slot(sequence).filter(|slot| !slot.is_ended);
        let expires_ms = waiting.map_or(LONG_PAST_MS, |slot| slot.entry.expires_ms);
        Some((MessageId::new(generation, sequence), expires_ms))
    }

    /// Whether ids of appends were forgotten.
    pub(super) fn has_forgotten_appends(&self) -> bool {
        self.has_lost_appends || self.last() > RECENT_MAX as u64
    }

    /// The first entries behind `after` that a session has room for, and whether more wait.
    /// They count as offered.
    pub(super) fn page(&mut self, after: Cursor, limit: u32) -> (Vec<Entry>, bool) {
        let mut entries = Vec::new();
        let mut len = 0;
        let mut more = false;
        let skipped = self.queue.partition_point(|slot| slot.entry.id <= after);
        for slot in self.queue.iter().skip(skipped).filter(|slot| !slot.is_ended) {
            len += slot.entry.payload.len();
            more = entries.len() >= limit as usize || (len > PAGE_LEN_MAX && !entries.is_empty());
            if more {
                break;
            }
            entries.push(slot.entry.clone());
        }
        if let Some(last) = entries.last() {
            self.offered = self.offered.max(last.id.sequence);
        }
        (entries, more)
    }

    /// Everything up to `upto`, by the pair, is final: says the session of this epoch, or a cursor (0).
    pub(super) fn trim(&mut self, upto: Cursor, epoch: Epoch, at: Moment) {
        let sure = if epoch != 0 && epoch == self.sure_epoch { self.sure } else { 0 };
        while let Some(slot) = self.queue.front() {
            let is_final = slot.is_ended || slot.entry.id <= upto;
            if !is_final {
                break;
            }
            let id = slot.entry.id;
            if !slot.is_ended {
                self.waiting -= 1;
                if id.sequence <= self.doubt && id.sequence > sure {
                    self.remember(id, State::Unknown, at);
                }
            }
            self.queue.pop_front();
            self.first += 1;
        }
        self.tidy();
    }

    /// Ends a waiting entry other than by an acknowledgement.
    pub(super) fn end(&mut self, id: MessageId, outcome: State, at: Moment) {
        let Some(slot) = self.slot_mut(id.sequence).filter(|slot| slot.entry.id == id && !slot.is_ended) else {
            return;
        };
        slot.end();
        self.waiting -= 1;
        self.remember(id, outcome, at);
        while self.queue.front().is_some_and(|slot| slot.is_ended) {
            self.queue.pop_front();
            self.first += 1;
        }
        self.tidy();
    }

    /// Ends what ran out of time, except what a live session may hold in flight.
    pub(super) fn expire(&mut self, is_held: bool, at: Moment) {
        let is_due = self.next_expiry_ms != 0 && self.next_expiry_ms <= at.now_ms;
        if !is_due && (is_held || !self.has_held) {
            return;
        }
        let offered = self.offered;
        let mut over = Vec::new();
        (self.next_expiry_ms, self.has_held) = (0, false);
        for slot in self.queue.iter().filter(|slot| !slot.is_ended && slot.entry.expires_ms != 0) {
            let id = slot.entry.id;
            if slot.entry.expires_ms > at.now_ms {
                self.next_expiry_ms = earlier(self.next_expiry_ms, slot.entry.expires_ms);
            } else if is_held && id.sequence <= offered {
                self.has_held = true;
            } else {
                over.push(id);
            }
        }
        for id in over {
            let may_have_run = id.sequence <= offered;
            self.end(id, State::Expired { may_have_run }, at);
        }
    }

    /// A new session is offered the head: the one that was offered too often without progress is given up.
    pub(super) fn count_offer(&mut self, at: Moment) {
        while let Some(slot) = self.queue.front() {
            let id = slot.entry.id;
            if self.head != id.sequence {
                (self.head, self.offers) = (id.sequence, 0);
            }
            if self.offers < OFFERS_MAX {
                self.offers += 1;
                return;
            }
            self.end(id, State::Failed, at);
        }
    }

    /// What is appended from now on belongs to `generation`.
    pub(super) fn open_generation(&mut self, generation: u64, held_by: Epoch) {
        let next = self.last() + 1;
        self.generations.retain(|(_, first)| *first < next);
        if self.generations.len() >= GENERATIONS_MAX {
            self.generations.remove(0);
        }
        self.generations.push((generation, next));
        self.doubt_all(held_by);
        self.offered = self.last();
    }

    pub(super) fn note_lineage(&mut self) {
        self.has_lost_appends = true;
    }

    /// The contents may have gone back: nothing that waits now is proved by a cumulative trim, except by the
    /// session that holds it in flight (0 when there is none).
    pub(super) fn doubt_all(&mut self, held_by: Epoch) {
        if self.doubt == 0 {
            (self.sure, self.sure_epoch) = (self.offered, held_by);
        }
        self.doubt = self.last();
    }

    /// A session made after the loss offers everything again: its trims are proof.
    pub(super) fn forget_doubt(&mut self) {
        (self.doubt, self.sure, self.sure_epoch) = (0, 0, 0);
    }

    pub(super) fn state(&mut self, id: MessageId, at: Moment) -> State {
        if self.slot(id.sequence).is_some_and(|slot| slot.entry.id == id && !slot.is_ended) {
            return match id.sequence <= self.offered {
                true => State::Sent,
                false => State::Waiting,
            };
        }
        if id.sequence > self.last() || self.generation_of(id.sequence) != Some(id.generation) {
            return State::Unknown;
        }
        self.outcomes.as_mut().map_or(State::Acked, |outcomes| outcomes.of(id, at))
    }

    pub(super) fn offered(&self) -> Cursor {
        Cursor::new(self.generation_of(self.offered).unwrap_or_default(), self.offered)
    }

    pub(super) fn last(&self) -> u64 {
        self.first + self.queue.len() as u64 - 1
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    fn remember(&mut self, id: MessageId, outcome: State, at: Moment) {
        self.outcomes.get_or_insert_default().insert(id, outcome, at);
    }

    /// The generation that a sequence was assigned in, if it is remembered.
    fn generation_of(&self, sequence: u64) -> Option<u64> {
        let of_queue = self.slot(sequence).map(|slot| slot.entry.id.generation);
        of_queue.or_else(|| {
            let assigned = self.generations.iter().rev().find(|(_, first)| *first <= sequence);
            assigned.map(|(generation, _)| *generation).filter(|_| sequence != 0)
        })
    }

    fn slot(&self, sequence: u64) -> Option<&Slot> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.queue.get(index)
    }

    fn slot_mut(&mut self, sequence: u64) -> Option<&mut Slot> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.queue.get_mut(index)
    }

    fn tidy(&mut self) {
        if self.queue.is_empty() {
            (self.next_expiry_ms, self.has_held) = (0, false);
            self.queue.shrink_to(KEPT_LEN);
        }
    }
}

/// The earlier of two times of which 0 is never.
fn earlier(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, b) => b,
        (a, 0) => a,
        (a, b) => a.min(b),
    }
}

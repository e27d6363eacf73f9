//! The mailbox of one device as the store keeps it (DESIGN §6), each operation one atomic step.
//!
//! ```text
//!   first                 offered            last
//!     │ waiting · tomb · waiting │ waiting · waiting │      entry i has sequence first + i
//!     └── trimmed from here by acks and cursors      └── appended here
//! ```
//! Invariant: `entries.len() == last + 1 - first`. What is not modelled: payloads, limits of size, Redis itself.

use crate::message::{Appended, Entry, Id, Item, Outcome, Since, State};
use crate::rule::{Broken, Rule};
use crate::session::{Life, Session};

/// The limits of a mailbox in one scenario.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Unacknowledged messages that the device can hold.
    pub window: u8,
    /// Recent append ids kept.
    pub recent: u8,
    /// Outcomes kept.
    pub ring: u8,
    /// Offers of a head before it is failed.
    pub attempts: u8,
}

/// The surroundings of one operation: what the store process and its clock say now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// The store process' run id.
    pub(crate) run: u8,
    /// How often the contents went back: time enough passes with each.
    pub(crate) era: u8,
    /// Messages whose TTL has passed, one bit each.
    pub(crate) passed: u8,
    pub(crate) limits: Limits,
    pub(crate) broken: Broken,
}

impl Now {
    /// The store's clock, coarse: later eras are later, and far from what counting up by one reaches.
    pub(crate) fn millis(self) -> u8 {
        1 + self.era * 20
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Store {
    pub(crate) generation: u8,
    /// (generation, its first sequence), the newest last, at most [`BOUNDS_MAX`].
    pub(crate) bounds: Vec<(u8, u8)>,
    pub(crate) first: u8,
    pub(crate) last: u8,
    pub(crate) entries: Vec<Entry>,
    pub(crate) offered: u8,
    /// The head last offered by an attach, and how often.
    pub(crate) head: (u8, u8),
    pub(crate) recent: Vec<(u8, Id)>,
    pub(crate) evicted: u8,
    /// Idempotency keys: (client's key, id).
    pub(crate) keys: Vec<(u8, Id)>,
    pub(crate) ring: Vec<(Id, Outcome)>,
    pub(crate) ring_floor: u8,
    /// Up to this sequence a cumulative trim proves nothing: 0 when certain.
    pub(crate) doubt: u8,
    pub(crate) session: Option<Session>,
    /// What the session replaced, for a repeated attach.
    pub(crate) replaced: Option<Session>,
    pub(crate) epoch: u8,
    pub(crate) boot: u8,
    pub(crate) attempt: u8,
    pub(crate) lineage: u8,
    /// The ledger's number of the newest connection ever attached; no rule reads it.
    pub(crate) newest: u8,
    pub(crate) revoked: bool,
    /// Event stream and its dedup table: (event), (queue incarnation, highest sequence).
    pub(crate) events: Vec<u8>,
    pub(crate) queues: Vec<(u8, u8)>,
}

/// Generations whose first sequence is remembered.
pub(crate) const BOUNDS_MAX: usize = 3;
/// Queue incarnations that the event dedup remembers.
pub(crate) const QUEUES_MAX: usize = 2;

impl Default for Store {
    fn default() -> Self {
        Self {
            generation: 1,
            bounds: vec![(1, 1)],
            first: 1,
            last: 0,
            entries: Vec::new(),
            offered: 0,
            head: (0, 0),
            recent: Vec::new(),
            evicted: 0,
            keys: Vec::new(),
            ring: Vec::new(),
            ring_floor: 0,
            doubt: 0,
            session: None,
            replaced: None,
            epoch: 0,
            boot: 0,
            attempt: 0,
            lineage: 0,
            newest: 0,
            revoked: false,
            events: Vec::new(),
            queues: Vec::new(),
        }
    }
}

impl Store {
    /// `append` (§6.2). `append` is the id of the try; `retry` says that an earlier try of it was sent; `key` is the client's idempotency key.
    pub(crate) fn append(
        &mut self,
        now: Now,
        (append, message): (u8, u8),
        retry: bool,
        since: Since,
        key: Option<u8>,
    ) -> Appended {
        self.see_lineage(now, 0);
        let known = |s: &Self| s.recent.iter().find(|(a, _)| *a == append).map(|(_, id)| *id);
        let reads = if retry {
            now.broken.keeps(Rule::RetryReadsRecentIds)
        } else {
            now.broken.keeps(Rule::FirstTryReadsRecentIds)
        };
        let keyed = self.keys.iter().find(|(k, _)| Some(*k) == key).map(|(_, id)| *id);
        let keyed = keyed.filter(|_| now.broken.keeps(Rule::IdempotencyKeyIsRemembered));
        if let Some(id) = known(self).filter(|_| reads).or(keyed) {
            if self.session.is_some() && now.broken.keeps(Rule::FoundAppendRaisesOffered) {
                self.offered = self.offered.max(id.sequence);
            }
            return Appended::Stored(id, self.session);
        }
        let full = self.evicted > since.evicted && now.broken.keeps(Rule::RingOverrunIsUnknown);
        let moved = self.lineage != since.run && now.broken.keeps(Rule::NewLineageIsUnknown);
        if (retry || reads) && (full || moved) {
            return Appended::Unknown;
        }
        self.last += 1;
        let id = Id::new(self.generation, self.last);
        self.entries.push(Entry { id, message, ended: false });
        if self.session.is_some() && now.broken.keeps(Rule::AppendRaisesOffered) {
            self.offered = self.last;
        }
        self.recent.push((append, id));
        if self.recent.len() > usize::from(now.limits.recent) {
            self.recent.remove(0);
            self.evicted += 1;
        }
        if let Some(k) = key {
            self.keys.push((k, id));
        }
        Appended::Stored(id, self.session)
    }

    pub(crate) fn items_after(&self, after: Id, room: u8, offered: u8) -> (Vec<Item>, bool) {
        let waiting: Vec<&Entry> = self.entries.iter().filter(|e| !e.ended && e.id > after).collect();
        let items = waiting
            .iter()
            .take(usize::from(room))
            .map(|e| Item { id: e.id, message: e.message, redelivered: e.id.sequence <= offered })
            .collect();
        (items, waiting.len() > usize::from(room))
    }

    /// `read_mailbox`: entries after a pair, for the session that asks; `None` when it is not the session any more.
    pub(crate) fn read(
        &mut self,
        now: Now,
        who: (Life, u8),
        after: Id,
        room: u8,
        offered: u8,
    ) -> Option<(Vec<Item>, bool)> {
        let mine = self.session.is_some_and(|s| s.life == who.0 && s.epoch == who.1);
        if !mine && now.broken.keeps(Rule::ReadNamesItsSession) {
            return None;
        }
        let (items, more) = self.items_after(after, room, offered);
        if let Some(item) = items.last()
            && now.broken.keeps(Rule::ReadRaisesOffered)
        {
            self.offered = self.offered.max(item.id.sequence);
        }
        Some((items, more))
    }

    /// `acknowledge` (§6.4): everything up to `id`, by the pair. `sent` has a bit for each sequence that the server
    /// had sent itself and that this ack covers (in code: first, last and how many).
    pub(crate) fn acknowledge(&mut self, now: Now, id: Id, sent: u16) {
        if now.broken.breaks(Rule::AcknowledgeIsAMaximum) {
            for _ in 0..self.entries.len().min(sent.count_ones() as usize) {
                self.entries.remove(0);
                self.first += 1;
            }
            return;
        }
        self.trim(now, id, sent);
    }

    /// The device refused these sequences (one bit each) of a generation (§6.4 `rejected`).
    pub(crate) fn reject(&mut self, now: Now, (generation, sequences): (u8, u16)) {
        for sequence in 0..16 {
            if sequences & (1 << sequence) != 0 {
                self.end(now, Id::new(generation, sequence), Outcome::Rejected);
            }
        }
    }

    pub(crate) fn trim(&mut self, now: Now, to: Id, sent: u16) {
        let pairwise = now.broken.keeps(Rule::CursorTrimsByThePair);
        while let Some(e) = self.entries.first() {
            let (id, ended) = (e.id, e.ended);
            let below = if pairwise { id <= to } else { id.sequence <= to.sequence };
            if !below && !ended {
                break;
            }
            let doubted = id.sequence <= self.doubt || self.lineage != now.run;
            let certain = sent & (1 << id.sequence) != 0;
            if below && !ended && !certain && doubted && now.broken.keeps(Rule::DoubtfulTrimIsUnknown) {
                self.end(now, id, Outcome::Unknown);
            } else {
                self.entries.remove(0);
                self.first += 1;
            }
        }
    }

    /// Marks an entry as ended and puts its outcome in the ring; pops tombstones that became first.
    pub(crate) fn end(&mut self, now: Now, id: Id, outcome: Outcome) {
        let Some(e) = self.entries.iter_mut().find(|e| e.id == id && !e.ended) else {
            return;
        };
        e.ended = true;
        if now.broken.keeps(Rule::OutcomesAreKept) {
            self.ring.push((id, outcome));
        }
        if self.ring.len() > usize::from(now.limits.ring) {
            let (gone, _) = self.ring.remove(0);
            self.ring_floor = self.ring_floor.max(gone.sequence);
        }
        while self.entries.first().is_some_and(|e| e.ended) {
            self.entries.remove(0);
            self.first += 1;
        }
    }

    /// Ends what ran out of time and no live session holds; `session_over` when an older session has just been replaced.
    pub(crate) fn expire(&mut self, now: Now, session_over: bool) {
        let held = self.session.is_some() && !session_over && now.broken.keeps(Rule::InFlightIsNotExpired);
        let gone: Vec<Id> = self
            .entries
            .iter()
            .filter(|e| !e.ended && now.passed & (1 << e.message) != 0)
            .filter(|e| !held || e.id.sequence > self.offered)
            .map(|e| e.id)
            .collect();
        for id in gone {
            let offered = id.sequence <= self.offered && now.broken.keeps(Rule::OfferedMayHaveRun);
            let other = self.lineage != now.run && now.broken.keeps(Rule::OtherLineageMayHaveRun);
            self.end(now, id, Outcome::Expired { may_have_run: offered || other });
        }
    }

    /// Opens a generation when this process runs under another lineage than the mailbox was last written under (§6.5).
    pub(crate) fn see_lineage(&mut self, now: Now, devices: u8) -> bool {
        if self.lineage == now.run {
            return false;
        }
        self.lineage = now.run;
        if now.broken.keeps(Rule::NewLineageOpensGeneration) {
            self.open_generation(now, devices);
        }
        true
    }

    /// A new generation for what is appended from now on.
    pub(crate) fn open_generation(&mut self, now: Now, devices: u8) {
        let mut generation = self.generation + 1;
        if now.broken.keeps(Rule::GenerationExceedsDevices) {
            generation = generation.max(devices + 1);
        }
        if now.broken.keeps(Rule::GenerationIsTheTime) {
            generation = generation.max(now.millis());
        }
        if now.broken.breaks(Rule::SurvivorsKeepTheirIds) {
            for e in &mut self.entries {
                e.id.generation = generation;
            }
        }
        self.generation = generation;
        self.bounds.push((generation, self.last + 1));
        if self.bounds.len() > BOUNDS_MAX {
            self.bounds.remove(0);
        }
        if now.broken.keeps(Rule::NewLineageRaisesOffered) {
            self.offered = self.last;
        }
        self.doubt = self.last;
    }

    /// `append_events`: takes an event once (§6.6).
    pub(crate) fn append_event(&mut self, now: Now, queue: u8, sequence: u8, event: u8) {
        let seen = self.queues.iter().position(|(q, _)| *q == queue);
        if let Some(i) = seen
            && self.queues[i].1 >= sequence
            && now.broken.keeps(Rule::EventsAreDeduplicated)
        {
            return;
        }
        match seen {
            Some(i) => self.queues[i].1 = self.queues[i].1.max(sequence),
            None => self.queues.push((queue, sequence)),
        }
        if self.queues.len() > QUEUES_MAX {
            self.queues.remove(0);
        }
        self.events.push(event);
    }

    /// `message_state` (§6.4).
    pub(crate) fn state(&self, now: Now, id: Id) -> State {
        if let Some(e) = self.entries.iter().find(|e| e.id == id && !e.ended) {
            return if e.id.sequence <= self.offered { State::Sent } else { State::Waiting };
        }
        if let Some((_, outcome)) = self.ring.iter().find(|(i, _)| *i == id) {
            return State::Ended(*outcome);
        }
        let unknown = State::Ended(Outcome::Unknown);
        let mut real = self.bounds.iter().rev().find(|(_, first)| *first <= id.sequence);
        if now.broken.breaks(Rule::StateNamesTheGeneration) {
            real = self.bounds.first();
        }
        let named = real.is_some_and(|(g, _)| *g == id.generation) || now.broken.breaks(Rule::StateNamesTheGeneration);
        if !named || id.sequence > self.last {
            return unknown;
        }
        let old = id.sequence <= self.ring_floor && now.broken.keeps(Rule::OlderThanTheRingIsUnknown);
        if old { unknown } else { State::Acked }
    }
}

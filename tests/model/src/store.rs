//! The mailbox of one device as the store keeps it (DESIGN §6), each operation one atomic step.
//!
//! ```text
//!   first                 offered            last
//!     │ waiting · tomb · waiting │ waiting · waiting │      entry i has sequence first + i
//!     └── trimmed from here by acks and cursors      └── appended here
//! ```
//! Invariant: `entries.len() == last + 1 - first`. What is not modelled: payloads, limits of size, Redis itself.

use crate::rule::{Broken, Rule};

/// Generation and sequence: the id of a message for life, and its order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Id {
    pub generation: u8,
    pub sequence: u8,
}

/// A pair as written in traces: `Id::new(1, 4)` is message `1-4`.
impl Id {
    pub const fn new(generation: u8, sequence: u8) -> Self {
        Self { generation, sequence }
    }
}

/// How an entry ended, other than by an ack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    Expired {
        may_have_run: bool,
    },
    Failed,
    Rejected,
    /// Trimmed in a way that does not prove that the device handled it.
    Unknown,
}

/// What `message_state` answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    Waiting,
    Sent,
    Acked,
    Ended(Outcome),
}

/// An IM-server process: its number and which life of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Life {
    pub server: u8,
    pub incarnation: u8,
}

/// The attachment that the store believes in. `connection` is the ledger's own number, no rule reads it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Session {
    pub life: Life,
    pub epoch: u8,
    pub connection: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    pub id: Id,
    pub message: u8,
    pub ended: bool,
}

/// One entry on its way to a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Item {
    pub id: Id,
    pub message: u8,
    pub redelivered: bool,
}

/// What an attach carries (DESIGN §4 `Hello`, §5 ticket).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hello {
    pub connection: u8,
    pub boot: u8,
    pub attempt: u8,
    /// The device's last epoch, 0 when it lost it.
    pub epoch: u8,
    /// Everything up to here was handled (or was final before).
    pub cursor: Id,
    /// The highest ever received.
    pub received: Id,
    /// The ticket's epoch floor.
    pub floor: u8,
    /// What this device refused lately: a generation, and a bit for each sequence.
    pub nacks: (u8, u16),
}

/// What an attach returns.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Attached {
    pub epoch: u8,
    pub generation: u8,
    pub replaced: Option<Session>,
    /// What is at or below goes out as `redelivered`.
    pub offered: u8,
    pub items: Vec<Item>,
    /// Highest pair that the returned items reach.
    pub sent: Id,
    pub more: bool,
}

/// Result of a try to append.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Appended {
    Stored(Id, Option<Session>),
    Unknown,
}

/// When a try began, in terms the store can compare: ids evicted and lineages seen by then (in code: store times).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Since {
    pub evicted: u8,
    pub run: u8,
}

/// The limits of a mailbox in one scenario.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub window: u8,
    pub recent: u8,
    pub ring: u8,
    pub attempts: u8,
}

/// The surroundings of one operation: what the store process and its clock say now.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The store process' run id.
    pub run: u8,
    /// How often the contents went back: time enough passes with each.
    pub era: u8,
    /// Messages whose TTL has passed, one bit each.
    pub passed: u8,
    pub limits: Limits,
    pub broken: Broken,
}

impl Now {
    /// The store's clock, coarse: later eras are later, and far from what counting up by one reaches.
    fn millis(self) -> u8 {
        1 + self.era * 20
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    pub generation: u8,
    /// (generation, its first sequence), the newest last, at most [`BOUNDS_MAX`].
    pub bounds: Vec<(u8, u8)>,
    pub first: u8,
    pub last: u8,
    pub entries: Vec<Entry>,
    pub offered: u8,
    /// The head last offered by an attach, and how often.
    pub head: (u8, u8),
    pub recent: Vec<(u8, Id)>,
    pub evicted: u8,
    /// Idempotency keys: (client's key, id).
    pub keys: Vec<(u8, Id)>,
    pub ring: Vec<(Id, Outcome)>,
    pub ring_floor: u8,
    /// Up to this sequence a cumulative trim proves nothing: 0 when certain.
    pub doubt: u8,
    pub session: Option<Session>,
    /// What the session replaced, for a repeated attach.
    pub replaced: Option<Session>,
    pub epoch: u8,
    pub boot: u8,
    pub attempt: u8,
    pub lineage: u8,
    /// The ledger's number of the newest connection ever attached; no rule reads it.
    pub newest: u8,
    pub revoked: bool,
    /// Event stream and its dedup table: (event), (queue incarnation, highest sequence).
    pub events: Vec<u8>,
    pub queues: Vec<(u8, u8)>,
}

/// Generations whose first sequence is remembered.
pub const BOUNDS_MAX: usize = 3;
/// Queue incarnations that the event dedup remembers.
pub const QUEUES_MAX: usize = 2;

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
    pub fn append(
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
        if reads && let Some(id) = known(self) {
            return Appended::Stored(id, self.session);
        }
        if now.broken.keeps(Rule::IdempotencyKeyIsRemembered)
            && let Some((_, id)) = self.keys.iter().find(|(k, _)| Some(*k) == key)
        {
            return Appended::Stored(*id, self.session);
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

    /// `attach` (§6.3); `None` is a refusal.
    pub fn attach(&mut self, now: Now, life: Life, hello: Hello) -> Option<Attached> {
        if self.revoked && now.broken.keeps(Rule::RevokedIsRefused) {
            return None;
        }
        let again = self.session.is_some_and(|s| s.life == life && s.connection == hello.connection)
            && now.broken.keeps(Rule::EqualAttemptIsSameAttach);
        if hello.boot == self.boot {
            let late = hello.attempt <= self.attempt && now.broken.keeps(Rule::LateAttemptIsRefused);
            if late && !again {
                return None;
            }
        } else if now.broken.keeps(Rule::OtherBootNamesTheEpoch)
            && self.boot != 0
            && hello.floor.max(hello.epoch) < self.epoch
        {
            return None;
        }
        self.see_lineage(now, hello.received.generation);
        let reached = if now.broken.keeps(Rule::HelloNamesReceived) { hello.received } else { hello.cursor };
        let behind = Id::new(self.generation, self.last) < reached;
        if behind && now.broken.keeps(Rule::CursorAheadOpensGeneration) {
            self.open_generation(now, hello.received.generation);
        }
        if !again {
            self.replaced = self.session;
            self.epoch = self.next_epoch(now, hello);
        }
        let session = Session { life, epoch: self.epoch, connection: hello.connection };
        self.session = Some(session);
        self.newest = self.newest.max(hello.connection);
        (self.boot, self.attempt) = (hello.boot, hello.attempt);
        if now.broken.keeps(Rule::NacksComeWithHello) {
            self.reject(now, hello.nacks);
        }
        if now.broken.keeps(Rule::AttachTrimsToCursor) {
            self.trim(now, hello.cursor, 0);
        }
        self.doubt = 0;
        if !again {
            self.expire(now, true);
            self.count_head(now);
        }
        let silent = again && now.broken.breaks(Rule::SameAttachReturnsReplaced);
        let replaced = self.replaced.filter(|_| !silent);
        Some(self.offer(now, session, replaced))
    }

    fn next_epoch(&self, now: Now, hello: Hello) -> u8 {
        let mut epoch = self.epoch;
        if now.broken.keeps(Rule::EpochExceedsDevicesLast) {
            epoch = epoch.max(hello.epoch);
        }
        if now.broken.keeps(Rule::EpochExceedsTicketsFloor) {
            epoch = epoch.max(hello.floor);
        }
        if now.broken.keeps(Rule::EpochIsTheTime) {
            epoch = epoch.max(now.millis());
        }
        epoch + 1
    }

    /// The entries that go out with an attach, and what it reports of the mailbox.
    fn offer(&mut self, now: Now, session: Session, replaced: Option<Session>) -> Attached {
        let offered = if now.broken.keeps(Rule::OfferedIsRedelivered) { self.offered } else { 0 };
        let window = if now.broken.keeps(Rule::AttachGivesAtMostAWindow) { now.limits.window } else { u8::MAX };
        let (items, more) = self.items_after(Id::default(), window, offered);
        let end = Id::new(self.generation, self.last);
        let sent = match items.last() {
            Some(item) if more => item.id,
            _ => end.max(Id::new(self.generation, 0)),
        };
        if let Some(item) = items.last() {
            self.offered = self.offered.max(item.id.sequence);
        }
        let generation = items.first().map_or(self.generation, |i| i.id.generation);
        Attached {
            epoch: session.epoch,
            generation,
            replaced: replaced.filter(|_| now.broken.keeps(Rule::AttachReturnsReplaced)),
            offered,
            items,
            sent,
            more,
        }
    }

    fn items_after(&self, after: Id, room: u8, offered: u8) -> (Vec<Item>, bool) {
        let waiting: Vec<&Entry> = self.entries.iter().filter(|e| !e.ended && e.id > after).collect();
        let items = waiting
            .iter()
            .take(usize::from(room))
            .map(|e| Item { id: e.id, message: e.message, redelivered: e.id.sequence <= offered })
            .collect();
        (items, waiting.len() > usize::from(room))
    }

    /// Counts how often the same head was offered without progress; past the limit it is `failed` (§6.3).
    fn count_head(&mut self, now: Now) {
        let Some(head) = self.entries.iter().find(|e| !e.ended).map(|e| e.id) else {
            return;
        };
        if self.head.0 != head.sequence && now.broken.keeps(Rule::ProgressResetsAttempts) {
            self.head = (head.sequence, 0);
        }
        if self.head.1 >= now.limits.attempts && now.broken.keeps(Rule::PoisonIsGivenUp) {
            self.end(now, head, Outcome::Failed);
            self.head = (0, 0);
            return self.count_head(now);
        }
        self.head.0 = head.sequence;
        self.head.1 = (self.head.1 + 1).min(now.limits.attempts);
    }

    /// `read_mailbox`: entries after a pair, for the session that asks; `None` when it is not the session any more.
    pub fn read(&mut self, now: Now, who: (Life, u8), after: Id, room: u8, offered: u8) -> Option<(Vec<Item>, bool)> {
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
    pub fn acknowledge(&mut self, now: Now, id: Id, sent: u16) {
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
    pub fn reject(&mut self, now: Now, (generation, sequences): (u8, u16)) {
        for sequence in 0..16 {
            if sequences & (1 << sequence) != 0 {
                self.end(now, Id::new(generation, sequence), Outcome::Rejected);
            }
        }
    }

    fn trim(&mut self, now: Now, to: Id, sent: u16) {
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
    fn end(&mut self, now: Now, id: Id, outcome: Outcome) {
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
    pub fn expire(&mut self, now: Now, session_over: bool) {
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

    /// `detach`: compare and delete.
    pub fn detach(&mut self, now: Now, life: Life, epoch: u8) -> Option<Session> {
        let s = self.session?;
        let same_life = s.life == life || now.broken.breaks(Rule::DetachNamesTheIncarnation);
        let same_epoch = s.epoch == epoch || now.broken.breaks(Rule::DetachNamesTheEpoch);
        if !(same_life && same_epoch) {
            return None;
        }
        self.session = None;
        self.expire(now, true);
        Some(s)
    }

    /// A live server writes its session again after the store lost it (§6.8). Answers whether it may stay, and what it replaced.
    pub fn reassert(&mut self, now: Now, mine: Session, attempt: (u8, u8)) -> (bool, Option<Session>) {
        let empty = self.session.is_none();
        let newer = if now.broken.keeps(Rule::ReassertNamesTheEpoch) {
            mine.epoch >= self.epoch
        } else {
            empty || mine.epoch >= self.epoch
        };
        let tie = self.session.is_some_and(|s| s.epoch == mine.epoch && s.life != mine.life);
        if !newer || tie {
            return (false, None);
        }
        let replaced = self.session.filter(|s| s.epoch != mine.epoch);
        self.epoch = mine.epoch;
        self.session = Some(mine);
        self.newest = self.newest.max(mine.connection);
        if now.broken.keeps(Rule::ReassertRestoresAttempt) {
            (self.boot, self.attempt) = attempt;
        }
        (true, replaced)
    }

    /// Opens a generation when this process runs under another lineage than the mailbox was last written under (§6.5).
    fn see_lineage(&mut self, now: Now, devices: u8) -> bool {
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
    pub fn open_generation(&mut self, now: Now, devices: u8) {
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
    pub fn append_event(&mut self, now: Now, queue: u8, sequence: u8, event: u8) {
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
    pub fn state(&self, now: Now, id: Id) -> State {
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

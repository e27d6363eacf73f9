//! The session of a device: how an attachment is made, kept and ended in the store (DESIGN §6.3).

use crate::message::{Id, Item, Outcome};
use crate::rule::Rule;
use crate::store::{Now, Store};

/// An IM-server process: its number and which life of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Life {
    pub(crate) server: u8,
    pub(crate) incarnation: u8,
}

/// The attachment that the store believes in. `connection` is the ledger's own number, no rule reads it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Session {
    pub(crate) life: Life,
    pub(crate) epoch: u8,
    pub(crate) connection: u8,
}

/// What an attach carries (DESIGN §4 `Hello`, §5 ticket).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Hello {
    pub(crate) connection: u8,
    pub(crate) boot: u8,
    pub(crate) attempt: u8,
    /// The device's last epoch, 0 when it lost it.
    pub(crate) epoch: u8,
    /// Everything up to here was handled (or was final before).
    pub(crate) cursor: Id,
    /// The highest ever received.
    pub(crate) received: Id,
    /// The ticket's epoch floor.
    pub(crate) floor: u8,
    /// What this device refused lately: a generation, and a bit for each sequence.
    pub(crate) nacks: (u8, u16),
}

/// What an attach returns.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Attached {
    pub(crate) epoch: u8,
    pub(crate) generation: u8,
    pub(crate) replaced: Option<Session>,
    /// What is at or below goes out as `redelivered`.
    pub(crate) offered: u8,
    pub(crate) items: Vec<Item>,
    /// Highest pair that the returned items reach.
    pub(crate) sent: Id,
    pub(crate) more: bool,
}

impl Store {
    /// `attach` (§6.3); `None` is a refusal.
    pub(crate) fn attach(&mut self, now: Now, life: Life, hello: Hello) -> Option<Attached> {
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

    /// `detach`: compare and delete.
    pub(crate) fn detach(&mut self, now: Now, life: Life, epoch: u8) -> Option<Session> {
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
    pub(crate) fn reassert(&mut self, now: Now, mine: Session, attempt: (u8, u8)) -> (bool, Option<Session>) {
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
}

//! One device as an embedded engine keeps it: who it is, where it is attached, its mailbox. The rules of
//! DESIGN §6.1–6.5 as plain code without locks, clock or I/O; the Redis engine has the same in its scripts.
//!
//! An idle device costs about 220 bytes in all, the allocator's share included: the mailbox is made by the first
//! message.

mod keys;
mod mailbox;
mod outcomes;
mod recent;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use imlink_protocol::id::{Cursor, Epoch, Fingerprint, MessageId};
use imlink_protocol::limits::{GENERATION_AHEAD_MAX, NUMBER_MAX, PAYLOAD_OVERHEAD};

use self::keys::Keys;
use self::mailbox::Mailbox;
pub(crate) use self::recent::tag_of;
use crate::DeviceKey;
use crate::mailbox::{Acknowledge, Append, Appended, Cancelled, Entry, Page, Read, State, Stored};
use crate::session::{
    Attach, Attached, Head, Identity, NewSession, NextKey, Promoted, Proof, Reassert, Reasserted, Session,
};

/// The surroundings of one operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Store's time, ms since 1970.
    pub(crate) now_ms: u64,
    /// Number of the contents' unbroken history; never 0. Another one than a device was last written under
    /// opens a new generation.
    pub(crate) lineage: u32,
}

/// An IM-server process, shared by the sessions it holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) server: String,
    pub(crate) incarnation: u64,
}

/// A provisioned device.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) key: DeviceKey,
    keys: Keys,
    /// The session's server; its epoch is `epoch`.
    seat: Option<Arc<Seat>>,
    /// The session that the last attach replaced, for an attach that is asked again.
    replaced: Option<Box<Session>>,
    epoch: Epoch,
    /// The device's boot and connection number of its last attach; 0 before the first.
    boot: u64,
    attempt: u32,
    receive_limit: u32,
    created_ms: u64,
    seen_ms: u64,
    fingerprint: Fingerprint,
    generation: u64,
    lineage: u32,
    mailbox: Option<Box<Mailbox>>,
    revoked: bool,
}

impl Record {
    pub(crate) fn new(key: DeviceKey, proof: Proof, at: Moment) -> Self {
        Self {
            key,
            keys: Keys::new(proof),
            seat: None,
            replaced: None,
            epoch: 0,
            boot: 0,
            attempt: 0,
            receive_limit: 0,
            created_ms: at.now_ms,
            seen_ms: 0,
            fingerprint: Fingerprint::NONE,
            generation: 0,
            lineage: 0,
            mailbox: None,
            revoked: false,
        }
    }

    /// Replaces the proof. Whoever is attached proved the current key: another one ends the session.
    pub(crate) fn provision(&mut self, proof: Proof, at: Moment) -> Option<Session> {
        let older = std::mem::replace(&mut self.keys, Keys::new(proof));
        if self.keys.is_other(&older) { self.leave(at) } else { None }
    }

    pub(crate) fn set_next_key(&mut self, key: &[u8; 32]) -> NextKey {
        self.keys.set_next(key)
    }

    pub(crate) fn promote_key(&mut self, key: &[u8; 32]) -> Promoted {
        if self.revoked { Promoted::Revoked } else { self.keys.promote(key) }
    }

    pub(crate) fn revoke(&mut self, at: Moment) -> Option<Session> {
        self.revoked = true;
        self.leave(at)
    }

    /// Lifts a revocation; whether there was one.
    pub(crate) fn restore(&mut self) -> bool {
        std::mem::take(&mut self.revoked)
    }

    pub(crate) fn attach(&mut self, attach: &Attach, seat: Arc<Seat>, at: Moment) -> Attached {
        if self.revoked {
            return Attached::Revoked;
        }
        if !self.keys.proof().is_marked(attach.key) {
            return Attached::OtherKey;
        }
        if !self.is_credible(attach.cursor, attach.epoch_floor, at) {
            return Attached::Cursor;
        }
        let is_same_boot = self.boot == attach.incarnation;
        let is_again = is_same_boot
            && self.attempt == attach.attempt
            && self.seat.as_ref().is_some_and(|held| held.incarnation == attach.server_incarnation);
        let is_late = match is_same_boot {
            true => attach.attempt <= self.attempt && !is_again,
            // Attempts compare only within one boot: another boot must know the last session.
            false => self.boot != 0 && attach.epoch_floor < self.epoch,
        };
        if is_late {
            return Attached::Stale;
        }
        self.see_lineage(attach.cursor.generation, at);
        if self.end() < attach.cursor {
            self.open_generation(attach.cursor.generation, at);
        }
        if !is_again {
            self.replaced = self.session().map(Box::new);
            self.epoch = (self.epoch + 1).max(attach.epoch_floor + 1).max(at.now_ms);
        }
        self.seat = Some(seat);
        (self.boot, self.attempt) = (attach.incarnation, attach.attempt);
        (self.fingerprint, self.receive_limit) = (attach.fingerprint, attach.receive_limit);
        self.seen_ms = at.now_ms;
        Attached::Session(Box::new(self.offer(attach, is_again, at)))
    }

    /// What a session just made is given of the mailbox.
    fn offer(&mut self, attach: &Attach, is_again: bool, at: Moment) -> NewSession {
        let mut new = NewSession {
            epoch: self.epoch,
            generation: self.generation,
            replaced: self.replaced.as_deref().cloned(),
            offered: Cursor::default(),
            last: self.last(),
            entries: Vec::new(),
            more: false,
            event_position: 0,
            now_ms: at.now_ms,
        };
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.trim(attach.cursor, 0, at);
            mailbox.forget_doubt();
            mailbox.expire(is_again, at);
            if !is_again {
                mailbox.count_offer(at);
            }
            new.offered = mailbox.offered();
            (new.entries, new.more) = mailbox.page(Cursor::default(), attach.window);
        }
        new
    }

    /// Compare and delete.
    pub(crate) fn detach(&mut self, server_incarnation: u64, epoch: Epoch, at: Moment) -> bool {
        let is_held =
            self.epoch == epoch && self.seat.as_ref().is_some_and(|held| held.incarnation == server_incarnation);
        if is_held {
            self.leave(at);
        }
        is_held
    }

    /// Ends the session: what it held in flight past its time is expired.
    pub(crate) fn leave(&mut self, at: Moment) -> Option<Session> {
        let session = self.session();
        if session.is_some() {
            (self.seat, self.replaced) = (None, None);
            self.seen_ms = at.now_ms;
            if let Some(mailbox) = &mut self.mailbox {
                mailbox.expire(false, at);
            }
        }
        session
    }

    pub(crate) fn reassert(&mut self, mine: &Reassert, seat: Arc<Seat>, at: Moment) -> Reasserted {
        if self.revoked || !self.keys.proof().is_marked(mine.key) {
            return Reasserted::Lost;
        }
        if mine.epoch < self.epoch || !self.is_credible(mine.sent, mine.epoch, at) {
            return Reasserted::Lost;
        }
        let is_other = self.seat.as_ref().is_some_and(|held| held.incarnation != mine.server_incarnation);
        if is_other && mine.epoch == self.epoch {
            return Reasserted::Lost;
        }
        self.see_lineage(mine.sent.generation, at);
        if self.end() < mine.sent {
            self.open_generation(mine.sent.generation, at);
        }
        let replaced = match mine.epoch == self.epoch {
            true => None,
            false => self.session(),
        };
        self.epoch = mine.epoch;
        self.seat = Some(seat);
        (self.boot, self.attempt) = (mine.incarnation, mine.attempt);
        (self.fingerprint, self.receive_limit) = (mine.fingerprint, mine.receive_limit);
        Reasserted::Held { head: self.head(), replaced }
    }

    pub(crate) fn append(&mut self, append: &Append, is_retry: bool, at: Moment) -> Appended {
        let is_attached = self.seat.is_some();
        if let Some(mailbox) = &mut self.mailbox
            && let Some((id, expires_ms)) = mailbox.find_recent(&append.id, is_attached)
        {
            return Appended::Stored(Stored { id, expires_ms, session: self.session() });
        }
        if is_retry && self.may_have_forgotten(at) {
            return Appended::Unknown;
        }
        if self.revoked {
            return Appended::Revoked;
        }
        if append.fingerprint != self.fingerprint {
            return Appended::InterfaceChanged(self.fingerprint);
        }
        let frame_len = append.payload.len().saturating_add(PAYLOAD_OVERHEAD);
        if self.receive_limit != 0 && frame_len > self.receive_limit as usize {
            return Appended::TooLarge { receive_limit: self.receive_limit };
        }
        self.see_lineage(0, at);
        let generation = self.generation;
        let mailbox = self.mailbox.get_or_insert_with(|| Box::new(Mailbox::new(generation)));
        mailbox.expire(is_attached, at);
        if mailbox.waiting() >= append.mailbox_max {
            return Appended::MailboxFull { waiting: mailbox.waiting().into() };
        }
        let (id, expires_ms) = mailbox.push(append, is_attached, at);
        Appended::Stored(Stored { id, expires_ms, session: self.session() })
    }

    /// Whether an append of this device may have been stored and forgotten since.
    fn may_have_forgotten(&self, at: Moment) -> bool {
        let is_moved = self.lineage != 0 && self.lineage != at.lineage;
        is_moved || self.mailbox.as_ref().is_some_and(|mailbox| mailbox.has_forgotten_appends())
    }

    pub(crate) fn read(&mut self, read: &Read, at: Moment) -> Option<Page> {
        if self.seat.is_none() || self.epoch != read.epoch {
            return None;
        }
        let (mut entries, mut more) = (Vec::new(), false);
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.expire(true, at);
            (entries, more) = mailbox.page(read.after, read.limit);
        }
        Some(Page { entries, head: self.head(), more, now_ms: at.now_ms })
    }

    pub(crate) fn acknowledge(&mut self, ack: &Acknowledge, at: Moment) {
        let held_by = self.held_by();
        let Some(mailbox) = &mut self.mailbox else { return };
        if self.lineage != at.lineage {
            mailbox.doubt_all(held_by);
        }
        for (id, code) in &ack.rejected {
            mailbox.end(*id, State::Rejected { code: *code }, at);
        }
        mailbox.trim(ack.upto, ack.epoch, at);
    }

    pub(crate) fn message_state(&mut self, id: MessageId, at: Moment) -> State {
        let is_attached = self.seat.is_some();
        self.mailbox.as_mut().map_or(State::Unknown, |mailbox| {
            mailbox.expire(is_attached, at);
            mailbox.state(id, at)
        })
    }

    pub(crate) fn cancel(&mut self, id: MessageId, at: Moment) -> Cancelled {
        match self.message_state(id, at) {
            State::Waiting => {
                if let Some(mailbox) = &mut self.mailbox {
                    mailbox.end(id, State::Cancelled, at);
                }
                Cancelled::Cancelled
            }
            state => Cancelled::TooLate(state),
        }
    }

    fn see_lineage(&mut self, devices: u64, at: Moment) {
        if self.lineage != at.lineage {
            self.open_generation(devices, at);
            self.lineage = at.lineage;
            if let Some(mailbox) = &mut self.mailbox {
                mailbox.note_lineage();
            }
        }
    }

    /// Opens a generation for what is appended from now on, beyond `devices`, the one that the device knows.
    fn open_generation(&mut self, devices: u64, at: Moment) {
        self.generation = at.now_ms.max(self.generation + 1).max(devices + 1);
        let held_by = self.held_by();
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.open_generation(self.generation, held_by);
        }
    }

    /// Epoch of the session, 0 without one.
    fn held_by(&self) -> Epoch {
        if self.seat.is_some() { self.epoch } else { 0 }
    }

    pub(crate) fn session(&self) -> Option<Session> {
        self.seat.as_ref().map(|seat| Session {
            server: seat.server.clone(),
            incarnation: seat.incarnation,
            epoch: self.epoch,
        })
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            proof: Ok(self.keys.proof()),
            revoked: self.revoked,
            fingerprint: self.fingerprint,
            receive_limit: self.receive_limit,
            session: self.session(),
            epoch: self.epoch,
            created_ms: self.created_ms,
            seen_ms: self.seen_ms,
            mailbox: self.head(),
        }
    }

    pub(crate) fn head(&self) -> Head {
        let waiting = self.mailbox.as_ref().map_or(0, |mailbox| mailbox.waiting());
        Head { generation: self.generation, last: self.last(), waiting: waiting.into() }
    }

    fn last(&self) -> u64 {
        self.mailbox.as_ref().map_or(0, |mailbox| mailbox.last())
    }

    fn end(&self) -> Cursor {
        Cursor::new(self.generation, self.last())
    }

    /// Whether numbers stated from outside can be true: below 2^53, and times at most a day ahead.
    fn is_credible(&self, cursor: Cursor, epoch: Epoch, at: Moment) -> bool {
        let latest = at.now_ms.saturating_add(GENERATION_AHEAD_MAX.as_millis() as u64);
        cursor.generation <= latest.max(self.generation)
            && cursor.sequence <= NUMBER_MAX
            && epoch <= latest.max(self.epoch)
    }
}

/// An entry in its list; ended ones stay as tombstones until they are first.
#[derive(Debug)]
pub(crate) struct Slot {
    entry: Entry,
    is_ended: bool,
}

impl Slot {
    fn end(&mut self) {
        self.is_ended = true;
        self.entry.payload = Bytes::new();
    }
}

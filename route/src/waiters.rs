//! Requests that wait until a device acknowledged their message.
//!
//! ```text
//! insert ──▶ waiting ──Acked by the session's server──▶ answered
//!               │ ▲
//!     poll due  │ │ not final yet
//!               ▼ │
//!            looking up the state ──final, or deadline passed──▶ answered
//! ```
//!
//! An `Acked` is believed only from the server and epoch that the session named when the message was
//! stored. Everything else that may mean an end only makes the look-up come at once; the look-up also comes
//! by itself, since the device may attach elsewhere.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashTable};
use imlink_protocol::id::MessageId;
use imlink_store::DeviceKey;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::asker::Asker;
use crate::devices::Seat;

/// One request that waits for one message.
pub(crate) struct Waiter {
    pub(crate) device: DeviceKey,
    pub(crate) id: MessageId,
    /// The session that the store named with the append.
    pub(crate) seat: Option<Seat>,
    pub(crate) asker: Asker,
    pub(crate) asked: Instant,
    pub(crate) deadline: Instant,
    /// When the state is looked up next.
    poll_at: Instant,
    poll_every: Duration,
    /// A look-up is on its way.
    is_polling: bool,
    /// The state may have changed since that look-up began.
    is_hurried: bool,
}

impl Waiter {
    pub(crate) fn new(
        device: DeviceKey,
        id: MessageId,
        seat: Option<Seat>,
        asker: Asker,
        asked: Instant,
        deadline: Instant,
    ) -> Self {
        let poll_at = asked + POLL_AFTER;
        Self {
            device,
            id,
            seat,
            asker,
            asked,
            deadline,
            poll_at,
            poll_every: POLL_FIRST,
            is_polling: false,
            is_hurried: false,
        }
    }

    fn due_at(&self) -> Instant {
        if self.is_polling { self.deadline + DEADLINE_GRACE } else { self.poll_at.min(self.deadline) }
    }
}

/// A waiter whose message's state should be looked up.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) device: DeviceKey,
    pub(crate) id: MessageId,
}

/// All that wait.
pub(crate) struct Waiters {
    shards: Box<[Mutex<Shard>]>,
    hasher: DefaultHashBuilder,
    waiting: AtomicUsize,
    /// Told when there is somebody to look after.
    pub(crate) some: Notify,
}

struct Shard {
    waiters: HashTable<Waiter>,
    /// Nothing is due before this; only ever too early.
    due_at: Option<Instant>,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        let shard = || Mutex::new(Shard { waiters: HashTable::new(), due_at: None });
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: DefaultHashBuilder::default(),
            waiting: AtomicUsize::new(0),
            some: Notify::new(),
        }
    }

    pub(crate) fn insert(&self, waiter: Waiter) {
        let hash = self.hash(waiter.device.as_str(), waiter.id);
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.lock();
        shard.due_by(waiter.due_at());
        shard.waiters.insert_unique(hash, waiter, |w| self.hash(w.device.as_str(), w.id));
        drop(shard);
        if self.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.some.notify_one();
        }
    }

    /// `seat` reports the message acknowledged. Whoever waited for exactly that is handed to `answer`; for
    /// whoever expected it elsewhere the store is asked at once.
    pub(crate) fn acked(&self, device: &str, id: MessageId, seat: Seat, mut answer: impl FnMut(Waiter)) {
        let hash = self.hash(device, id);
        let believed = |w: &Waiter| w.id == id && w.seat == Some(seat) && w.device.as_str() == device;
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.lock();
        while let Ok(entry) = shard.waiters.find_entry(hash, believed) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            answer(entry.remove().0);
        }
        shard.hurry(hash, device, id);
    }

    /// Whether somebody waits for the message.
    pub(crate) fn is_waited_for(&self, device: &str, id: MessageId) -> bool {
        let hash = self.hash(device, id);
        let is_it = |w: &Waiter| w.id == id && w.device.as_str() == device;
        self.shard(hash).is_some_and(|shard| shard.lock().waiters.find(hash, is_it).is_some())
    }

    /// Collects what is due, at most `room` and all at their deadline; each is marked as being looked up.
    /// Those that are gone are dropped, and those whose last look-up got no answer go to `lost`.
    pub(crate) fn due(
        &self,
        now: Instant,
        visit_all: bool,
        room: usize,
        due: &mut Vec<Due>,
        mut lost: impl FnMut(Waiter),
    ) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            if !visit_all && shard.due_at.is_none_or(|at| at > now) {
                continue;
            }
            let over = |w: &mut Waiter| w.asker.is_gone() || (w.is_polling && w.due_at() <= now);
            for waiter in shard.waiters.extract_if(over) {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                if waiter.asker.is_gone() {
                    waiter.asker.dismiss();
                } else {
                    lost(waiter);
                }
            }
            shard.due_at = None;
            let Shard { waiters, due_at } = &mut *shard;
            for waiter in waiters.iter_mut() {
                let is_last = waiter.deadline <= now;
                if !waiter.is_polling && waiter.due_at() <= now && (is_last || due.len() < room) {
                    waiter.is_polling = true;
                    due.push(Due { device: waiter.device.clone(), id: waiter.id });
                }
                let at = waiter.due_at();
                *due_at = Some(due_at.map_or(at, |due_at| due_at.min(at)));
            }
        }
    }

    /// Takes everybody who waits for the message: its end is known.
    pub(crate) fn finish(&self, device: &str, id: MessageId, mut answer: impl FnMut(Waiter)) {
        let hash = self.hash(device, id);
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.lock();
        let is_it = |w: &Waiter| w.id == id && w.device.as_str() == device;
        while let Ok(entry) = shard.waiters.find_entry(hash, is_it) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            answer(entry.remove().0);
        }
    }

    /// Takes everybody.
    pub(crate) fn take_all(&self, mut answer: impl FnMut(Waiter)) {
        for shard in &self.shards {
            for waiter in shard.lock().waiters.drain() {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                answer(waiter);
            }
        }
    }

    /// The look-up found no end: who is past its deadline is handed to `answer`, the others wait on.
    pub(crate) fn wait_on(&self, device: &str, id: MessageId, now: Instant, mut answer: impl FnMut(Waiter)) {
        let hash = self.hash(device, id);
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.lock();
        let late = |w: &Waiter| w.id == id && w.deadline <= now && w.device.as_str() == device;
        while let Ok(entry) = shard.waiters.find_entry(hash, late) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            answer(entry.remove().0);
        }
        let mut due_at = None;
        for waiter in shard.waiters.iter_hash_mut(hash) {
            if waiter.is_polling && waiter.id == id && waiter.device.as_str() == device {
                waiter.is_polling = false;
                let pause = if waiter.is_hurried { Duration::ZERO } else { waiter.poll_every };
                waiter.is_hurried = false;
                waiter.poll_at = now + pause;
                waiter.poll_every = (waiter.poll_every * 2).min(POLL_SLOWEST);
                due_at = Some(waiter.due_at());
            }
        }
        if let Some(at) = due_at {
            shard.due_by(at);
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn hash(&self, device: &str, id: MessageId) -> u64 {
        self.hasher.hash_one((device, id))
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Shard>> {
        self.shards.get((hash >> 32) as usize % SHARDS)
    }
}

impl Shard {
    fn due_by(&mut self, at: Instant) {
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
    }

    fn hurry(&mut self, hash: u64, device: &str, id: MessageId) {
        let mut hurried = None;
        for waiter in self.waiters.iter_hash_mut(hash) {
            if waiter.id == id && waiter.device.as_str() == device {
                waiter.is_hurried = waiter.is_polling;
                waiter.poll_at = waiter.asked;
                hurried = Some(waiter.due_at());
            }
        }
        if let Some(at) = hurried {
            self.due_by(at);
        }
    }
}

const SHARDS: usize = 64;
/// Age from which a waiter's state is looked up without being told to.
const POLL_AFTER: Duration = Duration::from_secs(1);
/// First and longest time between look-ups.
const POLL_FIRST: Duration = Duration::from_millis(500);
const POLL_SLOWEST: Duration = Duration::from_secs(2);
/// A look-up under way at the deadline may take this much longer.
const DEADLINE_GRACE: Duration = Duration::from_millis(250);

#[cfg(test)]
#[path = "waiters_tests.rs"]
mod tests;

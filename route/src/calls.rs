//! Calls that IM-servers were asked and did not answer yet.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use imlink_protocol::key::Key;
use imlink_store::DeviceKey;
use parking_lot::Mutex;

use crate::asker::Asker;
use crate::devices::Seat;

/// One call in the hands of one server. It was sent there once and goes nowhere else, unless that server
/// denies having started it.
pub(crate) struct Pending {
    pub(crate) device: DeviceKey,
    /// The session it was sent to.
    pub(crate) seat: Seat,
    pub(crate) key: Key,
    pub(crate) payload: Bytes,
    pub(crate) asker: Asker,
    pub(crate) asked: Instant,
    pub(crate) deadline: Instant,
    /// How often a server denied the device.
    pub(crate) denials: u32,
    /// The session was looked up again.
    pub(crate) is_checked: bool,
}

impl Pending {
    /// A quarter of its time is over: the device may have moved.
    fn check_at(&self) -> Instant {
        self.asked + self.deadline.saturating_duration_since(self.asked) / 4
    }
}

/// All calls in flight, by the route's number.
pub(crate) struct Calls {
    shards: Box<[Mutex<HashMap<u64, Pending>>]>,
}

/// What a sweep over the calls found.
#[derive(Default)]
pub(crate) struct Swept {
    /// Past their deadline, or nobody waits: taken out.
    pub(crate) over: Vec<(u64, Pending)>,
    /// A quarter of their time is over: look their session up.
    pub(crate) to_check: Vec<(u64, DeviceKey, Seat)>,
}

impl Calls {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    pub(crate) fn insert(&self, number: u64, call: Pending) {
        if let Some(shard) = self.shard(number) {
            shard.lock().insert(number, call);
        }
    }

    /// Takes call `number`, if `incarnation` is the server it was sent to.
    pub(crate) fn take(&self, number: u64, incarnation: u64) -> Option<Pending> {
        let mut shard = self.shard(number)?.lock();
        if shard.get(&number)?.seat.incarnation != incarnation {
            return None;
        }
        shard.remove(&number)
    }

    /// Takes call `number`, wherever it was sent to.
    pub(crate) fn take_any(&self, number: u64) -> Option<Pending> {
        self.shard(number)?.lock().remove(&number)
    }

    /// Takes all calls that were sent to `incarnation`.
    pub(crate) fn take_all(&self, incarnation: u64) -> Vec<Pending> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let of_it = |_: &u64, call: &mut Pending| call.seat.incarnation == incarnation;
            taken.extend(shard.lock().extract_if(of_it).map(|(_, call)| call));
        }
        taken
    }

    /// Whether call `number` still waits for an answer.
    pub(crate) fn is_waiting(&self, number: u64) -> bool {
        self.shard(number).is_some_and(|shard| shard.lock().contains_key(&number))
    }

    pub(crate) fn sweep(&self, now: Instant) -> Swept {
        let mut swept = Swept::default();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let over = |_: &u64, call: &mut Pending| call.deadline <= now || call.asker.is_gone();
            swept.over.extend(shard.extract_if(over));
            for (number, call) in shard.iter_mut() {
                if !call.is_checked && call.check_at() <= now {
                    call.is_checked = true;
                    swept.to_check.push((*number, call.device.clone(), call.seat));
                }
            }
        }
        swept
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().is_empty())
    }

    fn shard(&self, number: u64) -> Option<&Mutex<HashMap<u64, Pending>>> {
        self.shards.get(number as usize % SHARDS)
    }
}

const SHARDS: usize = 16;

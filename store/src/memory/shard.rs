//! The table of devices, in shards.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::{Mutex, MutexGuard};

use crate::DeviceKey;
use crate::record::{Record, Seat};

/// Locks; a power of two, several times the threads that a machine has.
const SHARDS: usize = 64;
const _: () = assert!(SHARDS.is_power_of_two());

/// Every device of the store.
#[derive(Debug)]
pub(super) struct Shards {
    hasher: DefaultHashBuilder,
    shards: Box<[Mutex<Shard>; SHARDS]>,
}

#[derive(Debug, Default)]
struct Shard {
    records: HashTable<Box<Record>>,
    /// IM-servers that hold sessions of this shard.
    seats: Vec<Arc<Seat>>,
}

impl Default for Shards {
    fn default() -> Self {
        Self { hasher: DefaultHashBuilder::default(), shards: Box::new(std::array::from_fn(|_| Mutex::default())) }
    }
}

impl Shards {
    /// Locks the place of `device`, whether it is there or not.
    pub(super) fn lock<'a>(&'a self, device: &'a DeviceKey) -> Place<'a> {
        let hash = self.hasher.hash_one(device.as_str());
        // The table uses the highest and lowest bits.
        let index = (hash >> 32) as usize % SHARDS;
        let [first, ..] = &*self.shards;
        let shard = self.shards.get(index).unwrap_or(first).lock();
        Place { hasher: &self.hasher, shard, hash, device }
    }
}

/// The place of one device in its locked shard.
pub(super) struct Place<'a> {
    hasher: &'a DefaultHashBuilder,
    shard: MutexGuard<'a, Shard>,
    hash: u64,
    device: &'a DeviceKey,
}

impl Place<'_> {
    pub(super) fn insert(&mut self, record: Record) {
        let hasher = self.hasher;
        let record = Box::new(record);
        self.shard.records.insert_unique(self.hash, record, |record| hasher.hash_one(record.key.as_str()));
    }

    pub(super) fn get_mut(&mut self) -> Option<&mut Record> {
        let device = self.device;
        self.shard.records.find_mut(self.hash, |record| record.key == *device).map(|record| &mut **record)
    }

    pub(super) fn remove(&mut self) -> Option<Box<Record>> {
        let device = self.device;
        let found = self.shard.records.find_entry(self.hash, |record| record.key == *device).ok()?;
        Some(found.remove().0)
    }

    /// The IM-server by name and incarnation, shared by the sessions of this shard.
    pub(super) fn seat(&mut self, server: &str, incarnation: u64) -> Arc<Seat> {
        let seats = &mut self.shard.seats;
        let known = seats.iter().find(|seat| seat.incarnation == incarnation && seat.server == server);
        if let Some(seat) = known {
            return seat.clone();
        }
        seats.retain(|seat| Arc::strong_count(seat) > 1);
        let seat = Arc::new(Seat { server: server.into(), incarnation });
        seats.push(seat.clone());
        seat
    }
}

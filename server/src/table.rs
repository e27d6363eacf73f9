//! Which connection is a device's: names to slab indices, four bytes a device.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use imlink_store::DeviceKey;

/// Devices of one I/O thread. The name itself is kept with the connection.
pub(crate) struct Table {
    indices: HashTable<u32>,
    hasher: RandomState,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { indices: HashTable::new(), hasher: RandomState::new() }
    }

    /// The connection of `name`; `name_of` gives the name of a connection.
    pub(crate) fn find<'a>(&self, name: &str, name_of: impl Fn(u32) -> Option<&'a DeviceKey>) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        let is_it = |index: &u32| name_of(*index).is_some_and(|other| other.as_str() == name);
        self.indices.find(hash, is_it).copied()
    }

    /// Makes `index` the connection of `name`; returns the one it replaces.
    pub(crate) fn put<'a>(
        &mut self,
        name: &str,
        index: u32,
        name_of: impl Fn(u32) -> Option<&'a DeviceKey>,
    ) -> Option<u32> {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(name);
        let is_it = |other: &u32| name_of(*other).is_some_and(|other| other.as_str() == name);
        if let Some(slot) = self.indices.find_mut(hash, is_it) {
            return Some(std::mem::replace(slot, index));
        }
        self.indices
            .insert_unique(hash, index, |other| name_of(*other).map_or(0, |name| hasher.hash_one(name.as_str())));
        None
    }

    /// Removes `name` if `index` is its connection.
    pub(crate) fn remove(&mut self, name: &str, index: u32) {
        let hash = self.hasher.hash_one(name);
        if let Ok(entry) = self.indices.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
    }
}

/// The I/O thread of a device.
pub(crate) fn thread_of(name: &str, threads: usize) -> usize {
    // FNV-1a: the same in every part of the process, and spread enough for a choice among few.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 32) as usize % threads.max(1)
}

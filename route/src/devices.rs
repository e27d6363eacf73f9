//! What the route remembers of devices: their interface and where they were last seen.
//!
//! A memory of bounded size, in two halves: new and used entries are in the young half; when it is full it
//! becomes the old one and what was old and unused is forgotten. Nothing here is the truth: each append
//! brings the session as the store has it, and a server denies what it does not hold.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::{DefaultHashBuilder, HashTable};
use imlink_protocol::id::{Epoch, Fingerprint};
use imlink_store::DeviceKey;
use parking_lot::Mutex;

use crate::interface::Interface;

/// A device as this route knows it.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) device: DeviceKey,
    /// The interface of its last session.
    pub(crate) fingerprint: Fingerprint,
    /// The same, read; `None` only when the device states none.
    pub(crate) interface: Option<Arc<Interface>>,
    /// Largest frame it takes, in bytes; 0 before its first session.
    pub(crate) receive_limit: u32,
    /// Where it is attached.
    pub(crate) seat: Option<Seat>,
    /// Highest epoch seen.
    pub(crate) epoch: Epoch,
    /// When the store said so.
    pub(crate) learned: Instant,
}

/// A session, by what is compared. [`Core::seat`](crate::core::Core::seat) makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Stands for the name of the IM-server: another one that states its incarnation is not believed.
    pub(crate) server: NameTag,
    /// Incarnation of the IM-server.
    pub(crate) incarnation: u64,
    /// Number of the session.
    pub(crate) epoch: Epoch,
}

/// A name as a number that nobody outside this process can aim for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NameTag(pub(crate) u64);

/// The memory of devices.
pub(crate) struct Devices {
    shards: Box<[Mutex<Shard>]>,
    hasher: DefaultHashBuilder,
    half_max: usize,
}

#[derive(Default)]
struct Shard {
    young: HashTable<Entry>,
    old: HashTable<Entry>,
}

struct Entry {
    hash: u64,
    known: Known,
}

impl Devices {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            half_max: (entries_max / SHARDS / 2).max(1),
        }
    }

    /// What is known of `device` of `tenant`.
    pub(crate) fn find(&self, tenant: &str, device: &str) -> Option<Known> {
        let hash = self.hash(tenant, device);
        let is_it = |entry: &Entry| is(&entry.known.device, tenant, device);
        let mut shard = self.shard(hash)?.lock();
        if let Some(entry) = shard.young.find(hash, is_it) {
            return Some(entry.known.clone());
        }
        let entry = shard.old.find_entry(hash, is_it).ok()?.remove().0;
        let known = entry.known.clone();
        shard.keep(entry, self.half_max);
        Some(known)
    }

    /// Remembers `known`, unless a newer session of it is known already.
    pub(crate) fn learn(&self, known: Known) {
        self.change(known.device.tenant(), known.device.device(), |entry| {
            if entry.epoch <= known.epoch {
                *entry = known.clone();
            }
        })
        .or_else(|| {
            let hash = self.hash(known.device.tenant(), known.device.device());
            self.shard(hash)?.lock().keep(Entry { hash, known: known.clone() }, self.half_max);
            Some(())
        });
    }

    /// Corrects where `device` is attached, as the store just said. Without a session, or with another
    /// one than known, what else was remembered may be outdated too: `false` means look it up.
    pub(crate) fn reseat(&self, known: &Known, seat: Option<Seat>) {
        if known.seat == seat {
            return;
        }
        let (tenant, device) = (known.device.tenant(), known.device.device());
        match seat {
            // A detached device keeps its interface until it attaches with another one.
            None => drop(self.change(tenant, device, |entry| entry.seat = None)),
            Some(_) => self.forget(known.device.as_str()),
        }
    }

    /// Forgets `device` (`tenant/device`).
    pub(crate) fn forget(&self, device: &str) {
        let (tenant, device) = device.split_once('/').unwrap_or_default();
        let hash = self.hash(tenant, device);
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.lock();
        let Shard { young, old } = &mut *shard;
        for half in [young, old] {
            if let Ok(entry) = half.find_entry(hash, |entry| is(&entry.known.device, tenant, device)) {
                entry.remove();
            }
        }
    }

    /// Number of devices remembered.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock()).map(|shard| shard.young.len() + shard.old.len()).sum()
    }

    fn change(&self, tenant: &str, device: &str, change: impl FnOnce(&mut Known)) -> Option<()> {
        let hash = self.hash(tenant, device);
        let is_it = |entry: &Entry| is(&entry.known.device, tenant, device);
        let mut shard = self.shard(hash)?.lock();
        let Shard { young, old } = &mut *shard;
        let entry = match young.find_mut(hash, is_it) {
            Some(entry) => entry,
            None => old.find_mut(hash, is_it)?,
        };
        change(&mut entry.known);
        Some(())
    }

    fn hash(&self, tenant: &str, device: &str) -> u64 {
        self.hasher.hash_one((tenant, device))
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Shard>> {
        self.shards.get((hash >> 32) as usize % SHARDS)
    }
}

impl Shard {
    fn keep(&mut self, entry: Entry, half_max: usize) {
        if self.young.len() >= half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert_unique(entry.hash, entry, |entry| entry.hash);
    }
}

fn is(key: &DeviceKey, tenant: &str, device: &str) -> bool {
    let text = key.as_str();
    text.len() == tenant.len() + 1 + device.len()
        && text.as_bytes().get(tenant.len()) == Some(&b'/')
        && text.ends_with(device)
        && text.starts_with(tenant)
}

const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn known(device: &str, epoch: Epoch) -> Known {
        Known {
            device: DeviceKey::single(device).unwrap(),
            fingerprint: Fingerprint::NONE,
            interface: None,
            receive_limit: 4096,
            seat: (epoch > 0).then_some(Seat { server: NameTag(1), incarnation: 1, epoch }),
            epoch,
            learned: Instant::now(),
        }
    }

    #[test]
    fn an_older_session_never_replaces_a_newer_one() {
        let devices = Devices::new(1000);
        devices.learn(known("lamp", 2));
        devices.learn(known("lamp", 1));
        assert_eq!(devices.find("-", "lamp").unwrap().epoch, 2);
        devices.learn(known("lamp", 3));
        assert_eq!(devices.find("-", "lamp").unwrap().epoch, 3);
        assert_eq!(devices.len(), 1);
    }

    #[test]
    fn names_that_only_look_alike_are_kept_apart() {
        let devices = Devices::new(1000);
        devices.learn(known("a:b", 1));
        assert!(devices.find("-", "a").is_none() && devices.find("-", "b").is_none());
        assert!(devices.find("a", "b").is_none() && devices.find("-", "a:b").is_some());
        devices.forget("-/a:b");
        assert!(devices.find("-", "a:b").is_none());
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_used() {
        let devices = Devices::new(SHARDS * 8);
        devices.learn(known("used", 1));
        for number in 0..10_000 {
            devices.learn(known(&format!("d{number}"), 1));
            assert!(devices.find("-", "used").is_some());
        }
        assert!(devices.len() <= SHARDS * 8);
    }

    #[test]
    fn another_session_than_known_makes_the_route_look_again() {
        let devices = Devices::new(1000);
        let old = known("lamp", 2);
        devices.learn(old.clone());
        devices.reseat(&old, None);
        assert_eq!(devices.find("-", "lamp").unwrap().seat, None);
        devices.reseat(&old, Some(Seat { server: NameTag(1), incarnation: 9, epoch: 3 }));
        assert!(devices.find("-", "lamp").is_none());
    }
}

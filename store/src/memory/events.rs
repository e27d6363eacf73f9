//! Event shards.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::event::{Event, EventBatch, EventsStored, Position, SHARDS, shard_of};
use crate::limits::QUEUES_MAX;
use crate::{Config, DeviceKey};

/// All shards of all tenants; a tenant's shards are there from its first event or commit on.
#[derive(Debug)]
pub(super) struct Events {
    tenants: RwLock<HashMap<Box<str>, Arc<Shards>>>,
    max: usize,
    age_max_ms: Option<u64>,
    age_ungrouped_ms: u64,
}

/// The shards of one tenant.
#[derive(Debug)]
struct Shards {
    shards: Box<[Mutex<Shard>; SHARDS]>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Shard {
    stream: VecDeque<(Position, Event)>,
    tail: Position,
    /// (queue incarnation, last stored sequence) of a device's queues, the newest last.
    queues: HashMap<DeviceKey, Vec<(u64, u64)>>,
    /// Positions by group.
    groups: HashMap<Box<str>, Position>,
}

impl Events {
    pub(super) fn new(config: &Config) -> Self {
        let ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self {
            tenants: RwLock::default(),
            max: config.events_per_shard_max,
            age_max_ms: config.event_age_max.map(ms),
            age_ungrouped_ms: ms(config.event_age_ungrouped),
        }
    }

    fn known(&self, tenant: &str) -> Option<Arc<Shards>> {
        self.tenants.read().get(tenant).cloned()
    }

    fn of(&self, tenant: &str) -> Arc<Shards> {
        self.known(tenant).unwrap_or_else(|| self.tenants.write().entry(tenant.into()).or_default().clone())
    }

    pub(super) fn append(&self, batches: &[EventBatch], now_ms: u64) -> Vec<EventsStored> {
        let mut touched: Vec<(&str, Arc<Shards>)> = Vec::new();
        let mut stored = Vec::with_capacity(batches.len());
        for batch in batches {
            let tenant = batch.device.tenant();
            let shards = match touched.iter().find(|(known, _)| *known == tenant) {
                Some((_, shards)) => shards.clone(),
                None => {
                    let shards = self.of(tenant);
                    touched.push((tenant, shards.clone()));
                    shards
                }
            };
            stored.push(match shards.shards.get(shard_of(&batch.device)) {
                Some(shard) => self.append_batch(&mut shard.lock(), batch, now_ms),
                None => EventsStored::Full,
            });
        }
        touched.iter().for_each(|(_, shards)| shards.more.notify_waiters());
        stored
    }

    fn append_batch(&self, shard: &mut Shard, batch: &EventBatch, now_ms: u64) -> EventsStored {
        let age_ms = match shard.groups.is_empty() {
            true => Some(self.age_max_ms.unwrap_or(u64::MAX).min(self.age_ungrouped_ms)),
            false => self.age_max_ms,
        };
        if let Some(oldest_ms) = age_ms.and_then(|age_ms| now_ms.checked_sub(age_ms)) {
            shard.trim(|position| position.ms < oldest_ms);
        }
        let known = shard.position(&batch.device, batch.queue);
        let mut last = known;
        for (sequence, key, payload) in batch.events.iter().filter(|(sequence, ..)| *sequence > known) {
            if *sequence <= last {
                continue;
            }
            if shard.stream.len() >= self.max {
                break;
            }
            last = *sequence;
            let event = Event {
                device: batch.device.clone(),
                queue: batch.queue,
                sequence: *sequence,
                fingerprint: batch.fingerprint,
                key: *key,
                payload: payload.clone(),
                stored_ms: now_ms,
            };
            let position = shard.next_position(now_ms);
            shard.stream.push_back((position, event));
        }
        let has_new = batch.events.iter().any(|(sequence, ..)| *sequence > known);
        if last == known && has_new {
            return EventsStored::Full;
        }
        if last > known {
            shard.remember(&batch.device, batch.queue, last);
        }
        EventsStored::UpTo(last)
    }

    pub(super) fn read(&self, tenant: &str, shard: usize, after: Position, limit: usize) -> Vec<(Position, Event)> {
        self.known(tenant).map_or_else(Vec::new, |shards| shards.read(shard, after, limit))
    }

    pub(super) async fn wait(
        &self,
        tenant: &str,
        after: &[Position; SHARDS],
        limit_per_shard: usize,
        wait: Duration,
    ) -> Vec<(usize, Vec<(Position, Event)>)> {
        let shards = self.of(tenant);
        let deadline = Instant::now() + wait;
        loop {
            let mut more = std::pin::pin!(shards.more.notified());
            more.as_mut().enable();
            let each = after.iter().enumerate();
            let read = each.map(|(shard, after)| (shard, shards.read(shard, *after, limit_per_shard)));
            let found: Vec<_> = read.filter(|(_, events)| !events.is_empty()).collect();
            if !found.is_empty() || tokio::time::timeout_at(deadline, more).await.is_err() {
                return found;
            }
        }
    }

    pub(super) fn tails(&self, tenant: &str) -> [Position; SHARDS] {
        self.known(tenant).map_or([Position::default(); SHARDS], |shards| shards.each(|shard| shard.tail))
    }

    pub(super) fn commit(&self, tenant: &str, group: &str, shard: usize, upto: Position) {
        let shards = self.of(tenant);
        let Some(committed) = shards.shards.get(shard) else { return };
        let is_new = !committed.lock().groups.contains_key(group);
        if is_new {
            // From here on it holds every shard, also those it did not get to yet.
            for shard in shards.shards.iter() {
                shard.lock().groups.entry(group.into()).or_default();
            }
        }
        let mut shard = committed.lock();
        let position = shard.groups.entry(group.into()).or_default();
        *position = upto.max(*position);
        let slowest = shard.groups.values().min().copied().unwrap_or_default();
        shard.trim(|position| *position <= slowest);
    }

    pub(super) fn committed(&self, tenant: &str, group: &str) -> [Position; SHARDS] {
        let of = |shard: &Shard| shard.groups.get(group).copied().unwrap_or_default();
        self.known(tenant).map_or([Position::default(); SHARDS], |shards| shards.each(of))
    }

    pub(super) fn position(&self, device: &DeviceKey, queue: u64) -> u64 {
        let shards = self.known(device.tenant());
        let shard = shards.as_ref().and_then(|shards| shards.shards.get(shard_of(device)));
        shard.map_or(0, |shard| shard.lock().position(device, queue))
    }

    pub(super) fn forget(&self, device: &DeviceKey) {
        let shards = self.known(device.tenant());
        if let Some(shard) = shards.as_ref().and_then(|shards| shards.shards.get(shard_of(device))) {
            shard.lock().queues.remove(device);
        }
    }
}

impl Default for Shards {
    fn default() -> Self {
        Self { shards: Box::new(std::array::from_fn(|_| Mutex::default())), more: Notify::new() }
    }
}

impl Shards {
    fn read(&self, shard: usize, after: Position, limit: usize) -> Vec<(Position, Event)> {
        let Some(shard) = self.shards.get(shard) else { return Vec::new() };
        let shard = shard.lock();
        let skipped = shard.stream.partition_point(|(position, _)| *position <= after);
        shard.stream.iter().skip(skipped).take(limit).cloned().collect()
    }

    fn each(&self, of: impl Fn(&Shard) -> Position) -> [Position; SHARDS] {
        self.shards.each_ref().map(|shard| of(&shard.lock()))
    }
}

impl Shard {
    fn position(&self, device: &DeviceKey, queue: u64) -> u64 {
        let queues = self.queues.get(device).map_or(&[][..], |queues| queues);
        queues.iter().find(|(known, _)| *known == queue).map_or(0, |(_, last)| *last)
    }

    fn remember(&mut self, device: &DeviceKey, queue: u64, last: u64) {
        if let Some(queues) = self.queues.get_mut(device) {
            queues.retain(|(known, _)| *known != queue);
            if queues.len() >= QUEUES_MAX {
                queues.remove(0);
            }
            queues.push((queue, last));
        } else {
            self.queues.insert(device.clone(), vec![(queue, last)]);
        }
    }

    fn trim(&mut self, is_over: impl Fn(&Position) -> bool) {
        while self.stream.front().is_some_and(|(position, _)| is_over(position)) {
            self.stream.pop_front();
        }
    }

    fn next_position(&mut self, now_ms: u64) -> Position {
        self.tail = match now_ms > self.tail.ms {
            true => Position { ms: now_ms, n: 0 },
            false => Position { ms: self.tail.ms, n: self.tail.n + 1 },
        };
        self.tail
    }
}

//! Events: what devices published, in shards that are read in order.

use bytes::Bytes;
use imlink_protocol::id::Fingerprint;
use imlink_protocol::key::Key;

use crate::DeviceKey;

/// Number of event shards of a tenant, fixed when a store is created.
pub const SHARDS: usize = 64;

/// The shard of a device's events, among those of its tenant: FNV-1a over `tenant/device`, modulo [`SHARDS`].
pub fn shard_of(device: &DeviceKey) -> usize {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = device.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, step);
    (hash % SHARDS as u64) as usize
}

/// Events of one device, in order, for `append_events`.
#[derive(Clone, Debug)]
pub struct EventBatch {
    /// Who published them.
    pub device: DeviceKey,
    /// Incarnation of its event queue; at most two are remembered.
    pub queue: u64,
    /// The interface their keys belong to.
    pub fingerprint: Fingerprint,
    /// (sequence, key, payload), sequences growing. Any higher sequence than the stored one is taken.
    pub events: Vec<(u64, Key, Bytes)>,
}

/// What `append_events` answers for one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsStored {
    /// Every event of the queue up to this sequence is in the stream, some maybe from before.
    UpTo(u64),
    /// The shard is at its cap: the events wait at the device.
    Full,
}

/// An event in its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who published it.
    pub device: DeviceKey,
    /// Incarnation of its event queue.
    pub queue: u64,
    /// Position in that queue.
    pub sequence: u64,
    /// The interface its key belongs to.
    pub fingerprint: Fingerprint,
    /// Path and schema.
    pub key: Key,
    /// What happened.
    pub payload: Bytes,
    /// Store's time of storing, ms since 1970.
    pub stored_ms: u64,
}

/// A place in a shard's stream; 0-0 is before the first event. Ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Milliseconds part.
    pub ms: u64,
    /// Counter within the millisecond.
    pub n: u64,
}

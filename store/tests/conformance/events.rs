//! Events (DESIGN §6.6).

use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::id::Fingerprint;
use imlink_protocol::key::Key;
use imlink_store::event::{Event, EventBatch, EventsStored, Position, SHARDS, shard_of};
use imlink_store::session::{Attach, Proof};
use imlink_store::{DeviceKey, Store};

use crate::behaviours;
use crate::scene::*;

behaviours!(
    events_are_read_in_order_as_they_were_given,
    an_event_is_taken_once_however_often_it_is_resent,
    gaps_in_a_queue_are_taken,
    two_queues_of_a_device_are_remembered,
    an_attach_says_how_far_the_queue_is_stored,
    a_full_shard_leaves_new_events_at_the_device,
    what_every_group_committed_is_dropped,
    a_commit_never_goes_back,
    a_group_holds_shards_it_did_not_get_to_yet,
    a_wait_ends_with_the_next_event,
    a_wait_ends_in_time_when_nothing_comes,
    tails_are_behind_every_event,
    tenants_have_shards_of_their_own,
    a_wait_is_not_woken_by_another_tenant,
);

fn batch(device: &DeviceKey, queue: u64, sequences: impl IntoIterator<Item = u64>) -> EventBatch {
    let event = |sequence: u64| (sequence, Key([1, 2, 3, 4]), Bytes::from(format!("event {sequence}")));
    let events = sequences.into_iter().map(event).collect();
    EventBatch { device: device.clone(), queue, fingerprint: Fingerprint([3; 16]), events }
}

async fn store_batch(store: &Store, batch: EventBatch) -> EventsStored {
    store.append_events(&[batch]).await.expect("store")[0]
}

async fn all(store: &Store, device: &DeviceKey) -> Vec<(Position, Event)> {
    store.read_events(device.tenant(), shard_of(device), Position::default(), 1000).await.expect("store")
}

async fn sequences(store: &Store, device: &DeviceKey) -> Vec<u64> {
    all(store, device).await.iter().map(|(_, event)| event.sequence).collect()
}

async fn events_are_read_in_order_as_they_were_given(store: Store) {
    let device = lamp(&store).await;
    let queue = u64::MAX;
    assert_eq!(store_batch(&store, batch(&device, queue, 1..=3)).await, EventsStored::UpTo(3));
    let read = all(&store, &device).await;
    assert!(read.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for ((position, event), sequence) in read.iter().zip(1..) {
        assert_eq!((event.device.as_str(), event.queue, event.sequence), ("-/lamp", queue, sequence));
        assert_eq!((event.fingerprint, event.key), (Fingerprint([3; 16]), Key([1, 2, 3, 4])));
        assert_eq!(event.payload, format!("event {sequence}"));
        assert_eq!(event.stored_ms, position.ms);
    }
    let behind = store.read_events("-", shard_of(&device), read[0].0, 1).await.expect("store");
    assert_eq!(behind, read[1..2]);
}

async fn an_event_is_taken_once_however_often_it_is_resent(store: Store) {
    let device = lamp(&store).await;
    store_batch(&store, batch(&device, 1, 1..=3)).await;
    assert_eq!(store_batch(&store, batch(&device, 1, 2..=3)).await, EventsStored::UpTo(3));
    assert_eq!(store_batch(&store, batch(&device, 1, [3, 4, 4, 3])).await, EventsStored::UpTo(4));
    assert_eq!(store_batch(&store, batch(&device, 1, [])).await, EventsStored::UpTo(4));
    assert_eq!(sequences(&store, &device).await, [1, 2, 3, 4]);
}

async fn gaps_in_a_queue_are_taken(store: Store) {
    let device = lamp(&store).await;
    assert_eq!(store_batch(&store, batch(&device, 1, [5, 9])).await, EventsStored::UpTo(9));
    assert_eq!(store_batch(&store, batch(&device, 1, [7, 12])).await, EventsStored::UpTo(12));
    assert_eq!(sequences(&store, &device).await, [5, 9, 12]);
}

async fn two_queues_of_a_device_are_remembered(store: Store) {
    let device = lamp(&store).await;
    for queue in [1, 2] {
        assert_eq!(store_batch(&store, batch(&device, queue, 1..=2)).await, EventsStored::UpTo(2));
    }
    for queue in [1, 2] {
        store_batch(&store, batch(&device, queue, 1..=2)).await;
    }
    assert_eq!(sequences(&store, &device).await, [1, 2, 1, 2]);
    store_batch(&store, batch(&device, 3, [1])).await;
    store_batch(&store, batch(&device, 2, [2])).await;
    assert_eq!(sequences(&store, &device).await, [1, 2, 1, 2, 1], "the newer of the two is still known");
}

async fn an_attach_says_how_far_the_queue_is_stored(store: Store) {
    let device = lamp(&store).await;
    store_batch(&store, batch(&device, 8, 1..=6)).await;
    let new = attach(&store, &Attach { event_queue: 8, ..hello(&device) }).await;
    assert_eq!(new.event_position, 6);
    let other = attach(&store, &Attach { event_queue: 9, attempt: 2, ..hello(&device) }).await;
    assert_eq!(other.event_position, 0);
}

async fn a_full_shard_leaves_new_events_at_the_device(store: Store) {
    let device = lamp(&store).await;
    assert_eq!(store_batch(&store, batch(&device, 1, 1..=99)).await, EventsStored::UpTo(99));
    assert_eq!(
        store_batch(&store, batch(&device, 1, 100..=102)).await,
        EventsStored::UpTo(100),
        "as far as there is room"
    );
    assert_eq!(store_batch(&store, batch(&device, 1, 101..=102)).await, EventsStored::Full);
    assert_eq!(
        store_batch(&store, batch(&device, 1, [100])).await,
        EventsStored::UpTo(100),
        "what is stored is stored"
    );
    assert_eq!(sequences(&store, &device).await.len(), 100, "what was accepted is kept");
    let last = all(&store, &device).await[49].0;
    store.commit_events("-", "g", shard_of(&device), last).await.expect("store");
    assert_eq!(store_batch(&store, batch(&device, 1, 101..=102)).await, EventsStored::UpTo(102));
}

async fn what_every_group_committed_is_dropped(store: Store) {
    let device = lamp(&store).await;
    store_batch(&store, batch(&device, 1, 1..=5)).await;
    let positions: Vec<_> = all(&store, &device).await.iter().map(|(position, _)| *position).collect();
    let shard = shard_of(&device);
    store.commit_events("-", "slow", shard, positions[0]).await.expect("store");
    assert_eq!(sequences(&store, &device).await, [2, 3, 4, 5]);
    store.commit_events("-", "fast", shard, positions[3]).await.expect("store");
    assert_eq!(sequences(&store, &device).await, [2, 3, 4, 5], "the slow group is not there yet");
    store.commit_events("-", "slow", shard, positions[2]).await.expect("store");
    assert_eq!(sequences(&store, &device).await, [4, 5]);
    assert_eq!(store.committed_events("-", "fast").await.expect("store")[shard], positions[3]);
    assert_eq!(store.committed_events("-", "nobody").await.expect("store"), [Position::default(); SHARDS]);
    assert_eq!(store.committed_events("x", "fast").await.expect("store")[shard], Position::default());
}

async fn a_commit_never_goes_back(store: Store) {
    let high = Position { ms: 20, n: 2 };
    for upto in [high, Position { ms: 20, n: 1 }, Position { ms: 3, n: 9 }] {
        store.commit_events("-", "g", 5, upto).await.expect("store");
        assert_eq!(store.committed_events("-", "g").await.expect("store")[5], high);
    }
}

async fn a_group_holds_shards_it_did_not_get_to_yet(store: Store) {
    let device = lamp(&store).await;
    let shard = shard_of(&device);
    store.commit_events("-", "idle", (shard + 1) % SHARDS, Position { ms: 1, n: 0 }).await.expect("store");
    store_batch(&store, batch(&device, 1, 1..=2)).await;
    let last = all(&store, &device).await[1].0;
    store.commit_events("-", "busy", shard, last).await.expect("store");
    assert_eq!(sequences(&store, &device).await, [1, 2]);
}

async fn a_wait_ends_with_the_next_event(store: Store) {
    let device = lamp(&store).await;
    let tails = store.event_tails("-").await.expect("store");
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.wait_events("-", &tails, 10, Duration::from_secs(20)).await.expect("store") })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    store_batch(&store, batch(&device, 1, 1..=2)).await;
    let found = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("woken").expect("joined");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, shard_of(&device));
    assert_eq!(found[0].1.first().map(|(_, event)| event.sequence), Some(1));
}

async fn a_wait_ends_in_time_when_nothing_comes(store: Store) {
    let tails = store.event_tails("-").await.expect("store");
    let found = store.wait_events("-", &tails, 10, Duration::from_millis(30)).await.expect("store");
    assert_eq!(found, []);
}

async fn tails_are_behind_every_event(store: Store) {
    let device = lamp(&store).await;
    assert_eq!(store.event_tails("-").await.expect("store"), [Position::default(); SHARDS]);
    store_batch(&store, batch(&device, 1, 1..=4)).await;
    let shard = shard_of(&device);
    let tail = store.event_tails("-").await.expect("store")[shard];
    assert_eq!(Some(tail), all(&store, &device).await.last().map(|(position, _)| *position));
    assert_eq!(store.read_events("-", shard, tail, 10).await.expect("store"), []);
}

/// A device of `tenant` whose events go to the shard of that number.
async fn in_shard(store: &Store, tenant: &str, shard: usize) -> DeviceKey {
    let mut named = (0..).map(|number| DeviceKey::new(tenant, &format!("lamp-{number}")).expect("is a device id"));
    let device = named.find(|device| shard_of(device) == shard).expect("one of so many");
    store.provision(&device, Proof::Plain).await.expect("store");
    device
}

async fn tenants_have_shards_of_their_own(store: Store) {
    let (one, other) = (in_shard(&store, "-", 7).await, in_shard(&store, "acme", 7).await);
    // A group of one tenant that never goes on, and a shard of it that is full.
    store.commit_events("-", "idle", 7, Position { ms: 1, n: 0 }).await.expect("store");
    store_batch(&store, batch(&one, 1, 1..=100)).await;
    assert_eq!(store_batch(&store, batch(&one, 1, 101..=102)).await, EventsStored::Full);
    assert_eq!(store.event_tails("acme").await.expect("store"), [Position::default(); SHARDS]);
    assert_eq!(store_batch(&store, batch(&other, 1, 1..=3)).await, EventsStored::UpTo(3), "there is room");
    assert_eq!(sequences(&store, &other).await, [1, 2, 3]);
    assert!(all(&store, &one).await.iter().all(|(_, event)| event.device == one), "nobody else's");
    let last = all(&store, &other).await[1].0;
    store.commit_events("acme", "billing", 7, last).await.expect("store");
    assert_eq!(sequences(&store, &other).await, [3], "only its own groups hold it");
    assert_eq!(sequences(&store, &one).await.len(), 100, "and it holds nobody else's");
    assert_eq!(store.committed_events("-", "billing").await.expect("store"), [Position::default(); SHARDS]);
}

async fn a_wait_is_not_woken_by_another_tenant(store: Store) {
    let device = lamp(&store).await;
    let tails = store.event_tails("acme").await.expect("store");
    store_batch(&store, batch(&device, 1, 1..=2)).await;
    let found = store.wait_events("acme", &tails, 10, Duration::from_millis(30)).await.expect("store");
    assert_eq!(found, []);
}

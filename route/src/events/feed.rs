//! The feeds: the latest events of a tenant's shards, read once per route and kept for a while.
//!
//! Whoever is at most that far behind is served from memory; the others read their shards themselves until
//! they are. A tenant has a feed, and its feed a reader, only while somebody of the tenant subscribes. Tenants share
//! nothing but the room: with n of them each keeps an n-th of what one would.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use imlink_store::event::{Event, Position};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Positions;
use crate::core::Core;

/// An event and where it is.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) shard: usize,
    pub(super) position: Position,
    pub(super) event: Arc<Event>,
}

/// The feeds of all tenants.
pub(crate) struct Feeds {
    feeds: Mutex<HashMap<Box<str>, Arc<Feed>>>,
    room: Arc<Room>,
}

/// What the feeds share.
struct Room {
    /// Events kept, of all feeds together.
    kept_max: usize,
    /// Feeds among which that is divided.
    feeds: AtomicUsize,
}

/// The latest events of one tenant.
pub(super) struct Feed {
    tenant: Box<str>,
    state: Mutex<State>,
    /// Number of the next event.
    news: watch::Sender<u64>,
    room: Arc<Room>,
}

struct State {
    kept: VecDeque<Placed>,
    /// Number of the first one kept.
    first: u64,
    kept_len: usize,
    /// Everything behind these that was read is kept.
    floor: Positions,
    /// Read so far.
    tail: Positions,
    subscribers: usize,
    is_reading: bool,
}

/// What the feed has for a subscriber.
pub(super) enum Found {
    /// These follow.
    Events(Vec<Placed>),
    /// Nothing new.
    Nothing,
    /// These shards must be read from the store, up to these positions at least.
    Behind(Vec<(usize, Position)>),
}

impl Feeds {
    pub(crate) fn new(kept_max: usize) -> Self {
        Self { feeds: Mutex::default(), room: Arc::new(Room { kept_max, feeds: AtomicUsize::new(0) }) }
    }

    /// One more subscriber of `tenant`, if there is room.
    pub(super) fn enter(&self, tenant: &str, max: usize) -> Option<Arc<Feed>> {
        let mut feeds = self.feeds.lock();
        if feeds.values().map(|feed| feed.state.lock().subscribers).sum::<usize>() >= max {
            return None;
        }
        let feed = feeds.entry(tenant.into()).or_insert_with(|| Arc::new(Feed::new(tenant, self.room.clone())));
        feed.state.lock().subscribers += 1;
        let feed = feed.clone();
        self.room.feeds.store(feeds.len(), Ordering::Relaxed);
        Some(feed)
    }

    pub(super) fn leave(&self, feed: &Feed) {
        let mut feeds = self.feeds.lock();
        let mut state = feed.state.lock();
        state.subscribers -= 1;
        // A reader forgets it when it notices.
        if state.subscribers == 0 && !state.is_reading {
            feeds.remove(&feed.tenant);
            self.room.feeds.store(feeds.len(), Ordering::Relaxed);
        }
    }

    /// Where a feed's reader reads on; `None` when nobody subscribes any more, and then the feed is forgotten.
    fn read_on(&self, feed: &Feed) -> Option<Positions> {
        let mut feeds = self.feeds.lock();
        let mut state = feed.state.lock();
        if state.subscribers > 0 {
            return Some(state.tail.clone());
        }
        state.is_reading = false;
        feeds.remove(&feed.tenant);
        self.room.feeds.store(feeds.len(), Ordering::Relaxed);
        None
    }
}

impl Room {
    /// Events and bytes of payload that each feed may keep.
    fn share(&self) -> (usize, usize) {
        let feeds = self.feeds.load(Ordering::Relaxed).max(1);
        (self.kept_max / feeds, KEPT_LEN_MAX / feeds)
    }
}

impl Feed {
    fn new(tenant: &str, room: Arc<Room>) -> Self {
        let state = State {
            kept: VecDeque::new(),
            first: 0,
            kept_len: 0,
            floor: Positions::START,
            tail: Positions::START,
            subscribers: 0,
            is_reading: false,
        };
        Self { tenant: tenant.into(), state: Mutex::new(state), news: watch::Sender::new(0), room }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Starts the reader behind `tails`, unless it runs.
    pub(super) fn read_from(self: &Arc<Self>, core: &Arc<Core>, tails: Positions) {
        let mut state = self.state.lock();
        if !state.is_reading {
            state.is_reading = true;
            state.first += state.kept.len() as u64;
            state.kept.clear();
            state.kept_len = 0;
            state.floor = tails.clone();
            state.tail = tails;
            core.tasks.spawn(read(core.clone(), self.clone()));
        }
    }

    /// What follows `at`, from number `next` on.
    pub(super) fn find(&self, at: &Positions, next: &mut u64, max: usize) -> Found {
        let state = self.state.lock();
        let floor = state.floor.0.iter().enumerate();
        let behind: Vec<_> =
            floor.filter(|(shard, floor)| at.of(*shard) < **floor).map(|(shard, floor)| (shard, *floor)).collect();
        if !behind.is_empty() {
            return Found::Behind(behind);
        }
        *next = (*next).max(state.first);
        let skip = usize::try_from(*next - state.first).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for placed in state.kept.iter().skip(skip) {
            *next += 1;
            if placed.position > at.of(placed.shard) {
                found.push(placed.clone());
                if found.len() >= max {
                    break;
                }
            }
        }
        if found.is_empty() { Found::Nothing } else { Found::Events(found) }
    }

    fn take(&self, shard: usize, events: Vec<(Position, Event)>) {
        let (kept_max, kept_len_max) = self.room.share();
        let mut state = self.state.lock();
        for (position, event) in events {
            state.tail.advance(shard, position);
            state.kept_len += event.payload.len();
            state.kept.push_back(Placed { shard, position, event: Arc::new(event) });
        }
        while state.kept.len() > kept_max || state.kept_len > kept_len_max {
            let Some(oldest) = state.kept.pop_front() else { break };
            state.first += 1;
            state.kept_len -= oldest.event.payload.len();
            state.floor.advance(oldest.shard, oldest.position);
        }
        let next = state.first + state.kept.len() as u64;
        drop(state);
        self.news.send_replace(next);
    }
}

async fn read(core: Arc<Core>, feed: Arc<Feed>) {
    while let Some(tail) = core.feeds.read_on(&feed) {
        let read = core.store.wait_events(&feed.tenant, &tail.0, SHARD_BATCH_MAX, WAIT);
        tokio::select! {
            read = read => match read {
                Ok(shards) => {
                    for (shard, events) in shards {
                        feed.take(shard, events);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "events wait for the store");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            },
            () = core.stopped.cancelled() => return,
        }
    }
}

/// Events of one shard read at once.
const SHARD_BATCH_MAX: usize = 256;
/// Bytes of payload kept, of all feeds together.
const KEPT_LEN_MAX: usize = 64 * 1024 * 1024;
/// Longest single wait for events; between two, the reader sees whether anybody still listens.
const WAIT: Duration = Duration::from_secs(2);
const ERROR_PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use imlink_protocol::{Fingerprint, Key};
    use imlink_store::DeviceKey;

    fn event(sequence: u64) -> Event {
        Event {
            device: DeviceKey::single("lamp").unwrap(),
            queue: 1,
            sequence,
            fingerprint: Fingerprint::NONE,
            key: Key::raw("button"),
            payload: Bytes::from_static(b"on"),
            stored_ms: sequence,
        }
    }

    fn place(ms: u64) -> Position {
        Position { ms, n: 0 }
    }

    fn feeds(kept_max: usize) -> (Feeds, Arc<Feed>) {
        let feeds = Feeds::new(kept_max);
        let feed = feeds.enter("-", 100).unwrap();
        (feeds, feed)
    }

    #[test]
    fn a_subscriber_gets_what_follows_its_position_once() {
        let (_feeds, feed) = feeds(100);
        feed.take(3, (1..=5).map(|ms| (place(ms), event(ms))).collect());
        let mut at = Positions::START;
        at.advance(3, place(2));
        let mut next = 0;
        let Found::Events(found) = feed.find(&at, &mut next, 100) else { panic!("nothing found") };
        assert_eq!(found.iter().map(|placed| placed.event.sequence).collect::<Vec<_>>(), [3, 4, 5]);
        assert!(matches!(feed.find(&at, &mut next, 100), Found::Nothing));
    }

    #[test]
    fn who_is_too_far_behind_is_told_which_shards_to_read() {
        let (_feeds, feed) = feeds(2);
        feed.take(3, (1..=5).map(|ms| (place(ms), event(ms))).collect());
        let Found::Behind(shards) = feed.find(&Positions::START, &mut 0, 100) else { panic!("not behind") };
        assert_eq!(shards, [(3, place(3))]);
    }
    #[test]
    fn tenants_have_feeds_of_their_own_which_share_the_room_while_somebody_subscribes() {
        let (feeds, feed) = feeds(4);
        let other = feeds.enter("acme", 100).unwrap();
        feed.take(3, (1..=4).map(|ms| (place(ms), event(ms))).collect());
        assert!(matches!(other.find(&Positions::START, &mut 0, 100), Found::Nothing), "nothing of another tenant");
        assert!(matches!(feed.find(&Positions::START, &mut 0, 100), Found::Behind(_)), "half of the room is 2 events");
        feeds.leave(&other);
        feed.take(3, (5..=8).map(|ms| (place(ms), event(ms))).collect());
        let mut at = Positions::START;
        at.advance(3, place(4));
        let Found::Events(found) = feed.find(&at, &mut 0, 100) else { panic!("not all of the room is its own again") };
        assert_eq!(found.len(), 4);
        assert!(feeds.enter("acme", 1).is_none(), "subscribers of all tenants are counted together");
        feeds.leave(&feed);
        assert!(feeds.feeds.lock().is_empty());
    }
}

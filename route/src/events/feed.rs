//! The feed: the latest events of all shards, read once per route and kept for a while.
//!
//! Whoever is at most that far behind is served from memory; the others read their shards themselves until
//! they are. The reader runs only while somebody subscribes.

use std::collections::VecDeque;
use std::sync::Arc;
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

/// The latest events.
pub(crate) struct Feed {
    state: Mutex<State>,
    /// Number of the next event.
    news: watch::Sender<u64>,
    kept_max: usize,
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

impl Feed {
    pub(crate) fn new(kept_max: usize) -> Self {
        let state = State {
            kept: VecDeque::new(),
            first: 0,
            kept_len: 0,
            floor: Positions::START,
            tail: Positions::START,
            subscribers: 0,
            is_reading: false,
        };
        Self { state: Mutex::new(state), news: watch::Sender::new(0), kept_max }
    }

    /// One more subscriber, if there is room.
    pub(super) fn enter(&self, max: usize) -> bool {
        let mut state = self.state.lock();
        if state.subscribers >= max {
            return false;
        }
        state.subscribers += 1;
        true
    }

    pub(super) fn leave(&self) {
        self.state.lock().subscribers -= 1;
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Starts the reader behind `tails`, unless it runs.
    pub(super) fn read_from(core: &Arc<Core>, tails: Positions) {
        let mut state = core.feed.state.lock();
        if !state.is_reading {
            state.is_reading = true;
            state.first += state.kept.len() as u64;
            state.kept.clear();
            state.kept_len = 0;
            state.floor = tails.clone();
            state.tail = tails;
            core.tasks.spawn(read(core.clone()));
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
        let mut state = self.state.lock();
        for (position, event) in events {
            state.tail.advance(shard, position);
            state.kept_len += event.payload.len();
            state.kept.push_back(Placed { shard, position, event: Arc::new(event) });
        }
        while state.kept.len() > self.kept_max || state.kept_len > KEPT_LEN_MAX {
            let Some(oldest) = state.kept.pop_front() else { break };
            state.first += 1;
            state.kept_len -= oldest.event.payload.len();
            state.floor.advance(oldest.shard, oldest.position);
        }
        let next = state.first + state.kept.len() as u64;
        drop(state);
        self.news.send_replace(next);
    }

    /// Where to read on; `None` when nobody subscribes any more.
    fn read_on(&self) -> Option<Positions> {
        let mut state = self.state.lock();
        if state.subscribers == 0 {
            state.is_reading = false;
            return None;
        }
        Some(state.tail.clone())
    }
}

async fn read(core: Arc<Core>) {
    while let Some(tail) = core.feed.read_on() {
        let read = core.store.wait_events(&tail.0, SHARD_BATCH_MAX, WAIT);
        tokio::select! {
            read = read => match read {
                Ok(shards) => {
                    for (shard, events) in shards {
                        core.feed.take(shard, events);
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
/// Bytes of payload kept.
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

    #[test]
    fn a_subscriber_gets_what_follows_its_position_once() {
        let feed = Feed::new(100);
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
        let feed = Feed::new(2);
        feed.take(3, (1..=5).map(|ms| (place(ms), event(ms))).collect());
        let Found::Behind(shards) = feed.find(&Positions::START, &mut 0, 100) else { panic!("not behind") };
        assert_eq!(shards, [(3, place(3))]);
    }
}

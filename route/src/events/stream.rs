//! One subscriber's events.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imlink_protocol::id::{Fingerprint, check_device_id};
use imlink_protocol::key::Key;
use imlink_protocol::link::backend::Failure;
use imlink_store::event::Position;
use tokio::sync::watch;

use super::Positions;
use super::feed::{Feed, Found, Placed};
use crate::access::is_like;
use crate::core::{Core, store_failed};
use crate::interface::Interface;
use crate::request::{Event, Failed, Subscription};

/// Events in order of each device, from a position on. Dropping it ends the subscription.
pub struct Events {
    core: Arc<Core>,
    feed: Arc<Feed>,
    tenant: String,
    devices: Option<String>,
    within: Option<Vec<Box<str>>>,
    at: Positions,
    /// Number of the next event in the feed.
    next: u64,
    queued: VecDeque<Placed>,
    news: watch::Receiver<u64>,
    /// Interfaces that the store did not have, and when it was asked.
    missing: HashMap<Fingerprint, Instant>,
}

impl Events {
    pub(crate) async fn subscribe(core: &Arc<Core>, subscription: Subscription) -> Result<Self, Failed> {
        let Subscription { tenant, group, position, devices, within } = subscription;
        check_pattern(devices.as_deref())?;
        if let Some(group) = &group {
            check_group(group)?;
        }
        let max = core.config.limits.subscriptions_max;
        let Some(feed) = core.feeds.enter(&tenant, max) else {
            let why = format!("{max} subscriptions are open on this route, no more are taken: close one first");
            return Err(Failed::later(Failure::Overloaded, Duration::from_secs(5), why));
        };
        core.metrics.subscriptions.inc();
        // From here on dropping it leaves the feed again.
        let mut events = Self {
            core: core.clone(),
            news: feed.subscribe(),
            feed,
            tenant,
            devices,
            within,
            at: Positions::START,
            next: 0,
            queued: VecDeque::new(),
            missing: HashMap::new(),
        };
        let tails = Positions(core.store.event_tails(&events.tenant).await.map_err(|error| store_failed(&error))?);
        events.at = match (position, group) {
            (Some(text), _) => decode(&text, &events.tenant)?,
            (None, Some(group)) => events.resume(&group, &tails).await?,
            (None, None) => tails.clone(),
        };
        events.feed.read_from(core, tails);
        Ok(events)
    }

    /// The next event; waits for it. May be dropped and called again without losing anything. An error
    /// ends the subscription.
    pub async fn next(&mut self) -> Result<Event, Failed> {
        loop {
            while let Some(placed) = self.queued.front() {
                if self.wants(placed) {
                    let path = self.path().await;
                    let Some(placed) = self.queued.pop_front() else { break };
                    self.at.advance(placed.shard, placed.position);
                    return Ok(self.hand_out(&placed, path));
                }
                self.at.advance(placed.shard, placed.position);
                self.queued.pop_front();
            }
            self.refill().await?;
        }
    }

    /// Resume position behind the last event handed out, and behind those that the filter left out.
    pub fn position(&self) -> String {
        self.at.encode(&self.tenant)
    }

    async fn refill(&mut self) -> Result<(), Failed> {
        match self.feed.find(&self.at, &mut self.next, BATCH_MAX) {
            Found::Events(found) => self.queued.extend(found),
            Found::Behind(shards) => {
                for (shard, floor) in shards {
                    self.catch_up(shard, floor).await?;
                    if self.queued.len() >= BATCH_MAX {
                        break;
                    }
                }
            }
            Found::Nothing => tokio::select! {
                // The feed lives as long as the route.
                _ = self.news.changed() => {}
                () = self.core.stopped.cancelled() => {
                    let why = "the route is leaving: subscribe at another one from your last position";
                    return Err(Failed::later(Failure::Draining, Duration::from_secs(1), why));
                }
            },
        }
        Ok(())
    }

    async fn catch_up(&mut self, shard: usize, floor: Position) -> Result<(), Failed> {
        let after = self.queued.iter().rev().find(|placed| placed.shard == shard);
        let after = after.map_or(self.at.of(shard), |placed| placed.position);
        let read = self.core.store.read_events(&self.tenant, shard, after, BATCH_MAX).await;
        let read = read.map_err(|error| store_failed(&error))?;
        if read.is_empty() {
            // What was between is no longer kept.
            self.at.advance(shard, floor);
        }
        self.queued.extend(read.into_iter().map(|(position, event)| Placed {
            shard,
            position,
            event: Arc::new(event),
        }));
        Ok(())
    }

    /// The group's position. A group without one starts here, and says so in the store.
    async fn resume(&self, group: &str, tails: &Positions) -> Result<Positions, Failed> {
        let committed = self.core.store.committed_events(&self.tenant, group).await;
        let committed = Positions(committed.map_err(|error| store_failed(&error))?);
        if committed != Positions::START {
            return Ok(committed);
        }
        let mut here = tails.clone();
        for shard in 0..here.0.len() {
            // Behind nothing, and yet not the position of a group that was never here.
            here.advance(shard, Position { ms: 0, n: 1 });
        }
        commit(&self.core, &self.tenant, group, &here, &committed).await?;
        Ok(here)
    }

    fn wants(&self, placed: &Placed) -> bool {
        let device = &placed.event.device;
        let is = |pattern: &str| is_like(device.device(), pattern);
        self.devices.as_ref().is_none_or(|pattern| is(pattern))
            && self.within.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| is(pattern)))
    }

    /// The path of the event in front.
    async fn path(&mut self) -> String {
        let Some(placed) = self.queued.front() else { return String::new() };
        let (key, fingerprint) = (placed.event.key, placed.event.fingerprint);
        match self.interface(fingerprint).await {
            Some(interface) => interface.event(key).map(|path| path.to_string()).unwrap_or_default(),
            None => String::new(),
        }
    }

    async fn interface(&mut self, fingerprint: Fingerprint) -> Option<Arc<Interface>> {
        if !fingerprint.is_some() {
            return None;
        }
        if self.missing.get(&fingerprint).is_some_and(|at| at.elapsed() < MISSING_FOR) {
            return None;
        }
        if let Ok(Some(interface)) = self.core.known_interface(&self.tenant, fingerprint).await {
            return Some(interface);
        }
        if self.missing.len() >= MISSING_MAX {
            self.missing.clear();
        }
        self.missing.insert(fingerprint, Instant::now());
        None
    }

    fn hand_out(&self, placed: &Placed, path: String) -> Event {
        self.core.metrics.events.inc();
        let event = &placed.event;
        Event {
            position: self.at.encode(&self.tenant),
            device: event.device.device().to_owned(),
            key: Key(event.key.0),
            path,
            queue: event.queue,
            sequence: event.sequence,
            stored_ms: event.stored_ms,
            payload: event.payload.clone(),
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.core.feeds.leave(&self.feed);
        self.core.metrics.subscriptions.dec();
    }
}

/// Writes down that `group` processed everything up to `position`, where that is behind `before`.
pub(crate) async fn commit(
    core: &Core,
    tenant: &str,
    group: &str,
    position: &Positions,
    before: &Positions,
) -> Result<(), Failed> {
    for (shard, upto) in position.0.iter().enumerate() {
        if *upto > before.of(shard) {
            let committed = core.store.commit_events(tenant, group, shard, *upto).await;
            committed.map_err(|error| store_failed(&error))?;
        }
    }
    Ok(())
}

/// Reads a position as given with an event of `tenant`.
pub(crate) fn decode(text: &str, tenant: &str) -> Result<Positions, Failed> {
    Positions::decode(text, tenant).ok_or_else(|| {
        let why = "the position is not one that was given with an event of this tenant: use such a one, or none";
        Failed::new(Failure::BadRequest, why)
    })
}

/// Checks the name of a consumer group.
pub(crate) fn check_group(group: &str) -> Result<(), Failed> {
    check_device_id(group).map_err(|error| Failed::new(Failure::BadRequest, format!("group {group:?} {error}")))
}

fn check_pattern(pattern: Option<&str>) -> Result<(), Failed> {
    let Some(pattern) = pattern else { return Ok(()) };
    let plain = pattern.replace('*', "x");
    check_device_id(&plain).map_err(|error| {
        let why = format!("device pattern {pattern:?} {error}; * stands for any run of characters");
        Failed::new(Failure::BadRequest, why)
    })
}

/// Events taken at once.
const BATCH_MAX: usize = 256;
/// How long an interface that the store did not have is not asked for again.
const MISSING_FOR: Duration = Duration::from_secs(5);
const MISSING_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_other_characters_is_refused_with_the_allowed_ones() {
        assert!(check_pattern(Some("lamp-*")).is_ok());
        let failed = check_pattern(Some("lamp/1")).unwrap_err();
        assert_eq!(failed.failure, Failure::BadRequest);
        assert!(failed.detail.contains("allowed"), "{}", failed.detail);
    }
}

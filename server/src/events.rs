//! Events on their way to the store. A device keeps what is not acknowledged.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use imlink_protocol::key::Key;
use imlink_protocol::limits::EVENT_WINDOW_MAX;
use imlink_protocol::message::GoAwayReason;
use imlink_store::event::{EventBatch, EventsStored};
use imlink_store::{DeviceKey, Error};

use crate::batches::Gate;
use crate::conn::{ConnId, Phase};
use crate::reactor::{End, Reactor};
use crate::store_work::Done;

/// Most devices and about the most bytes in one batch.
const BATCH_MAX: usize = 512;
const BATCH_LEN_MAX: usize = 1024 * 1024;
/// What an event takes besides its payload, in bytes.
const OVERHEAD: usize = 160;

/// Events of one I/O thread, oldest first.
#[derive(Default)]
pub(crate) struct WaitingEvents {
    waiting: VecDeque<(ConnId, EventBatch)>,
    /// Bytes of what waits and of what is away.
    len: usize,
    gate: Gate,
}

impl WaitingEvents {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of what waits and of what is away.
    pub(crate) fn bytes(&self) -> usize {
        self.len
    }

    /// The oldest ones, each device once: of two batches of one device the store might refuse the older and
    /// take the newer, and the older one would pass for stored from then on.
    fn take(&mut self) -> Vec<(ConnId, EventBatch)> {
        let mut taken: Vec<(ConnId, EventBatch)> = Vec::new();
        let mut places: HashMap<DeviceKey, usize> = HashMap::new();
        let mut later = Vec::new();
        let mut len = 0;
        while taken.len() < BATCH_MAX
            && later.len() < BATCH_MAX
            && len < BATCH_LEN_MAX
            && let Some((id, batch)) = self.waiting.pop_front()
        {
            let place = places.get(&batch.device).copied();
            match place.and_then(|place| taken.get_mut(place)) {
                None => {
                    len += cost_of(&batch);
                    places.insert(batch.device.clone(), taken.len());
                    taken.push((id, batch));
                }
                Some((first, kept)) if *first == id && kept.events.len() < usize::from(EVENT_WINDOW_MAX) => {
                    len += cost_of(&batch);
                    kept.events.extend(batch.events);
                }
                Some(_) => later.push((id, batch)),
            }
        }
        self.put_back(later);
        taken
    }

    fn put_back(&mut self, batches: Vec<(ConnId, EventBatch)>) {
        for batch in batches.into_iter().rev() {
            self.waiting.push_front(batch);
        }
    }
}

fn cost_of(batch: &EventBatch) -> usize {
    batch.events.iter().map(|(_, _, payload)| payload.len() + OVERHEAD).sum()
}

impl Reactor {
    /// An event of a device joins the batch.
    pub(crate) fn handle_event(&mut self, id: ConnId, sequence: u64, key: Key, payload: &[u8]) {
        let max = self.shared.config.limits.events_waiting_max;
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        let about = &device.about;
        if about.event_queue == 0 {
            return self.close(id.index, End::GoAway(GoAwayReason::Order, 0));
        }
        let (name, queue, fingerprint) = (about.name.clone(), about.event_queue, about.fingerprint);
        let cost = payload.len() + OVERHEAD;
        if self.batches.events.len + cost > max {
            // Nothing is lost: the device keeps what is not acknowledged.
            return self.close(id.index, End::GoAway(GoAwayReason::Cut, 10));
        }
        self.batches.events.len += cost;
        let event = (sequence, key, Bytes::copy_from_slice(payload));
        match self.batches.events.waiting.back_mut() {
            Some((last, batch)) if *last == id => batch.events.push(event),
            _ => {
                let batch = EventBatch { device: name, queue, fingerprint, events: vec![event] };
                self.batches.events.waiting.push_back((id, batch));
            }
        }
    }

    pub(crate) fn start_events(&mut self) {
        let events = &mut self.batches.events;
        if events.waiting.is_empty() || !events.gate.leave(self.now) {
            return;
        }
        let (conns, batches): (Vec<_>, Vec<_>) = events.take().into_iter().unzip();
        let store = self.shared.store.clone();
        self.start(async move {
            let result = store.append_events(&batches).await;
            Done::Events { batches: conns.into_iter().zip(batches).collect(), result }
        });
    }

    pub(crate) fn handle_events_stored(
        &mut self,
        batches: Vec<(ConnId, EventBatch)>,
        result: Result<Vec<EventsStored>, Error>,
    ) {
        let stored = match result {
            Ok(stored) => stored,
            Err(error) => {
                tracing::debug!(%error, count = batches.len(), "events are stored later");
                self.shared.metrics.count_retry("append-events");
                self.batches.events.gate.fail(self.now);
                return self.batches.events.put_back(batches);
            }
        };
        self.batches.events.gate.arrive();
        let mut refused = Vec::new();
        for ((id, batch), stored) in batches.into_iter().zip(stored) {
            match stored {
                EventsStored::UpTo(upto) => self.confirm_events(id, &batch, upto),
                EventsStored::Full => refused.push((id, batch)),
            }
        }
        if !refused.is_empty() {
            self.shared.metrics.count_retry("events-full");
            self.batches.events.gate.fail(self.now);
            self.batches.events.put_back(refused);
        }
    }

    fn confirm_events(&mut self, id: ConnId, batch: &EventBatch, upto: u64) {
        self.batches.events.len = self.batches.events.len.saturating_sub(cost_of(batch));
        self.shared.metrics.events.inc_by(batch.events.len() as u64);
        if self.conn(id).is_none() {
            return;
        }
        self.lend_buffer(id.index);
        let Some(conn) = self.conn(id) else { return };
        if let Phase::Attached(device) = &mut conn.phase {
            device.session.handle_events_stored(upto, batch.events.len(), &mut conn.out);
            self.mark(id.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imlink_protocol::id::Fingerprint;

    fn batch(serial: u32, device: &str, sequence: u64) -> (ConnId, EventBatch) {
        let events = vec![(sequence, Key::raw("temperature"), Bytes::new())];
        let device = DeviceKey::single(device).unwrap();
        (ConnId { index: 1, serial }, EventBatch { device, queue: 1, fingerprint: Fingerprint::NONE, events })
    }

    fn taken(waiting: &mut WaitingEvents) -> Vec<(u32, String, Vec<u64>)> {
        let sequences = |batch: &EventBatch| batch.events.iter().map(|(sequence, _, _)| *sequence).collect();
        let all = waiting.take();
        all.iter().map(|(id, batch)| (id.serial, batch.device.device().to_owned(), sequences(batch))).collect()
    }

    #[test]
    fn a_device_is_in_a_batch_once_and_its_events_stay_in_order() {
        let mut waiting = WaitingEvents::default();
        let put = [batch(1, "a", 1), batch(2, "b", 1), batch(1, "a", 2), batch(3, "a", 1), batch(3, "a", 2)];
        waiting.waiting.extend(put);
        assert_eq!(taken(&mut waiting), [(1, "a".into(), vec![1, 2]), (2, "b".into(), vec![1])]);
        assert_eq!(taken(&mut waiting), [(3, "a".into(), vec![1, 2])], "the newer connection's come after it");
        assert_eq!(taken(&mut waiting), []);
    }
}

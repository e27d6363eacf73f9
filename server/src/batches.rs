//! What gathers for the store during a round, one batch a kind, one batch in flight a kind.
//!
//! While a batch is away the next one gathers: the busier the store, the larger the batches. What the store
//! did not take is kept in order and tried again; an acknowledgement until it is written.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::Instant;
use imlink_protocol::id::Epoch;
use imlink_protocol::key::Key;
use imlink_protocol::link::node::ToRoute;
use imlink_protocol::message::GoAwayReason;
use imlink_protocol::serving::{HeadCheck, MailboxHead};
use imlink_store::event::{EventBatch, EventsStored};
use imlink_store::mailbox::Acknowledge;
use imlink_store::session::{Head, Reassert, Reasserted};
use imlink_store::{DeviceKey, Error};

use crate::conn::ConnId;
use crate::reactor::{End, Reactor};
use crate::store_work::{Done, Reported};

/// Pause before a refused batch is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Most devices in one batch.
const BATCH_MAX: usize = 512;
/// Detaches kept for a store that is away; sessions of a dead server do no harm.
const DETACH_MAX: usize = 65_536;

/// What gathered on one I/O thread.
#[derive(Default)]
pub(crate) struct Batches {
    pub(crate) acks: Vec<Acknowledge>,
    pub(crate) reports: Vec<Reported>,
    acks_gate: Gate,
    events: Vec<(ConnId, EventBatch)>,
    events_len: usize,
    events_gate: Gate,
    /// Devices whose mailbox head is to be compared.
    pub(crate) heads: Vec<ConnId>,
    heads_gate: Gate,
    /// Sessions to be asserted again.
    pub(crate) reassert: Vec<ConnId>,
    reassert_gate: Gate,
    /// Attaches and detaches that the store did not answer.
    pub(crate) attach_again: Vec<ConnId>,
    detach_again: Vec<(DeviceKey, Epoch)>,
}

/// Whether a batch of a kind may leave.
#[derive(Default)]
struct Gate {
    is_away: bool,
    not_before: Instant,
}

impl Gate {
    fn leave(&mut self, now: Instant) -> bool {
        let may = !self.is_away && now >= self.not_before;
        self.is_away |= may;
        may
    }

    fn arrive(&mut self) {
        self.is_away = false;
    }

    fn fail(&mut self, now: Instant) {
        self.is_away = false;
        self.not_before = now.after(RETRY);
    }
}

impl Batches {
    /// Work that waits for the store.
    pub(crate) fn waiting(&self) -> usize {
        self.acks.len() + self.events.len() + self.reassert.len()
    }
}

impl Reactor {
    /// Starts every batch that is there and may leave.
    pub(crate) fn start_batches(&mut self) {
        let now = self.now;
        let store = self.shared.store.clone();
        if !self.batches.acks.is_empty() && self.batches.acks_gate.leave(now) {
            let acks = std::mem::take(&mut self.batches.acks);
            let reports = std::mem::take(&mut self.batches.reports);
            let store = store.clone();
            self.start(async move {
                let result = store.acknowledge(&acks).await;
                Done::Acknowledged { acks, reports, result }
            });
        }
        if !self.batches.events.is_empty() && self.batches.events_gate.leave(now) {
            let count = self.batches.events.len().min(BATCH_MAX);
            let batches: Vec<_> = self.batches.events.drain(..count).collect();
            let store = store.clone();
            self.start(async move {
                let (conns, batches): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
                let result = store.append_events(&batches).await;
                Done::Events { batches: conns.into_iter().zip(batches).collect(), result }
            });
        }
        self.start_heads();
        self.start_reassert();
    }

    pub(crate) fn handle_acknowledged(
        &mut self,
        acks: Vec<Acknowledge>,
        reports: Vec<Reported>,
        result: Result<(), Error>,
    ) {
        if let Err(error) = result {
            tracing::debug!(%error, count = acks.len(), "acknowledgements are written later");
            self.shared.metrics.count_retry("acknowledge");
            self.batches.acks_gate.fail(self.now);
            let newer = std::mem::take(&mut self.batches.acks);
            self.batches.acks = merged(acks.into_iter().chain(newer));
            self.batches.reports.splice(0..0, reports);
            return;
        }
        self.batches.acks_gate.arrive();
        for reported in reports {
            let (device, epoch, id) = (reported.device.as_str(), reported.epoch, reported.id());
            let message = match reported.is_acked {
                true => ToRoute::Acked { device, epoch, id },
                false => ToRoute::Settled { device, epoch, id },
            };
            self.tell(reported.report.link, &message);
        }
    }

    /// An event of a device joins the batch.
    pub(crate) fn handle_event(&mut self, id: ConnId, sequence: u64, key: Key, payload: Bytes) {
        let max = self.shared.config.limits.events_waiting_max;
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        let about = &device.about;
        if about.event_queue == 0 {
            return self.close(id.index, End::GoAway(GoAwayReason::Order, 0));
        }
        let (name, queue, fingerprint) = (about.name.clone(), about.event_queue, about.fingerprint);
        if self.batches.events_len + payload.len() > max {
            // Nothing is lost: the device keeps what is not acknowledged.
            return self.close(id.index, End::GoAway(GoAwayReason::Cut, 10));
        }
        self.batches.events_len += payload.len();
        match self.batches.events.last_mut() {
            Some((last, batch)) if *last == id => batch.events.push((sequence, key, payload)),
            _ => {
                let batch = EventBatch { device: name, queue, fingerprint, events: vec![(sequence, key, payload)] };
                self.batches.events.push((id, batch));
            }
        }
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
                self.batches.events_gate.fail(self.now);
                self.batches.events.splice(0..0, batches);
                return;
            }
        };
        self.batches.events_gate.arrive();
        let mut refused = Vec::new();
        for ((id, batch), stored) in batches.into_iter().zip(stored) {
            match stored {
                EventsStored::UpTo(upto) => self.confirm_events(id, &batch, upto),
                EventsStored::Full => refused.push((id, batch)),
            }
        }
        if !refused.is_empty() {
            self.shared.metrics.count_retry("events-full");
            self.batches.events_gate.fail(self.now);
            self.batches.events.splice(0..0, refused);
        }
    }

    fn confirm_events(&mut self, id: ConnId, batch: &EventBatch, upto: u64) {
        let len: usize = batch.events.iter().map(|(_, _, payload)| payload.len()).sum();
        self.batches.events_len = self.batches.events_len.saturating_sub(len);
        self.shared.metrics.events.inc_by(batch.events.len() as u64);
        self.lend_buffer(id.index);
        let Some(conn) = self.conn(id) else { return };
        if let crate::conn::Phase::Attached(device) = &mut conn.phase {
            device.session.handle_events_stored(upto, batch.events.len(), &mut conn.out);
            self.mark(id.index);
        }
    }

    fn start_heads(&mut self) {
        if self.batches.heads.is_empty() {
            self.sweep.next_heads(&self.conns, BATCH_MAX, &mut self.batches.heads);
        }
        if self.batches.heads.is_empty() || !self.batches.heads_gate.leave(self.now) {
            return;
        }
        let count = self.batches.heads.len().min(BATCH_MAX);
        let asked: Vec<ConnId> = self.batches.heads.drain(..count).collect();
        let (conns, devices) = self.names_of(asked);
        let store = self.shared.store.clone();
        self.start(async move { Done::Heads { conns, result: store.heads(&devices).await } });
    }

    pub(crate) fn handle_heads(&mut self, conns: &[ConnId], result: Result<Vec<Head>, Error>) {
        let heads = match result {
            Ok(heads) => heads,
            Err(error) => {
                tracing::debug!(%error, "mailboxes are compared later");
                self.shared.metrics.count_retry("heads");
                self.batches.heads_gate.fail(self.now);
                self.batches.heads.splice(0..0, conns.iter().copied());
                return;
            }
        };
        self.batches.heads_gate.arrive();
        for (id, head) in conns.iter().zip(heads) {
            self.compare_head(*id, head);
        }
    }

    fn compare_head(&mut self, id: ConnId, head: Head) {
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        match device.session.handle_head(MailboxHead { generation: head.generation, last: head.last }) {
            HeadCheck::Same => {}
            HeadCheck::More => self.read_on(id.index),
            HeadCheck::RolledBack => {
                tracing::warn!(device = %device.about.name, "the store lost what was sent already: a new generation is opened");
                self.batches.reassert.push(id);
            }
        }
    }

    /// The store came back: every session is asserted again.
    pub(crate) fn reassert_all(&mut self) {
        let attached = self.conns.iter().filter(|(_, conn)| matches!(conn.phase, crate::conn::Phase::Attached(_)));
        let all = attached.map(|(index, conn)| ConnId { index: index as u32, serial: conn.serial });
        self.batches.reassert = all.collect();
    }

    fn start_reassert(&mut self) {
        if self.batches.reassert.is_empty() || !self.batches.reassert_gate.leave(self.now) {
            return;
        }
        let count = self.batches.reassert.len().min(BATCH_MAX);
        let asked: Vec<ConnId> = self.batches.reassert.drain(..count).collect();
        let (server, server_incarnation) = (self.shared.config.name.clone(), self.shared.incarnation);
        let mut conns = Vec::with_capacity(count);
        let mut sessions = Vec::with_capacity(count);
        for id in asked {
            let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { continue };
            conns.push(id);
            sessions.push(Reassert {
                device: device.about.name.clone(),
                server: server.clone(),
                server_incarnation,
                epoch: device.session.epoch(),
                incarnation: device.about.incarnation,
                attempt: device.about.attempt,
                fingerprint: device.about.fingerprint,
                receive_limit: device.about.receive_limit,
                sent: device.session.sent(),
            });
        }
        let store = self.shared.store.clone();
        self.start(async move { Done::Reasserted { conns, result: store.reassert(&sessions).await } });
    }

    pub(crate) fn handle_reasserted(&mut self, conns: &[ConnId], result: Result<Vec<Reasserted>, Error>) {
        let answers = match result {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(%error, "sessions are asserted later");
                self.shared.metrics.count_retry("reassert");
                self.batches.reassert_gate.fail(self.now);
                self.batches.reassert.splice(0..0, conns.iter().copied());
                return;
            }
        };
        self.batches.reassert_gate.arrive();
        for (id, answer) in conns.iter().zip(answers) {
            match answer {
                Reasserted::Held { head, replaced } => {
                    let name = self.conn(*id).and_then(|conn| conn.name().cloned());
                    if let (Some(name), Some(replaced)) = (name, replaced) {
                        self.kick_elsewhere(name, replaced);
                    }
                    self.take_head(*id, head);
                }
                Reasserted::Lost => {
                    if let Some(device) = self.conn(*id).and_then(|conn| conn.device()) {
                        device.is_replaced = true;
                        self.close(id.index, End::GoAway(GoAwayReason::Replaced, 0));
                    }
                }
            }
        }
    }

    /// The session stands; whatever the store holds beyond what is known here is read.
    fn take_head(&mut self, id: ConnId, head: Head) {
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        let head = MailboxHead { generation: head.generation, last: head.last };
        if device.session.handle_head(head) != HeadCheck::Same {
            device.session.handle_hint(imlink_protocol::MessageId::new(head.generation, head.last));
            self.read_on(id.index);
        }
    }

    pub(crate) fn detach(&mut self, device: DeviceKey, epoch: Epoch) {
        let (store, incarnation) = (self.shared.store.clone(), self.shared.incarnation);
        self.start(async move {
            let result = store.detach(&device, incarnation, epoch).await;
            Done::Detached { device, epoch, result }
        });
    }

    pub(crate) fn handle_detached(&mut self, device: DeviceKey, epoch: Epoch, result: Result<bool, Error>) {
        if let Err(error) = result {
            tracing::debug!(%error, %device, "detached later");
            self.shared.metrics.count_retry("detach");
            if self.batches.detach_again.len() < DETACH_MAX {
                self.batches.detach_again.push((device, epoch));
            }
        }
    }

    /// Attaches and detaches that the store did not answer, once more.
    pub(crate) fn retry_sessions(&mut self) {
        for id in std::mem::take(&mut self.batches.attach_again) {
            self.start_attach(id);
        }
        for (device, epoch) in std::mem::take(&mut self.batches.detach_again) {
            self.detach(device, epoch);
        }
    }

    fn names_of(&mut self, asked: Vec<ConnId>) -> (Vec<ConnId>, Vec<DeviceKey>) {
        let named = asked.into_iter().filter_map(|id| {
            let conn = self.conns.get(id.index as usize).filter(|conn| conn.serial == id.serial)?;
            Some((id, conn.name()?.clone()))
        });
        named.unzip()
    }
}

/// One acknowledgement a device: the highest, with every rejection. Keeps a long outage bounded.
fn merged(acks: impl Iterator<Item = Acknowledge>) -> Vec<Acknowledge> {
    let mut devices: HashMap<(DeviceKey, Epoch), Acknowledge> = HashMap::new();
    for ack in acks {
        match devices.get_mut(&(ack.device.clone(), ack.epoch)) {
            Some(kept) => {
                kept.upto = kept.upto.max(ack.upto);
                kept.rejected.extend(ack.rejected);
            }
            None => {
                devices.insert((ack.device.clone(), ack.epoch), ack);
            }
        }
    }
    devices.into_values().collect()
}

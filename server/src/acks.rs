//! Acknowledgements on their way to the store, and the reports that wait for them.
//!
//! A route is told of a message only behind the write that makes it final. A batch that the store did not
//! take is kept, one acknowledgement a session, until it is written.

use std::collections::{HashMap, VecDeque};

use imlink_protocol::id::{Cursor, Epoch};
use imlink_protocol::link::node::ToRoute;
use imlink_store::mailbox::Acknowledge;
use imlink_store::{DeviceKey, Error};
use thin_vec::ThinVec;

use crate::batches::Gate;
use crate::conn::{Phase, Report};
use crate::reactor::Reactor;
use crate::store_work::Done;

/// Most acknowledgements in one batch: after an outage one of all devices would never end in time.
const BATCH_MAX: usize = 4096;

/// Acknowledgements of one I/O thread.
#[derive(Default)]
pub(crate) struct Acks {
    waiting: VecDeque<(Acknowledge, ThinVec<Report>)>,
    gate: Gate,
}

impl Acks {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// An acknowledgement joins the batch, together with whom to tell once it is written.
    pub(crate) fn put(&mut self, ack: Acknowledge, reports: ThinVec<Report>) {
        match self.waiting.back_mut() {
            Some((last, kept)) if last.device == ack.device && last.epoch == ack.epoch => {
                join(last, ack);
                kept.extend(reports);
            }
            _ => self.waiting.push_back((ack, reports)),
        }
    }

    /// One acknowledgement a session: the highest, with every rejection. Keeps a long outage bounded.
    fn keep(&mut self, failed: impl Iterator<Item = (Acknowledge, ThinVec<Report>)>) {
        let newer = std::mem::take(&mut self.waiting);
        let mut places: HashMap<(DeviceKey, Epoch), usize> = HashMap::new();
        for (ack, reports) in failed.chain(newer) {
            let place = *places.entry((ack.device.clone(), ack.epoch)).or_insert(self.waiting.len());
            match self.waiting.get_mut(place) {
                Some((kept, kept_reports)) => {
                    join(kept, ack);
                    kept_reports.extend(reports);
                }
                None => self.waiting.push_back((ack, reports)),
            }
        }
    }
}

fn join(kept: &mut Acknowledge, newer: Acknowledge) {
    kept.upto = kept.upto.max(newer.upto);
    kept.rejected.extend(newer.rejected);
}

impl Reactor {
    pub(crate) fn start_acks(&mut self) {
        let acks = &mut self.batches.acks;
        if acks.waiting.is_empty() || !acks.gate.leave(self.now) {
            return;
        }
        let count = acks.waiting.len().min(BATCH_MAX);
        let (acks, reports): (Vec<_>, Vec<_>) = acks.waiting.drain(..count).unzip();
        let store = self.shared.store.clone();
        self.start(async move {
            let result = store.acknowledge(&acks).await;
            Done::Acknowledged { acks, reports, result }
        });
    }

    pub(crate) fn handle_acknowledged(
        &mut self,
        acks: Vec<Acknowledge>,
        reports: Vec<ThinVec<Report>>,
        result: Result<(), Error>,
    ) {
        if let Err(error) = result {
            tracing::debug!(%error, count = acks.len(), "acknowledgements are written later");
            self.shared.metrics.count_retry("acknowledge");
            self.batches.acks.gate.fail(self.now);
            self.batches.acks.keep(acks.into_iter().zip(reports));
            return;
        }
        self.batches.acks.gate.arrive();
        for (ack, reports) in acks.iter().zip(reports) {
            self.tell_reports(&ack.device, ack.epoch, &reports);
            if !ack.rejected.is_empty() {
                self.go_on_behind_rejected(ack);
            }
        }
    }

    /// Tells routes of messages that ended: now, or behind what is still to be written.
    pub(crate) fn report_ended(&mut self, device: DeviceKey, epoch: Epoch, reports: ThinVec<Report>) {
        if self.batches.acks.waiting.is_empty() && !self.batches.acks.gate.is_away() {
            return self.tell_reports(&device, epoch, &reports);
        }
        let nothing = Acknowledge { device, epoch, upto: Cursor::default(), rejected: Vec::new() };
        self.batches.acks.put(nothing, reports);
    }

    fn tell_reports(&mut self, device: &DeviceKey, epoch: Epoch, reports: &[Report]) {
        for report in reports {
            let (device, id) = (device.as_str(), report.id);
            let message = match report.is_acked {
                true => ToRoute::Acked { device, epoch, id },
                false => ToRoute::Settled { device, epoch, id },
            };
            self.tell(report.link, &message);
        }
    }

    /// Rejections are written: the session's own ones answer the device's `Ping`; behind an entry that was
    /// refused here the mailbox is read on.
    fn go_on_behind_rejected(&mut self, ack: &Acknowledge) {
        let Some(index) = self.find(ack.device.as_str()) else { return };
        let now = self.now;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let Phase::Attached(device) = &mut conn.phase else { return };
        if device.session.epoch() != ack.epoch {
            return;
        }
        let nacks = ack.rejected.iter().filter(|(id, _)| *id <= ack.upto).count();
        if nacks > 0 {
            device.session.handle_nacks_stored(now, nacks, &mut conn.out);
        }
        if nacks < ack.rejected.len() {
            device.is_read_due = false;
        }
        self.mark(index);
        self.read_on(index);
    }
}

//! What gathers for the store during a round, one batch a kind, one batch in flight a kind.
//!
//! While a batch is away the next one gathers: the busier the store, the larger the batches. What the store
//! did not take is kept in order and tried again; an acknowledgement until it is written.

use std::time::Duration;

use imlink_protocol::Instant;
use imlink_protocol::id::{Epoch, MessageId};
use imlink_protocol::message::GoAwayReason;
use imlink_protocol::serving::{HeadCheck, MailboxHead};
use imlink_store::session::{Head, Reassert, Reasserted};
use imlink_store::{DeviceKey, Error};

use crate::acks::Acks;
use crate::conn::ConnId;
use crate::events::WaitingEvents;
use crate::reactor::{End, Reactor};
use crate::store_work::Done;

/// Pause before a refused batch is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Most devices in one batch.
const BATCH_MAX: usize = 512;
/// Detaches kept for a store that is away; sessions of a dead server do no harm.
const DETACH_MAX: usize = 65_536;

/// What gathered on one I/O thread.
#[derive(Default)]
pub(crate) struct Batches {
    pub(crate) acks: Acks,
    pub(crate) events: WaitingEvents,
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
pub(crate) struct Gate {
    is_away: bool,
    not_before: Instant,
}

impl Gate {
    pub(crate) fn leave(&mut self, now: Instant) -> bool {
        let may = !self.is_away && now >= self.not_before;
        self.is_away |= may;
        may
    }

    pub(crate) fn is_away(&self) -> bool {
        self.is_away
    }

    pub(crate) fn arrive(&mut self) {
        self.is_away = false;
    }

    pub(crate) fn fail(&mut self, now: Instant) {
        self.is_away = false;
        self.not_before = now.after(RETRY);
    }
}

impl Batches {
    /// Work that waits for the store.
    pub(crate) fn waiting(&self) -> usize {
        self.acks.waiting() + self.events.waiting() + self.reassert.len()
    }
}

/// Sessions that were asserted again.
pub(crate) type Asserted = Vec<(ConnId, DeviceKey, Epoch)>;

impl Reactor {
    /// Starts every batch that is there and may leave.
    pub(crate) fn start_batches(&mut self) {
        self.start_acks();
        self.start_events();
        self.start_heads();
        self.start_reassert();
    }

    fn start_heads(&mut self) {
        // Heartbeats never keep the round over all devices from its turn.
        if !self.batches.heads_gate.is_away() {
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
        device.is_head_due = false;
        let (head, waiting) = (MailboxHead { generation: head.generation, last: head.last }, head.waiting);
        match device.session.handle_head(head, waiting) {
            HeadCheck::Same => {}
            HeadCheck::More => self.read_on(id.index),
            HeadCheck::RolledBack => {
                tracing::warn!(device = %device.about.name, "the store lost what was sent already: a new generation is opened");
                self.batches.reassert.push(id);
            }
            HeadCheck::WentBack => {
                tracing::warn!(device = %device.about.name, "the store lost what the device did: it attaches anew");
                self.close(id.index, End::GoAway(GoAwayReason::Cut, 0));
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
        let mut held = Vec::with_capacity(count);
        let mut sessions = Vec::with_capacity(count);
        for id in asked {
            let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { continue };
            held.push((id, device.about.name.clone(), device.session.epoch()));
            sessions.push(Reassert {
                device: device.about.name.clone(),
                server: server.clone(),
                server_incarnation,
                epoch: device.session.epoch(),
                incarnation: device.about.incarnation,
                attempt: device.about.attempt,
                key: device.about.key,
                fingerprint: device.about.fingerprint,
                receive_limit: device.about.receive_limit,
                sent: device.session.sent(),
            });
        }
        let store = self.shared.store.clone();
        self.start(async move { Done::Reasserted { asked: held, result: store.reassert(&sessions).await } });
    }

    pub(crate) fn handle_reasserted(&mut self, asked: Asserted, result: Result<Vec<Reasserted>, Error>) {
        let answers = match result {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(%error, "sessions are asserted later");
                self.shared.metrics.count_retry("reassert");
                self.batches.reassert_gate.fail(self.now);
                self.batches.reassert.splice(0..0, asked.into_iter().map(|(id, _, _)| id));
                return;
            }
        };
        self.batches.reassert_gate.arrive();
        for ((id, name, epoch), answer) in asked.into_iter().zip(answers) {
            let is_here = self.conn(id).is_some_and(|conn| conn.device().is_some());
            match answer {
                Reasserted::Held { head, replaced } => {
                    if let Some(replaced) = replaced {
                        self.kick_elsewhere(name.clone(), replaced);
                    }
                    match is_here {
                        true => self.take_head(id, head),
                        // It left meanwhile, and its detach may have been overtaken.
                        false => self.detach(name, epoch),
                    }
                }
                Reasserted::Lost => {
                    if let Some(device) = self.conn(id).and_then(|conn| conn.device()) {
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
        let (head, waiting) = (MailboxHead { generation: head.generation, last: head.last }, head.waiting);
        let check = device.session.handle_head(head, waiting);
        if !matches!(check, HeadCheck::Same | HeadCheck::WentBack) {
            device.session.handle_hint(MessageId::new(head.generation, head.last));
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

//! What the device does.

use crate::ledger::Violation;
use crate::message::{Id, Item};
use crate::moves::Move;
use crate::rule::Rule;
use crate::scenario::Scenario;
use crate::session::Hello;
use crate::world::{Connection, Down, Up, World};

type Moved = Result<(), Violation>;

impl World {
    /// What the device can do by itself now.
    pub(crate) fn device_moves(&self, scenario: &Scenario, out: &mut Vec<Move>) {
        let d = &self.device;
        match d.connection {
            None if self.connected < scenario.connections => {
                out.extend((0..scenario.servers).map(Move::Connect));
            }
            None => {}
            Some(number) => {
                if !self.connection(number).is_some_and(|c| c.server_open) {
                    out.push(Move::NoticeLoss);
                }
                if d.welcomed && d.events.iter().any(|(s, _)| *s > d.event_sent) {
                    out.push(Move::SendEvent);
                }
            }
        }
        match d.handler {
            Some(item) if scenario.poison == Some(item.message) => out.push(Move::PoisonReset),
            Some(_) => out.push(Move::Finish),
            None if !d.queue.is_empty() => out.push(Move::TakeFrame),
            None => {}
        }
        if !d.calls.is_empty() {
            out.push(Move::RunCall);
        }
        if d.handler.is_some() && self.left.nacks > 0 && scenario.poison.is_none() {
            out.push(Move::Refuse);
        }
        if d.connection.is_some() && self.left.drops > 0 {
            out.push(Move::Drop);
        }
        if self.left.power > 0 {
            out.push(Move::PowerLoss);
        }
        if self.left.events > 0 {
            out.push(Move::Publish);
        }
    }

    pub(crate) fn connect(&mut self, server: u8) {
        self.connected += 1;
        let d = &mut self.device;
        d.attempt += 1;
        d.connection = Some(self.connected);
        d.welcomed = false;
        let hello = Hello {
            connection: self.connected,
            boot: d.boot,
            attempt: d.attempt,
            epoch: d.epoch,
            cursor: d.cursor,
            received: d.received,
            floor: self.store.epoch,
            nacks: d.nacks,
        };
        let life = self.life(server);
        self.connections.push(Connection {
            life,
            hello,
            device_open: true,
            server_open: true,
            greeted: false,
            up: Vec::new(),
        });
    }

    /// The device's end of its connection is gone, and what was queued from it.
    pub(crate) fn lose_connection(&mut self) {
        if let Some(number) = self.device.connection.take()
            && let Some(c) = self.connection_mut(number)
        {
            c.device_open = false;
        }
        self.device.welcomed = false;
        self.device.queue.clear();
    }

    pub(crate) fn lose_power(&mut self, scenario: &Scenario) {
        self.note_power_loss(scenario.persistent);
        self.lose_connection();
        let broken = scenario.broken;
        let d = &mut self.device;
        d.boot += 1;
        (d.attempt, d.epoch) = (0, 0);
        d.handler = None;
        d.calls.clear();
        if scenario.persistent {
            if broken.breaks(Rule::QueueIncarnationOutlivesBoot) {
                d.event_queue += 1;
            }
        } else {
            (d.cursor, d.nacks) = (Id::default(), (0, 0));
            for (_, event) in d.events.drain(..) {
                self.ledger.events_gone |= 1 << event;
            }
            d.event_next = 1;
            if broken.keeps(Rule::EmptyQueueIsNewIncarnation) {
                d.event_queue += 1;
            }
        }
        d.received = d.cursor;
    }

    pub(crate) fn welcome(&mut self, number: u8, epoch: u8, generation: u8) {
        if self.device.connection == Some(number) {
            let d = &mut self.device;
            d.welcomed = true;
            d.epoch = epoch;
            d.generation = generation;
            d.event_sent = 0;
        }
    }

    /// A frame arrives. `Generation` and messages wait in the queue for their turn.
    pub(crate) fn arrive(&mut self, scenario: &Scenario, number: u8, frame: Down) {
        if self.device.connection != Some(number) {
            return;
        }
        let d = &mut self.device;
        if let Down::Message(item) = frame {
            let id = item.id;
            let queued = d.queue.iter().any(|f| matches!(f, Down::Message(i) if i.id == id));
            let handled = d.handler.is_some_and(|i| i.id == id);
            if queued || handled && scenario.broken.keeps(Rule::DropsWhatIsInHandler) {
                return;
            }
            if id <= d.cursor && scenario.broken.keeps(Rule::DropsBelowCursor) {
                d.queue.push(Down::Again(id));
                return;
            }
            d.received = d.received.max(id);
        }
        d.queue.push(frame);
    }

    pub(crate) fn take_frame(&mut self, scenario: &Scenario) -> Moved {
        match self.device.queue.remove(0) {
            Down::Generation(g) => {
                self.device.generation = g;
                self.send_up(Up::Generation(g));
            }
            Down::Again(id) => self.acknowledge(scenario, id),
            Down::Message(item) => {
                self.judge_handing(item)?;
                self.device.handler = Some(item);
                if scenario.broken.breaks(Rule::HandlerReturnAcknowledges) {
                    self.acknowledge(scenario, item.id);
                }
            }
        }
        Ok(())
    }

    /// The handler returns: the cursor is written and the ack goes out.
    pub(crate) fn finish(&mut self, scenario: &Scenario, refused: bool) {
        let Some(Item { id, message, .. }) = self.device.handler.take() else {
            return;
        };
        self.device.cursor = self.device.cursor.max(id);
        let facts = &mut self.ledger.messages[usize::from(message)];
        if refused {
            facts.rejected = true;
            let nacks = &mut self.device.nacks;
            if nacks.0 != id.generation {
                *nacks = (id.generation, 0);
            }
            nacks.1 |= 1 << id.sequence;
        } else {
            facts.finished = true;
        }
        if refused || scenario.broken.keeps(Rule::HandlerReturnAcknowledges) {
            self.acknowledge(scenario, id);
        }
    }

    fn acknowledge(&mut self, scenario: &Scenario, id: Id) {
        let same = self.device.generation == id.generation;
        if !same && scenario.broken.keeps(Rule::AcksNameTheirGeneration) {
            return;
        }
        let (generation, refusals) = self.device.nacks;
        let refused = generation == id.generation && refusals & (1 << id.sequence) != 0;
        self.send_up(if refused { Up::Nack(id.sequence) } else { Up::Ack(id.sequence) });
    }

    pub(crate) fn run_call(&mut self, scenario: &Scenario) -> Moved {
        let call = self.device.calls.remove(0);
        let late = self.ledger.calls[usize::from(call)].deadline_passed;
        if late && scenario.broken.keeps(Rule::DeadlineAtHandlerStart) {
            return Ok(());
        }
        self.judge_run(call)?;
        self.send_up(Up::Reply(call));
        Ok(())
    }

    pub(crate) fn publish(&mut self) {
        let d = &mut self.device;
        d.events.push((d.event_next, self.ledger.published));
        d.event_next += 1;
        self.ledger.published += 1;
    }

    pub(crate) fn send_event(&mut self, scenario: &Scenario) {
        let d = &mut self.device;
        let Some(&(sequence, event)) = d.events.iter().find(|(s, _)| *s > d.event_sent) else {
            return;
        };
        d.event_sent = sequence;
        let queue = d.event_queue;
        if scenario.broken.breaks(Rule::EventsAreKeptUntilAcked) {
            d.events.retain(|(s, _)| *s != sequence);
        }
        self.send_up(Up::Event { queue, sequence, event });
    }

    fn send_up(&mut self, frame: Up) {
        if self.device.welcomed
            && let Some(number) = self.device.connection
            && let Some(c) = self.connection_mut(number)
            && c.server_open
        {
            c.up.push(frame);
        }
    }
}

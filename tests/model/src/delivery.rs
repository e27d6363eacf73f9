//! What an IM-server sends to its device: entries, calls, and what a `Deliver` hint starts.

use crate::ledger::Violation;
use crate::message::{Id, Item};
use crate::moves::{How, keeps};
use crate::rule::Rule;
use crate::scenario::Scenario;
use crate::session::Life;
use crate::world::{Down, Net, Phase, World};

type Moved = Result<(), Violation>;

impl World {
    /// Sends an entry on a seat's connection, after the `Generation` it belongs to.
    pub(crate) fn send_item(&mut self, scenario: &Scenario, s: u8, i: usize, item: Item) {
        let seat = &mut self.servers[usize::from(s)].seats[i];
        let number = seat.connection;
        let turned = seat.stream != item.id.generation;
        seat.stream = item.id.generation;
        seat.in_flight.push(item.id);
        seat.sent = item.id;
        if turned {
            self.arrive(scenario, number, Down::Generation(item.id.generation));
        }
        self.arrive(scenario, number, Down::Message(item));
    }

    /// A `Deliver` hint arrives.
    pub(crate) fn hint(&mut self, scenario: &Scenario, s: u8, id: Id, message: u8) {
        let Some(i) = self.attached_seat(s) else {
            for seat in &mut self.servers[usize::from(s)].seats {
                seat.more = true;
            }
            return;
        };
        let seat = &mut self.servers[usize::from(s)].seats[i];
        if id <= seat.sent {
            return;
        }
        let same = id.generation == seat.sent.generation || scenario.broken.breaks(Rule::StraightOnlyInGeneration);
        let next = id.sequence == seat.sent.sequence + 1 || scenario.broken.breaks(Rule::OnlyNextGoesStraight);
        let room = seat.in_flight.len() < usize::from(scenario.limits.window)
            || scenario.broken.breaks(Rule::StraightOnlyInWindow);
        if same && next && room {
            let item = Item { id, message, redelivered: id.sequence <= seat.offered };
            self.send_item(scenario, s, i, item);
        } else if keeps(scenario, Rule::ElseMoreWaiting) {
            seat.more = true;
        }
    }

    /// Asks the store for what comes after the last one sent.
    pub(crate) fn read(&mut self, scenario: &Scenario, s: u8, how: How) -> Moved {
        self.pay(how);
        let Some(i) = self.attached_seat(s) else {
            return Ok(());
        };
        let now = self.now(scenario);
        let seat = self.servers[usize::from(s)].seats[i].clone();
        let held = u8::try_from(seat.in_flight.len()).unwrap_or(u8::MAX);
        let room = scenario.limits.window.saturating_sub(held);
        let who = (self.life(s), seat.epoch);
        let Some((items, more)) = self.store.read(now, who, seat.sent, room, seat.offered) else {
            return self.close(scenario, s, seat.connection, true);
        };
        let end = Id::new(self.store.generation, self.store.last);
        let waiting = self.servers[usize::from(s)].seats[i].reading.take();
        let seat = &mut self.servers[usize::from(s)].seats[i];
        match how {
            How::ReplyLost => {}
            How::Late => {
                seat.more = false;
                seat.reading = Some((items, more, end));
            }
            _ => {
                seat.more = false;
                self.send_read(scenario, s, i, (items, more, end));
                self.servers[usize::from(s)].seats[i].reading = waiting;
            }
        }
        Ok(())
    }

    pub(crate) fn read_reply(&mut self, scenario: &Scenario, s: u8) {
        if let Some(i) = self.attached_seat(s)
            && let Some(reply) = self.servers[usize::from(s)].seats[i].reading.take()
        {
            if scenario.broken.breaks(Rule::ReadClearsFlagWhenAsked) {
                self.servers[usize::from(s)].seats[i].more = false;
            }
            self.send_read(scenario, s, i, reply);
        }
    }

    fn send_read(&mut self, scenario: &Scenario, s: u8, i: usize, (items, more, end): (Vec<Item>, bool, Id)) {
        let mut all = !more;
        for item in items {
            let seat = &self.servers[usize::from(s)].seats[i];
            if item.id <= seat.sent && keeps(scenario, Rule::ReadSkipsWhatWasSent) {
                continue;
            }
            if seat.in_flight.len() >= usize::from(scenario.limits.window) {
                all = false;
                break;
            }
            self.send_item(scenario, s, i, item);
        }
        let seat = &mut self.servers[usize::from(s)].seats[i];
        seat.more |= !all;
        if all {
            seat.sent = seat.sent.max(end);
        }
    }

    /// A call arrives from a route.
    pub(crate) fn call_device(&mut self, scenario: &Scenario, call: u8, to: Life, epoch: u8) {
        if !self.is_alive(to) {
            return;
        }
        let s = to.server;
        let seats = &self.servers[usize::from(s)].seats;
        let attaching =
            seats.iter().any(|x| matches!(x.phase, Phase::Attaching(_))) && keeps(scenario, Rule::TableBeforeAttach);
        match self.attached_seat(s) {
            Some(i) if seats[i].epoch >= epoch || !attaching => self.hand_call(s, i, call),
            _ if attaching && keeps(scenario, Rule::CallWaitsWhileAttaching) => {
                self.servers[usize::from(s)].waiting.push((call, epoch));
            }
            _ => {
                let known = self.servers[usize::from(s)].known;
                self.put(Net::NotHere { call, known });
            }
        }
    }

    pub(crate) fn hand_call(&mut self, s: u8, i: usize, call: u8) {
        let seat = &mut self.servers[usize::from(s)].seats[i];
        seat.calls.push(call);
        if self.device.connection == Some(seat.connection) {
            self.device.calls.push(call);
        }
    }
}

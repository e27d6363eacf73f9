//! The comparison of a server's seats with the store: once per heartbeat, and for all after a store outage.

use crate::ledger::Violation;
use crate::message::Id;
use crate::moves::keeps;
use crate::rule::Rule;
use crate::scenario::Scenario;
use crate::session::Session;
use crate::world::{KickTask, Seat, World};

type Moved = Result<(), Violation>;

impl World {
    /// Whether the once-per-heartbeat comparison would change anything: a live device's, or after a store outage for all.
    pub(crate) fn heartbeat_finds(&self, scenario: &Scenario, s: u8, i: usize) -> bool {
        let seat = &self.servers[usize::from(s)].seats[i];
        let heard = self.connection(seat.connection).is_some_and(|c| c.device_open);
        if !scenario.heartbeat || !(heard || seat.run != self.run) {
            return false;
        }
        let mine = self.store.session.is_some_and(|x| x.life == self.life(s) && x.epoch == seat.epoch);
        let lost = !mine && keeps(scenario, Rule::SessionIsReasserted);
        lost || self.went_back(scenario, s, seat) || self.unnoticed && heard || self.compare(scenario, seat).is_some()
    }

    /// The mailbox went back: an entry waits that this session has sent and settled, or skipped.
    fn went_back(&self, scenario: &Scenario, s: u8, seat: &Seat) -> bool {
        let server = &self.servers[usize::from(s)];
        let head = self.store.entries.iter().find(|e| !e.ended).map(|e| e.id);
        let settled = |id: Id| id <= seat.sent && !seat.in_flight.contains(&id);
        let pending = server.acks.is_some() || server.nacks.is_some();
        head.is_some_and(settled) && !pending && keeps(scenario, Rule::HeartbeatComparesFirst)
    }

    /// `Some(true)`: the mailbox has more than was sent. `Some(false)`: it has less, it went back.
    fn compare(&self, scenario: &Scenario, seat: &Seat) -> Option<bool> {
        let end = Id::new(self.store.generation, self.store.last);
        let ahead = if keeps(scenario, Rule::HeartbeatComparesGeneration) {
            end > seat.sent
        } else {
            end.sequence > seat.sent.sequence
        };
        if ahead && !seat.more && seat.reading.is_none() && keeps(scenario, Rule::HeartbeatComparesLast) {
            return Some(true);
        }
        let behind = end < seat.sent && self.store.lineage == self.run;
        (behind && keeps(scenario, Rule::SentAheadOpensGeneration)).then_some(false)
    }

    pub(crate) fn heartbeat(&mut self, scenario: &Scenario, s: u8) -> Moved {
        let Some(i) = self.attached_seat(s) else {
            return Ok(());
        };
        let now = self.now(scenario);
        let seat = self.servers[usize::from(s)].seats[i].clone();
        self.servers[usize::from(s)].seats[i].run = self.run;
        let life = self.life(s);
        let mine = self.store.session.is_some_and(|x| x.life == life && x.epoch == seat.epoch);
        if !mine && keeps(scenario, Rule::SessionIsReasserted) {
            let session = Session { life, epoch: seat.epoch, connection: seat.connection };
            let hello = self.connection(seat.connection).map(|c| c.hello);
            let attempt = hello.map_or((0, 0), |h| (h.boot, h.attempt));
            let (stays, replaced) = self.store.reassert(now, session, attempt);
            if !stays {
                return self.close(scenario, s, seat.connection, true);
            }
            if self.store.newest > seat.connection {
                return Err(Violation::OldReplacedNew(seat.connection));
            }
            if let Some(old) = replaced.filter(|o| o.life.server != s) {
                self.servers[usize::from(s)].kicks.push(KickTask {
                    to: old.life,
                    epoch: old.epoch,
                    winner: seat.connection,
                    sent: false,
                });
            }
        }
        if self.went_back(scenario, s, &seat) {
            return self.close(scenario, s, seat.connection, true);
        }
        match self.compare(scenario, &seat) {
            Some(true) => self.servers[usize::from(s)].seats[i].more = true,
            Some(false) => self.store.open_generation(now, seat.sent.generation),
            None => {}
        }
        self.unnoticed &= self.device.connection != Some(seat.connection);
        Ok(())
    }
}

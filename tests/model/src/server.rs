//! What an IM-server does with its table: attach, acks, kicks, heartbeats.

use crate::ledger::Violation;
use crate::message::Id;
use crate::moves::{How, Move, keeps};
use crate::rule::Rule;
use crate::scenario::Scenario;
use crate::session::Attached;
use crate::world::{Answer, KickTask, Net, Phase, Seat, Server, Up, World};

type Moved = Result<(), Violation>;

impl World {
    /// What servers can do now.
    pub(crate) fn server_moves(&self, scenario: &Scenario, out: &mut Vec<Move>) {
        for c in &self.connections {
            let number = c.hello.connection;
            if !c.server_open {
                continue;
            }
            if !c.greeted {
                out.extend(self.ways(&[How::Well, How::ReplyLost, How::Late]).map(|h| Move::Attach(number, h)));
            }
            if let Some(frame) = c.up.first() {
                let event = matches!(frame, Up::Event { .. });
                let ways: &[How] = if event { &[How::Well, How::ReplyLost] } else { &[How::Well] };
                out.extend(self.ways(ways).map(|h| Move::TakeUp(number, h)));
            }
            if c.greeted && !c.device_open && scenario.cut {
                out.push(Move::NoticeClosed(number));
            }
        }
        for s in 0..scenario.servers {
            self.table_moves(scenario, s, out);
            if self.left.crashes > 0 {
                out.push(Move::Crash(s));
            }
        }
    }

    fn table_moves(&self, scenario: &Scenario, s: u8, out: &mut Vec<Move>) {
        let server = &self.servers[usize::from(s)];
        for seat in &server.seats {
            match &seat.phase {
                Phase::Attaching(Some(_)) => out.push(Move::AttachReply(s, seat.connection)),
                Phase::Attaching(None) => {
                    out.extend(self.ways(&[How::Well]).map(|h| Move::RetryAttach(s, seat.connection, h)));
                }
                Phase::Attached => {}
            }
        }
        if let Some(i) = self.attached_seat(s) {
            let seat = &server.seats[i];
            let room = seat.in_flight.len() < usize::from(scenario.limits.window);
            let free = seat.reading.is_none() || scenario.broken.breaks(Rule::OneReadAtATime);
            if seat.more && room && free {
                let ways: &[How] = if seat.reading.is_none() { &[How::Well, How::Late] } else { &[How::Well] };
                out.extend(self.ways(ways).map(|h| Move::Read(s, h)));
            }
            if seat.reading.is_some() {
                out.push(Move::ReadReply(s));
            }
            if self.heartbeat_finds(scenario, s, i) {
                out.push(Move::Heartbeat(s));
            }
        }
        if server.acks.is_some() || server.nacks.is_some() {
            let ways = &[How::Well, How::ReplyLost, How::RequestLost, How::Late];
            out.extend(self.ways(ways).map(|h| Move::WriteAcks(s, h)));
        }
        for (k, task) in (0u8..).zip(&server.kicks) {
            let life = self.life(s);
            let under_way = self.net.iter().any(
                |n| matches!(n, Net::Kick { to, epoch, from, .. } if *to == task.to && *epoch == task.epoch && *from == life),
            );
            let given_up = task.sent && scenario.broken.breaks(Rule::KickIsRetried);
            if !(under_way || given_up) {
                out.push(Move::SendKick(s, k));
            }
        }
    }

    /// The server reads a `Hello`: a seat in the table first, then the store.
    pub(crate) fn greet(&mut self, scenario: &Scenario, number: u8, how: How) -> Moved {
        let Some(c) = self.connection_mut(number) else {
            return Ok(());
        };
        c.greeted = true;
        let s = c.life.server;
        let run = self.run;
        self.servers[usize::from(s)].seats.push(Seat {
            connection: number,
            phase: Phase::Attaching(None),
            epoch: 0,
            offered: 0,
            sent: Id::default(),
            stream: 0,
            answered: 0,
            in_flight: Vec::new(),
            more: false,
            reading: None,
            run,
            calls: Vec::new(),
        });
        self.attach(scenario, s, number, how)
    }

    /// One try of `attach` in the store.
    pub(crate) fn attach(&mut self, scenario: &Scenario, s: u8, number: u8, how: How) -> Moved {
        self.pay(how);
        let Some(hello) = self.connection(number).map(|c| c.hello) else {
            return Ok(());
        };
        let now = self.now(scenario);
        let reply = self.store.attach(now, self.life(s), hello);
        self.unnoticed &= self.device.connection != Some(number);
        let Some(attached) = reply else {
            return if how == How::Well { self.close(scenario, s, number, false) } else { Ok(()) };
        };
        if self.store.revoked {
            return Err(Violation::RevokedAttached);
        }
        if attached.replaced.is_some_and(|old| old.connection > number) {
            return Err(Violation::OldReplacedNew(number));
        }
        if let Some(head) = attached.items.first() {
            let facts = &mut self.ledger.messages[usize::from(head.message)];
            facts.offers = (facts.offers + 1).min(scenario.limits.attempts);
        }
        match how {
            How::Late => {
                if let Some(i) = self.seat_of(s, number) {
                    self.servers[usize::from(s)].seats[i].phase = Phase::Attaching(Some(attached));
                }
                Ok(())
            }
            How::Well => self.seat(scenario, s, number, attached),
            _ => Ok(()),
        }
    }

    pub(crate) fn attach_reply(&mut self, scenario: &Scenario, s: u8, number: u8) -> Moved {
        let Some(i) = self.seat_of(s, number) else {
            return Ok(());
        };
        let phase = std::mem::replace(&mut self.servers[usize::from(s)].seats[i].phase, Phase::Attaching(None));
        match phase {
            Phase::Attaching(Some(attached)) => self.seat(scenario, s, number, attached),
            _ => Ok(()),
        }
    }

    /// The store's answer is here: the device is welcomed, older ones are closed, the first entries go out.
    fn seat(&mut self, scenario: &Scenario, s: u8, number: u8, attached: Attached) -> Moved {
        let server = &mut self.servers[usize::from(s)];
        let newer = if keeps(scenario, Rule::LateReplyIsNotBelieved) {
            attached.epoch < server.known
        } else {
            server.seats.iter().any(|o| o.phase == Phase::Attached && o.epoch > attached.epoch)
        };
        let late = newer || attached.epoch <= server.kicked && keeps(scenario, Rule::KickReachesAttaching);
        if let Some(old) = attached.replaced
            && old.life.server != s
            && (!late || keeps(scenario, Rule::LateReplyStillKicks))
        {
            server.kicks.push(KickTask { to: old.life, epoch: old.epoch, winner: number, sent: false });
        }
        if late {
            return self.close(scenario, s, number, false);
        }
        server.known = server.known.max(attached.epoch);
        let older: Vec<u8> = server
            .seats
            .iter()
            .filter(|o| o.connection != number && o.phase == Phase::Attached)
            .map(|o| o.connection)
            .collect();
        let waiting = std::mem::take(&mut server.waiting);
        for old in older {
            self.close(scenario, s, old, false)?;
        }
        let Some(i) = self.seat_of(s, number) else {
            return Ok(());
        };
        let seat = &mut self.servers[usize::from(s)].seats[i];
        seat.phase = Phase::Attached;
        seat.epoch = attached.epoch;
        seat.offered = attached.offered;
        seat.sent = Id::default();
        (seat.stream, seat.answered) = (attached.generation, attached.generation);
        let told = seat.more && keeps(scenario, Rule::AttachingSetsMoreWaiting);
        seat.more = attached.more || told;
        self.welcome(number, attached.epoch, attached.generation);
        for item in attached.items {
            self.send_item(scenario, s, i, item);
        }
        let seat = &mut self.servers[usize::from(s)].seats[i];
        seat.sent = seat.sent.max(attached.sent);
        for (call, _) in waiting {
            self.hand_call(s, i, call);
        }
        Ok(())
    }

    /// Takes a connection out of the table and closes it. `detach` tells the store.
    pub(crate) fn close(&mut self, scenario: &Scenario, s: u8, number: u8, detach: bool) -> Moved {
        if let Some(c) = self.connection_mut(number) {
            c.server_open = false;
            c.up.clear();
        }
        let all = scenario.broken.breaks(Rule::TableRemovesOwnEntry);
        let mut gone = Vec::new();
        let server = &mut self.servers[usize::from(s)];
        server.seats.retain(|seat| {
            let mine = seat.connection == number || all && seat.phase == Phase::Attached && detach;
            if mine {
                gone.push(seat.clone());
            }
            !mine
        });
        for seat in gone {
            if seat.connection > number {
                return Err(Violation::OldEndedNew(seat.connection));
            }
            for call in seat.calls {
                let answer =
                    if keeps(scenario, Rule::BrokenIsDisconnected) { Answer::Disconnected } else { Answer::Offline };
                self.answer(call, answer)?;
            }
            if detach && seat.phase == Phase::Attached {
                self.put(Net::Detach { from: self.life(s), epoch: seat.epoch, connection: number });
            }
        }
        let server = &mut self.servers[usize::from(s)];
        if server.seats.is_empty() {
            let known = server.known;
            for (call, _) in std::mem::take(&mut server.waiting) {
                self.put(Net::NotHere { call, known });
            }
        }
        Ok(())
    }

    /// The socket of a connection turns out to be dead.
    pub(crate) fn notice_closed(&mut self, scenario: &Scenario, number: u8) -> Moved {
        let Some(c) = self.connection(number) else {
            return Ok(());
        };
        let s = c.life.server;
        let attaching = self
            .seat_of(s, number)
            .is_some_and(|i| self.servers[usize::from(s)].seats[i].phase == Phase::Attaching(None));
        if attaching && scenario.broken.breaks(Rule::AttachRetriesWhileSocketLives) {
            return self.attach(scenario, s, number, How::Well);
        }
        self.close(scenario, s, number, true)
    }

    pub(crate) fn crash(&mut self, s: u8) {
        self.left.crashes -= 1;
        let server = &mut self.servers[usize::from(s)];
        *server = Server { incarnation: server.incarnation + 1, ..Server::default() };
    }

    /// Writes what devices acknowledged and refused.
    pub(crate) fn write_acks(&mut self, scenario: &Scenario, s: u8, how: How) {
        self.pay(how);
        let now = self.now(scenario);
        let server = &mut self.servers[usize::from(s)];
        let (acks, nacks) = (server.acks, server.nacks);
        if how != How::RequestLost {
            let both = keeps(scenario, Rule::NackBeforeLaterAck);
            if let Some(nacks) = nacks.filter(|_| both || acks.is_none()) {
                self.store.reject(now, nacks);
                if how != How::ReplyLost {
                    server.nacks = None;
                }
            }
            if let Some((id, sent)) = acks {
                self.store.acknowledge(now, id, sent);
                if how != How::ReplyLost {
                    server.acks = None;
                }
            }
        } else if scenario.broken.breaks(Rule::AckIsRetried) {
            (server.acks, server.nacks) = (None, None);
        }
        if let Some((id, sent)) = acks {
            match how {
                How::Well => self.tell_acked(scenario, sent),
                How::Late => self.put(Net::Ack { id, sent }),
                _ => {}
            }
        }
    }

    /// Callers that wait for `acked` are told, of those that the store has so.
    fn tell_acked(&mut self, scenario: &Scenario, sent: u16) {
        let early = scenario.broken.breaks(Rule::AckedAfterStored);
        let states = self.states(scenario);
        for (facts, state) in self.ledger.messages.iter_mut().zip(states) {
            if let Some((id, state)) = state {
                let stored = state == crate::message::State::Acked;
                facts.acked |= sent & (1 << id.sequence) != 0 && (stored || early);
            }
        }
    }

    /// A frame from a device.
    pub(crate) fn take_up(&mut self, scenario: &Scenario, number: u8, how: How) -> Moved {
        self.pay(how);
        let Some(c) = self.connection_mut(number) else {
            return Ok(());
        };
        let s = c.life.server;
        let frame = if how == How::ReplyLost { c.up[0].clone() } else { c.up.remove(0) };
        let Some(i) = self.seat_of(s, number) else {
            return Ok(());
        };
        match frame {
            Up::Generation(g) => self.servers[usize::from(s)].seats[i].answered = g,
            Up::Ack(sequence) => self.take_ack(scenario, s, i, sequence),
            Up::Nack(sequence) => {
                let server = &mut self.servers[usize::from(s)];
                let seat = &mut server.seats[i];
                let generation = seat.answered;
                seat.in_flight.retain(|f| *f != Id::new(generation, sequence));
                let sent = server.nacks.filter(|n| n.0 == generation).map_or(0, |n| n.1);
                server.nacks = Some((generation, sent | 1 << sequence));
            }
            Up::Reply(call) => {
                self.servers[usize::from(s)].seats[i].calls.retain(|c| *c != call);
                return self.answer(call, Answer::Reply);
            }
            Up::Event { queue, sequence, event } => {
                let now = self.now(scenario);
                self.store.append_event(now, queue, sequence, event);
                if how == How::Well && self.device.connection == Some(number) && self.device.event_queue == queue {
                    self.device.events.retain(|(s, _)| *s > sequence);
                }
            }
        }
        Ok(())
    }

    fn take_ack(&mut self, scenario: &Scenario, s: u8, i: usize, sequence: u8) {
        let server = &mut self.servers[usize::from(s)];
        let seat = &mut server.seats[i];
        let generation =
            if keeps(scenario, Rule::AcksBelongToAnsweredGeneration) { seat.answered } else { seat.stream };
        let id = Id::new(generation, sequence);
        let mut sent = 0;
        seat.in_flight.retain(|f| {
            if *f <= id {
                sent |= 1 << f.sequence;
            }
            *f > id
        });
        let (old, bits) = server.acks.unwrap_or_default();
        server.acks = Some((old.max(id), bits | sent));
        if scenario.broken.breaks(Rule::AckedAfterStored) {
            self.tell_acked(scenario, sent);
        }
    }

    pub(crate) fn send_kick(&mut self, scenario: &Scenario, s: u8, k: u8) {
        let from = self.life(s);
        let alive = self.is_alive(self.servers[usize::from(s)].kicks[usize::from(k)].to);
        let server = &mut self.servers[usize::from(s)];
        if !alive && keeps(scenario, Rule::KickNamesTheIncarnation) {
            server.kicks.remove(usize::from(k));
            return;
        }
        let task = &mut server.kicks[usize::from(k)];
        task.sent = true;
        let kick = Net::Kick { to: task.to, epoch: task.epoch, from, winner: task.winner };
        let (to, epoch) = (task.to, task.epoch);
        if keeps(scenario, Rule::KickDropsRouteCache) && self.cache == Some((to, epoch)) {
            self.cache = None;
        }
        self.put(kick);
    }
}

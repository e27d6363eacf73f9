//! What routes and their clients do, and what comes off the net.

use crate::ledger::Violation;
use crate::message::{Appended, Since};
use crate::moves::{How, Move, keeps};
use crate::rule::Rule;
use crate::scenario::Scenario;
use crate::session::Life;
use crate::world::{Answer, CallPhase, Net, Phase, SendPhase, Told, World};

type Moved = Result<(), Violation>;

impl World {
    /// What routes can do now.
    pub(crate) fn route_moves(&self, scenario: &Scenario, out: &mut Vec<Move>) {
        for m in 0..scenario.sends {
            let may = match self.sends[usize::from(m)].phase {
                SendPhase::Idle => !self.unnoticed && self.may_begin(scenario, m),
                SendPhase::Retrying => true,
                SendPhase::Done => false,
            };
            if may {
                let ways = &[How::Well, How::ReplyLost, How::RequestLost, How::Late, How::HungUp, How::RouteKilled];
                out.extend(self.ways(ways).map(|h| Move::Append(m, h)));
            }
        }
        for (c, call) in (0u8..).zip(&self.calls) {
            match call.phase {
                CallPhase::Idle => out.push(Move::Ask(c)),
                CallPhase::Asked(life, epoch) => {
                    out.push(Move::Deadline(c));
                    if !self.is_alive(life) {
                        out.push(Move::NoticeServerGone(c));
                    } else if !call.looked_again && self.look_up(scenario).is_some_and(|s| s != (life, epoch)) {
                        out.push(Move::LookAgain(c));
                    }
                }
                CallPhase::Done(_) => {}
            }
        }
    }

    /// Sends begin in their order (they are alike); a repeated one when its client has no answer.
    fn may_begin(&self, scenario: &Scenario, m: u8) -> bool {
        let Some(before) = m.checked_sub(1).map(|b| &self.sends[usize::from(b)]) else {
            return true;
        };
        if scenario.repeated && m == 1 {
            return before.phase == SendPhase::Done && !matches!(before.told, Told::Stored(_));
        }
        before.phase != SendPhase::Idle
    }

    /// The ledger's message and the client's key of a send.
    fn sent_as(scenario: &Scenario, send: u8) -> (u8, Option<u8>) {
        if scenario.repeated && send < 2 { (0, Some(0)) } else { (send, None) }
    }

    /// One try of `append`, and the `Deliver` after it.
    pub(crate) fn append(&mut self, scenario: &Scenario, m: u8, how: How) {
        self.pay(how);
        let send = &mut self.sends[usize::from(m)];
        let retry = send.phase == SendPhase::Retrying;
        if !retry {
            send.since = Since { evicted: self.store.evicted, run: self.run };
        }
        send.phase = SendPhase::Retrying;
        let since = send.since;
        if how == How::RequestLost {
            return;
        }
        if how == How::Late {
            return self.put(Net::Append { send: m, retry, since });
        }
        let result = self.append_in_store(scenario, m, retry, since);
        if how == How::ReplyLost {
            return;
        }
        let send = &mut self.sends[usize::from(m)];
        send.phase = SendPhase::Done;
        let Appended::Stored(id, session) = result else {
            send.told = Told::Unknown;
            return;
        };
        if how == How::Well {
            send.told = Told::Stored(id);
        }
        let cancelled = how == How::HungUp && scenario.broken.breaks(Rule::AppendOutlivesTheClient);
        if cancelled || how == How::RouteKilled {
            return;
        }
        let known = if keeps(scenario, Rule::AppendReturnsSession) {
            session.map(|s| s.life)
        } else {
            self.cache.map(|(life, _)| life)
        };
        if let Some(to) = known {
            let message = Self::sent_as(scenario, m).0;
            self.put(Net::Deliver { to, id, message });
        }
    }

    fn append_in_store(&mut self, scenario: &Scenario, m: u8, retry: bool, since: Since) -> Appended {
        let (message, key) = Self::sent_as(scenario, m);
        let now = self.now(scenario);
        let last = self.store.last;
        let result = self.store.append(now, (m, message), retry, since, key);
        if let Appended::Stored(id, _) = result
            && self.store.last > last
        {
            self.note_append(message, id);
        }
        result
    }

    /// What the store says of the device's session now.
    fn look_up(&self, scenario: &Scenario) -> Option<(Life, u8)> {
        let session = self.store.session.map(|s| (s.life, s.epoch));
        session.filter(|(life, _)| self.counts(scenario, *life))
    }

    /// Whether a route takes what it knows of a session for true.
    fn counts(&self, scenario: &Scenario, life: Life) -> bool {
        self.is_alive(life) || scenario.broken.breaks(Rule::RouteComparesIncarnation)
    }

    /// A client asks for a call.
    pub(crate) fn ask(&mut self, scenario: &Scenario, c: u8) -> Moved {
        self.ledger.calls[usize::from(c)].away = !self.is_in_store();
        self.cache = self.cache.filter(|(life, _)| self.counts(scenario, *life));
        if self.cache.is_none() {
            self.cache = self.look_up(scenario);
            self.calls[usize::from(c)].looked = true;
        }
        self.send_call(c, self.cache)
    }

    fn send_call(&mut self, c: u8, session: Option<(Life, u8)>) -> Moved {
        let Some((to, epoch)) = session else {
            return self.answer(c, Answer::Offline);
        };
        self.calls[usize::from(c)].phase = CallPhase::Asked(to, epoch);
        self.ledger.calls[usize::from(c)].asked |= self.is_alive(to);
        self.put(Net::Call { call: c, to, epoch });
        Ok(())
    }

    /// A server says that it does not have the device.
    fn not_here(&mut self, scenario: &Scenario, c: u8, known: u8) -> Moved {
        let CallPhase::Asked(life, epoch) = self.calls[usize::from(c)].phase else {
            return Ok(());
        };
        self.cache = self.cache.filter(|s| *s != (life, epoch));
        let believed = known >= epoch || scenario.broken.breaks(Rule::NotHereNamesTheEpoch);
        let looks = !self.calls[usize::from(c)].looked && keeps(scenario, Rule::LooksUpBeforeOffline);
        self.calls[usize::from(c)].looked = true;
        let now_at = self.look_up(scenario);
        if looks && now_at != Some((life, epoch)) {
            return self.send_call(c, now_at);
        }
        if believed { self.answer(c, Answer::Offline) } else { Ok(()) }
    }

    /// After a quarter of the deadline: the session moved, the old server is told.
    pub(crate) fn look_again(&mut self, scenario: &Scenario, c: u8) {
        self.calls[usize::from(c)].looked_again = true;
        let CallPhase::Asked(to, epoch) = self.calls[usize::from(c)].phase else {
            return;
        };
        let Some(session) = self.store.session else {
            return;
        };
        if keeps(scenario, Rule::CallIsSentOnce) {
            self.put(Net::Kick { to, epoch, from: to, winner: session.connection });
        } else {
            self.put(Net::Call { call: c, to: session.life, epoch: session.epoch });
        }
    }

    pub(crate) fn deadline(&mut self, c: u8) -> Moved {
        self.ledger.calls[usize::from(c)].deadline_passed = true;
        self.answer(c, Answer::Deadline)
    }

    /// The link to the server that was asked is gone.
    pub(crate) fn notice_server_gone(&mut self, scenario: &Scenario, c: u8) -> Moved {
        self.net.retain(|n| !matches!(n, Net::Call { call, .. } if *call == c));
        let answer = if keeps(scenario, Rule::BrokenIsDisconnected) { Answer::Disconnected } else { Answer::Offline };
        self.answer(c, answer)
    }

    /// What may happen to what is under way.
    pub(crate) fn net_moves(&self, out: &mut Vec<Move>) {
        for (n, net) in (0u8..).zip(&self.net) {
            if n > 0 && self.net[usize::from(n - 1)] == *net {
                continue;
            }
            out.push(Move::Take(n));
            let repeats = matches!(net, Net::Deliver { .. } | Net::Kick { .. } | Net::Detach { .. });
            if repeats && self.left.delays > 0 {
                out.push(Move::TakeAndRepeat(n));
            }
            let hint = matches!(net, Net::Deliver { .. }) && self.left.hints > 0;
            if hint || self.left.losses > 0 && !matches!(net, Net::Ack { .. } | Net::Append { .. }) {
                out.push(Move::Lose(n));
            }
        }
    }

    pub(crate) fn take(&mut self, scenario: &Scenario, n: u8, repeat: bool) -> Moved {
        let net = if repeat { self.net[usize::from(n)].clone() } else { self.net.remove(usize::from(n)) };
        match net {
            Net::Append { send, retry, since } => {
                self.append_in_store(scenario, send, retry, since);
            }
            Net::Deliver { to, id, message } => self.hint(scenario, to.server, id, message),
            Net::Kick { to, epoch, from, winner } => return self.kicked(scenario, to, epoch, from, winner),
            Net::Detach { from, epoch, connection } => {
                let now = self.now(scenario);
                if let Some(gone) = self.store.detach(now, from, epoch)
                    && gone.connection != connection
                {
                    return Err(Violation::OldEndedNew(gone.connection));
                }
            }
            Net::Ack { id, sent } => {
                let now = self.now(scenario);
                self.store.acknowledge(now, id, sent);
            }
            Net::Call { call, to, epoch } => self.call_device(scenario, call, to, epoch),
            Net::NotHere { call, known } => return self.not_here(scenario, call, known),
        }
        Ok(())
    }

    /// A kick arrives: the older session is closed, the kicker's task is done.
    fn kicked(&mut self, scenario: &Scenario, to: Life, epoch: u8, from: Life, winner: u8) -> Moved {
        let s = to.server;
        let server = &mut self.servers[usize::from(s)];
        server.kicked = server.kicked.max(epoch);
        let any = scenario.broken.breaks(Rule::KickNamesTheEpoch);
        let closed: Vec<u8> = server
            .seats
            .iter()
            .filter(|x| x.phase == Phase::Attached && (x.epoch <= epoch || any))
            .map(|x| x.connection)
            .collect();
        for number in closed {
            if number >= winner && self.store.session.is_some_and(|x| x.connection == number) {
                return Err(Violation::OldEndedNew(number));
            }
            self.close(scenario, s, number, true)?;
        }
        if self.is_alive(from) {
            let kicker = &mut self.servers[usize::from(from.server)];
            kicker.kicks.retain(|k| k.to != to || k.epoch != epoch);
        }
        Ok(())
    }
}

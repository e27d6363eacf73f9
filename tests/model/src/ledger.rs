//! What really happened, seen by nobody inside: the promises of DESIGN §2 are judged against it.

use crate::message::{Id, Item, Outcome, State};
use crate::scenario::Scenario;
use crate::world::{Answer, CallPhase, Down, Net, Phase, Told, World};

/// A broken promise. The number is that of the message, call, event or connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// Promise 1: stored, and neither handled nor ended with a state that says so.
    Lost(u8),
    /// Promise 1: the backend's request was never answered.
    Unanswered(u8),
    /// Promise 2: handed over again without a power loss that allows it.
    Doubled(u8),
    /// Promise 2: handed over again without the `redelivered` mark.
    Unmarked(u8),
    /// Promise 2: handed over before an earlier one, or after a later one.
    OutOfOrder(u8),
    /// Promise 3 and honest states: a state that says what did not happen.
    FalseState(u8, State),
    /// A state that was reported and then another that contradicts it.
    StateWentBack(u8, State, State),
    /// Promise 4: a call ran twice.
    CallTwice(u8),
    /// Promise 4: a call started after its deadline.
    CallLate(u8),
    /// Promise 4: `offline` for a call that ran, or whose device was attached all along.
    CallDenied(u8),
    /// Promise 4: `disconnected`, that is "may have run", for a call that no living server was asked for.
    CallDoubted(u8),
    /// Promise 5: an event is counted twice.
    EventTwice(u8),
    /// Promise 5: an event is gone from the device and not in the stream.
    EventLost(u8),
    /// Promise 6: an attach of an older connection beat a newer session.
    OldReplacedNew(u8),
    /// Promise 6: a newer session was closed or removed for an older one's sake.
    OldEndedNew(u8),
    /// Promise 6: an older session was not told and closed.
    OldNeverClosed(u8),
    /// Promise 7: at rest, and the device is not attached.
    NotAttached,
    /// Promise 8: more sent than the device said it can hold.
    WindowExceeded,
    /// A revoked device was attached.
    RevokedAttached,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Message {
    /// When it took effect in the store, 0 = never, and how it is called since.
    pub(crate) stamp: u8,
    pub(crate) id: Option<Id>,
    pub(crate) handed: u8,
    /// How often an attach offered it as the head of the mailbox.
    pub(crate) offers: u8,
    pub(crate) finished: bool,
    pub(crate) rejected: bool,
    /// A power loss since it was handed over allows it once more.
    pub(crate) again: bool,
    /// The store lost it in a rollback.
    pub(crate) lost: bool,
    /// A backend was told `acked`.
    pub(crate) acked: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct CallFacts {
    pub(crate) ran: u8,
    pub(crate) deadline_passed: bool,
    /// It went to a server that lived.
    pub(crate) asked: bool,
    /// The device was not attached at some time during the call.
    pub(crate) away: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) messages: Vec<Message>,
    pub(crate) calls: Vec<CallFacts>,
    pub(crate) stamps: u8,
    pub(crate) published: u8,
    /// Events that a power loss took with the device's RAM, one bit each.
    pub(crate) events_gone: u8,
}

type Judged = Result<(), Violation>;

impl Ledger {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            messages: vec![Message::default(); usize::from(scenario.sends)],
            calls: vec![CallFacts::default(); usize::from(scenario.calls)],
            ..Self::default()
        }
    }
}

impl World {
    /// The device's application gets a message.
    pub(crate) fn judge_handing(&mut self, item: Item) -> Judged {
        let m = item.message;
        let facts = self.ledger.messages[usize::from(m)].clone();
        let earlier_waits = self.store.entries.iter().any(|e| {
            let other = &self.ledger.messages[usize::from(e.message)];
            !e.ended && e.id < item.id && other.handed == 0 && self.passed & (1 << e.message) == 0
        });
        let later_went = self.ledger.messages.iter().any(|o| o.handed > 0 && o.stamp > facts.stamp);
        if facts.handed == 0 && (earlier_waits || later_went) {
            return Err(Violation::OutOfOrder(m));
        }
        if facts.handed > 0 && !facts.again {
            return Err(Violation::Doubled(m));
        }
        if facts.handed > 0 && !item.redelivered {
            return Err(Violation::Unmarked(m));
        }
        let facts = &mut self.ledger.messages[usize::from(m)];
        facts.handed = (facts.handed + 1).min(3);
        facts.again = false;
        Ok(())
    }

    /// A call starts on the device.
    pub(crate) fn judge_run(&mut self, call: u8) -> Judged {
        let facts = &mut self.ledger.calls[usize::from(call)];
        facts.ran += 1;
        if facts.ran > 1 {
            return Err(Violation::CallTwice(call));
        }
        if facts.deadline_passed {
            return Err(Violation::CallLate(call));
        }
        if self.calls[usize::from(call)].phase == CallPhase::Done(Answer::Offline) {
            return Err(Violation::CallDenied(call));
        }
        Ok(())
    }

    /// A call gets its answer; the first one counts.
    pub(crate) fn answer(&mut self, call: u8, answer: Answer) -> Judged {
        let task = &mut self.calls[usize::from(call)];
        if matches!(task.phase, CallPhase::Done(_)) {
            return Ok(());
        }
        task.phase = CallPhase::Done(answer);
        let facts = &self.ledger.calls[usize::from(call)];
        if answer == Answer::Offline && (facts.ran > 0 || !facts.away) {
            return Err(Violation::CallDenied(call));
        }
        if answer == Answer::Disconnected && !facts.asked {
            return Err(Violation::CallDoubted(call));
        }
        Ok(())
    }

    /// What `message_state` says of each message now.
    pub(crate) fn states(&self, scenario: &Scenario) -> Vec<Option<(Id, State)>> {
        let now = self.now(scenario);
        let state = |m: &Message| m.id.map(|id| (id, self.store.state(now, id)));
        self.ledger.messages.iter().map(state).collect()
    }

    /// What must hold at every moment. `before` are the states before this move, absent when the store rolled back in it.
    pub(crate) fn judge(&mut self, scenario: &Scenario, before: Option<&[Option<(Id, State)>]>) -> Judged {
        let after = self.states(scenario);
        for (m, state) in (0u8..).zip(&after) {
            let Some((id, state)) = *state else { continue };
            let facts = &self.ledger.messages[usize::from(m)];
            let honest = match state {
                State::Acked => facts.finished,
                State::Ended(Outcome::Expired { may_have_run }) => may_have_run || facts.handed == 0,
                State::Ended(Outcome::Rejected) => facts.rejected,
                State::Ended(Outcome::Failed) => facts.offers >= scenario.limits.attempts,
                State::Ended(Outcome::Unknown) | State::Waiting | State::Sent => true,
            };
            if !honest {
                return Err(Violation::FalseState(m, state));
            }
            let unknown = State::Ended(Outcome::Unknown);
            if facts.acked && state != State::Acked && state != unknown {
                return Err(Violation::StateWentBack(m, State::Acked, state));
            }
            if let Some(Some((same, was))) = before.map(|b| b[usize::from(m)])
                && same == id
                && !may_follow(was, state)
            {
                return Err(Violation::StateWentBack(m, was, state));
            }
        }
        self.judge_events()?;
        let in_queue = self.device.queue.iter().filter(|d| matches!(d, Down::Message(_))).count();
        if in_queue > usize::from(scenario.limits.window) {
            return Err(Violation::WindowExceeded);
        }
        if !self.is_in_store() {
            for facts in &mut self.ledger.calls {
                facts.away = true;
            }
        }
        Ok(())
    }

    fn judge_events(&self) -> Judged {
        for event in 0..self.ledger.published {
            let counted = self.store.events.iter().filter(|e| **e == event).count();
            let kept = self.device.events.iter().any(|(_, e)| *e == event);
            if counted > 1 {
                return Err(Violation::EventTwice(event));
            }
            if counted == 0 && !kept && self.ledger.events_gone & (1 << event) == 0 {
                return Err(Violation::EventLost(event));
            }
        }
        Ok(())
    }

    /// What must hold when nothing moves any more by itself: no more faults, and everything was done.
    pub(crate) fn judge_rest(&self, scenario: &Scenario) -> Judged {
        if self.store.revoked {
            return Ok(());
        }
        if !self.is_attached() {
            return Err(Violation::NotAttached);
        }
        for server in &self.servers {
            if let Some(seat) = server.seats.iter().find(|s| Some(s.connection) != self.device.connection) {
                return Err(Violation::OldNeverClosed(seat.connection));
            }
            debug_assert!(server.seats.iter().all(|s| s.phase == Phase::Attached));
        }
        let states = self.states(scenario);
        for (m, facts) in (0u8..).zip(&self.ledger.messages) {
            if facts.lost || facts.stamp == 0 {
                continue;
            }
            let done = match states[usize::from(m)].map(|(_, state)| state) {
                Some(State::Acked) => true,
                Some(State::Ended(Outcome::Unknown)) => facts.handed > 0 || self.passed & (1 << m) != 0,
                Some(State::Ended(_)) => true,
                Some(State::Waiting | State::Sent) | None => false,
            };
            if !done {
                return Err(Violation::Lost(m));
            }
        }
        for (i, call) in (0u8..).zip(&self.calls) {
            if matches!(call.phase, CallPhase::Asked(..)) {
                return Err(Violation::Unanswered(i));
            }
        }
        if let Some((_, event)) = self.device.events.first() {
            return Err(Violation::EventLost(*event));
        }
        Ok(())
    }

    /// The store went back to its backup: what it lost is not owed any more.
    pub(crate) fn note_rollback(&mut self) {
        let kept = &self.backup;
        for m in &mut self.ledger.messages {
            m.acked = false;
            let survives = m.id.is_some_and(|id| {
                let real = kept.bounds.iter().rev().find(|(_, first)| *first <= id.sequence);
                id.sequence <= kept.last && real.is_some_and(|(g, _)| *g == id.generation)
            });
            m.lost |= m.stamp > 0 && !survives;
        }
    }

    /// After a rollback that left no trace ids may repeat: those of lost messages mean nothing, and their hints are gone.
    pub(crate) fn forget_lost(&mut self) {
        for m in self.ledger.messages.iter_mut().filter(|m| m.lost) {
            m.id = None;
        }
        self.net.retain(|n| !matches!(n, Net::Deliver { .. }));
    }

    /// The device lost its power while it may have been in a handler.
    pub(crate) fn note_power_loss(&mut self, persistent: bool) {
        let started = self.device.handler.map(|i| i.message);
        for (i, m) in (0u8..).zip(&mut self.ledger.messages) {
            m.again |= m.handed > 0 && (!persistent || started == Some(i));
        }
    }

    /// A stored message got its id; `Told` is what the backend will hear.
    pub(crate) fn note_append(&mut self, message: u8, id: Id) -> Told {
        self.ledger.stamps += 1;
        let stamp = self.ledger.stamps;
        let m = &mut self.ledger.messages[usize::from(message)];
        if m.stamp == 0 || m.lost {
            (m.stamp, m.id) = (stamp, Some(id));
            m.lost = false;
        }
        Told::Stored(id)
    }
}

/// States only move on: waiting, sent, ended; and what ended may be forgotten, never changed.
fn may_follow(was: State, is: State) -> bool {
    let rank = |s| match s {
        State::Waiting => 0,
        State::Sent => 1,
        State::Acked | State::Ended(Outcome::Expired { .. } | Outcome::Failed | Outcome::Rejected) => 2,
        State::Ended(Outcome::Unknown) => 3,
    };
    rank(is) > rank(was) || is == was
}

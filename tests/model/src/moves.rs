//! The moves: what may happen next, and what it does.

use std::rc::Rc;

use crate::ledger::Violation;
use crate::rule::Rule;
use crate::scenario::Scenario;
use crate::store::Store;
use crate::world::{Net, World};

/// How a round trip ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// At once.
    Well,
    /// It took effect, the asker heard nothing.
    ReplyLost,
    /// It never arrived, the asker heard nothing.
    RequestLost,
    /// The asker heard nothing, and it may yet take effect; or its reply comes late.
    Late,
    /// It took effect, the HTTP client hung up meanwhile.
    HungUp,
    /// It took effect, the route was killed meanwhile.
    RouteKilled,
}

/// One step. A number in it is that of a server, connection, message, or place in the list it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are those of DESIGN §1 and §4")]
pub enum Move {
    // device
    Connect(u8),
    NoticeLoss,
    TakeFrame,
    Finish,
    PoisonReset,
    RunCall,
    SendEvent,
    Refuse,
    Drop,
    PowerLoss,
    Publish,
    // server
    Attach(u8, How),
    RetryAttach(u8, u8, How),
    AttachReply(u8, u8),
    TakeUp(u8, How),
    Read(u8, How),
    ReadReply(u8),
    WriteAcks(u8, How),
    SendKick(u8, u8),
    Heartbeat(u8),
    NoticeClosed(u8),
    Crash(u8),
    // route and clients
    Append(u8, How),
    Ask(u8),
    LookAgain(u8),
    Deadline(u8),
    NoticeServerGone(u8),
    // between processes: the place in `net`
    Take(u8),
    TakeAndRepeat(u8),
    Lose(u8),
    // store
    Backup,
    Rollback,
    RollbackUnnoticed,
    Expire(u8),
    Revoke,
}

impl Move {
    /// Whether it happens without anybody's wish or fault: when no such move is left, the world is at rest.
    pub fn is_progress(self) -> bool {
        match self {
            Self::Attach(_, how) | Self::RetryAttach(_, _, how) | Self::TakeUp(_, how) | Self::Read(_, how) => {
                how == How::Well
            }
            Self::WriteAcks(_, how) => how == How::Well,
            Self::Connect(_)
            | Self::NoticeLoss
            | Self::TakeFrame
            | Self::Finish
            | Self::PoisonReset
            | Self::RunCall
            | Self::SendEvent
            | Self::AttachReply(..)
            | Self::ReadReply(_)
            | Self::SendKick(..)
            | Self::Heartbeat(_)
            | Self::NoticeClosed(_)
            | Self::LookAgain(_)
            | Self::Deadline(_)
            | Self::NoticeServerGone(_)
            | Self::Take(_) => true,
            Self::Append(..)
            | Self::Ask(_)
            | Self::Refuse
            | Self::Drop
            | Self::PowerLoss
            | Self::Publish
            | Self::Crash(_)
            | Self::TakeAndRepeat(_)
            | Self::Lose(_)
            | Self::Backup
            | Self::Rollback
            | Self::RollbackUnnoticed
            | Self::Expire(_)
            | Self::Revoke => false,
        }
    }
}

impl World {
    /// Everything that may happen next.
    pub(crate) fn moves(&self, scenario: &Scenario) -> Vec<Move> {
        let mut out = Vec::with_capacity(16);
        self.device_moves(scenario, &mut out);
        self.server_moves(scenario, &mut out);
        self.route_moves(scenario, &mut out);
        self.net_moves(&mut out);
        self.store_moves(scenario, &mut out);
        out
    }

    /// Whether a send waits for its retry: not at rest, though the move is listed with the clients'.
    pub(crate) fn owes_retry(&self) -> bool {
        self.sends.iter().any(|s| s.phase == crate::world::SendPhase::Retrying)
    }

    /// Whether the device has a ticket that names the newest epoch, and no server has read it.
    fn logs_in(&self) -> bool {
        let own = self.device.connection.and_then(|number| self.connection(number));
        own.is_some_and(|c| !c.greeted && c.hello.floor == self.store.epoch)
    }

    fn store_moves(&self, scenario: &Scenario, out: &mut Vec<Move>) {
        let left = &self.left;
        if left.backups > 0 {
            out.push(Move::Backup);
        }
        if left.rollbacks > 0 && (!scenario.under_login || self.logs_in()) {
            out.push(Move::Rollback);
        }
        if left.unnoticed > 0 {
            out.push(Move::RollbackUnnoticed);
        }
        if left.revocations > 0 {
            out.push(Move::Revoke);
        }
        if left.expiries > 0 {
            let stored = |m: &u8| self.ledger.messages[usize::from(*m)].stamp > 0 && self.passed & (1 << m) == 0;
            out.extend((0..scenario.sends).filter(stored).map(Move::Expire));
        }
    }

    /// Makes the move and judges it.
    pub(crate) fn after(&self, scenario: &Scenario, mv: Move) -> Result<Self, Violation> {
        let mut next = self.clone();
        let before = (!matches!(mv, Move::Rollback | Move::RollbackUnnoticed)).then(|| self.states(scenario));
        next.make(scenario, mv)?;
        next.tidy(scenario);
        next.judge(scenario, before.as_deref())?;
        Ok(next)
    }

    fn make(&mut self, scenario: &Scenario, mv: Move) -> Result<(), Violation> {
        match mv {
            Move::Connect(s) => self.connect(s),
            Move::NoticeLoss => self.lose_connection(),
            Move::TakeFrame => return self.take_frame(scenario),
            Move::Finish => self.finish(scenario, false),
            Move::PoisonReset => self.lose_power(scenario),
            Move::RunCall => return self.run_call(scenario),
            Move::SendEvent => self.send_event(scenario),
            Move::Refuse => {
                self.left.nacks -= 1;
                self.finish(scenario, true);
            }
            Move::Drop => {
                self.left.drops -= 1;
                self.lose_connection();
            }
            Move::PowerLoss => {
                self.left.power -= 1;
                self.lose_power(scenario);
            }
            Move::Publish => {
                self.left.events -= 1;
                self.publish();
            }
            Move::Attach(c, how) => return self.greet(scenario, c, how),
            Move::RetryAttach(s, c, how) => return self.attach(scenario, s, c, how),
            Move::AttachReply(s, c) => return self.attach_reply(scenario, s, c),
            Move::TakeUp(c, how) => return self.take_up(scenario, c, how),
            Move::Read(s, how) => return self.read(scenario, s, how),
            Move::ReadReply(s) => self.read_reply(scenario, s),
            Move::WriteAcks(s, how) => self.write_acks(scenario, s, how),
            Move::SendKick(s, k) => self.send_kick(scenario, s, k),
            Move::Heartbeat(s) => return self.heartbeat(scenario, s),
            Move::NoticeClosed(c) => return self.notice_closed(scenario, c),
            Move::Crash(s) => self.crash(s),
            Move::Append(m, how) => self.append(scenario, m, how),
            Move::Ask(c) => return self.ask(scenario, c),
            Move::LookAgain(c) => self.look_again(scenario, c),
            Move::Deadline(c) => return self.deadline(c),
            Move::NoticeServerGone(c) => return self.notice_server_gone(scenario, c),
            Move::Take(n) => return self.take(scenario, n, false),
            Move::TakeAndRepeat(n) => {
                self.left.delays -= 1;
                return self.take(scenario, n, true);
            }
            Move::Lose(n) => {
                let lost = self.net.remove(usize::from(n));
                if self.left.hints > 0 && matches!(lost, Net::Deliver { .. }) {
                    self.left.hints -= 1;
                } else {
                    self.left.losses -= 1;
                }
            }
            Move::Backup => {
                self.left.backups -= 1;
                self.backup = Rc::new(self.store.clone());
            }
            Move::Rollback => {
                self.left.rollbacks -= 1;
                self.roll_back();
                self.run += 1;
            }
            Move::RollbackUnnoticed => {
                self.left.unnoticed -= 1;
                self.roll_back();
                self.forget_lost();
                self.unnoticed = true;
            }
            Move::Expire(m) => {
                self.left.expiries -= 1;
                self.passed |= 1 << m;
            }
            Move::Revoke => {
                self.left.revocations -= 1;
                self.store.revoked = true;
            }
        }
        Ok(())
    }

    fn roll_back(&mut self) {
        self.note_rollback();
        self.store = Store::clone(&self.backup);
        self.era += 1;
    }

    /// Pays for a round trip that does not end well.
    pub(crate) fn pay(&mut self, how: How) {
        match how {
            How::Well => {}
            How::ReplyLost | How::RequestLost => self.left.losses -= 1,
            How::Late => self.left.delays -= 1,
            How::HungUp => self.left.hang_ups -= 1,
            How::RouteKilled => self.left.route_crashes -= 1,
        }
    }

    /// The ways in which a round trip may end that the budget still allows, out of those that make sense for it.
    pub(crate) fn ways(&self, sensible: &'static [How]) -> impl Iterator<Item = How> + '_ {
        sensible.iter().copied().filter(|how| match how {
            How::Well => true,
            How::ReplyLost | How::RequestLost => self.left.losses > 0,
            How::Late => self.left.delays > 0,
            How::HungUp => self.left.hang_ups > 0,
            How::RouteKilled => self.left.route_crashes > 0,
        })
    }
}

/// Whether the scenario keeps the rule: the word that the parties' code reads best with.
pub(crate) fn keeps(scenario: &Scenario, rule: Rule) -> bool {
    scenario.broken.keeps(rule)
}

//! How messages ended, other than by an acknowledgement.

use std::collections::VecDeque;

use imlink_protocol::id::MessageId;

use super::Moment;
use crate::limits::{OUTCOME_AGE_MAX, OUTCOMES_MAX};
use crate::mailbox::State;

/// The last outcomes of a mailbox: at most 64, for at most 24 h.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    ring: VecDeque<(MessageId, State, u64)>,
    /// Highest sequence ever forgotten: up to it, "not here" proves nothing.
    floor: u64,
}

impl Outcomes {
    pub(super) fn insert(&mut self, id: MessageId, outcome: State, at: Moment) {
        if self.ring.len() >= OUTCOMES_MAX {
            self.forget_oldest();
        }
        self.ring.push_back((id, outcome, at.now_ms));
    }

    /// The outcome of a message that is below the ack line.
    pub(super) fn of(&mut self, id: MessageId, at: Moment) -> State {
        let oldest = at.now_ms.saturating_sub(OUTCOME_AGE_MAX.as_millis() as u64);
        while self.ring.front().is_some_and(|(_, _, since)| *since < oldest) {
            self.forget_oldest();
        }
        match self.ring.iter().find(|(ended, _, _)| *ended == id) {
            Some((_, outcome, _)) => *outcome,
            None if id.sequence <= self.floor => State::Unknown,
            None => State::Acked,
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((id, _, _)) = self.ring.pop_front() {
            self.floor = self.floor.max(id.sequence);
        }
    }
}

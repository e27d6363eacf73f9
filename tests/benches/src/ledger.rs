//! The requests in flight: when each was due, and that each is answered exactly once.

use std::collections::HashMap;
use std::time::Instant;

/// Requests by number; an answer takes its request out.
#[derive(Default)]
pub struct Ledger {
    open: HashMap<u64, Instant>,
    next: u64,
    strays: u64,
}

impl Ledger {
    /// Enters a request that was due at `due`; its number.
    pub fn begin(&mut self, due: Instant) -> u64 {
        let request = self.next;
        self.next += 1;
        self.open.insert(request, due);
        request
    }

    /// Takes an answered request out: when it was due. An answer to nothing is counted as a stray.
    pub fn finish(&mut self, request: u64) -> Option<Instant> {
        let due = self.open.remove(&request);
        self.strays += u64::from(due.is_none());
        due
    }

    /// Requests begun.
    pub fn begun(&self) -> u64 {
        self.next
    }

    /// Requests that wait for their answer.
    pub fn unanswered(&self) -> u64 {
        self.open.len() as u64
    }

    /// Answers to requests that were answered before or never made.
    pub fn strays(&self) -> u64 {
        self.strays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_answer_is_a_stray() {
        let mut ledger = Ledger::default();
        let due = Instant::now();
        let request = ledger.begin(due);
        assert_eq!(ledger.finish(request), Some(due));
        assert_eq!(ledger.finish(request), None);
        assert_eq!((ledger.unanswered(), ledger.strays()), (0, 1));
    }
}

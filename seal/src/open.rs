//! Handshakes that are open, counted for whom they claim to be.
//!
//! A first message is replayable: whoever has one could send it a thousand times and have each answered. Two of the
//! same may be open at once (a device that lost its link and comes again), more are not answered.

use std::collections::HashMap;
use std::hash::Hash;

/// Handshakes of one device and connection that may be open at once.
pub const OPEN_MAX: u8 = 2;

/// Open handshakes by who comes: about 150 bytes for each, and no more of them than connections without proof.
#[derive(Debug)]
pub struct OpenHandshakes<K>(HashMap<K, u8>);

impl<K> Default for OpenHandshakes<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> OpenHandshakes<K> {
    /// Counts a handshake of `who`; `false` when [`OPEN_MAX`] of them are open, and then there is nothing to leave.
    #[must_use]
    pub fn enter(&mut self, who: K) -> bool {
        let count = self.0.entry(who).or_default();
        let is_room = *count < OPEN_MAX;
        *count += u8::from(is_room);
        is_room
    }

    /// One that entered is done or over.
    pub fn leave(&mut self, who: &K) {
        if let Some(count) = self.0.get_mut(who) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_the_same_may_be_open_and_nothing_stays_of_those_that_left() {
        let mut open = OpenHandshakes::default();
        assert!(open.enter("lamp 1") && open.enter("lamp 1"));
        assert!(!open.enter("lamp 1"));
        assert!(open.enter("lamp 2"), "another connection of it");
        open.leave(&"lamp 1");
        assert!(open.enter("lamp 1"), "room again");
        for who in ["lamp 1", "lamp 1", "lamp 2"] {
            open.leave(&who);
        }
        assert!(open.0.is_empty());
    }
}

//! The sequences that a device was sent and has not acknowledged.
//!
//! ```text
//! base 8 · WINDOW_MAX × 4, each a sequence less the base · length          80 bytes
//! ```
//!
//! The base is the first sequence since nothing was in flight. One that is 2^32 and more behind it waits until then.

use heapless::Vec;

use crate::limits::WINDOW_MAX;

/// Sequences in order, at most [`WINDOW_MAX`].
#[derive(Debug, Default)]
pub(super) struct InFlight {
    base: u64,
    behind: Vec<u32, WINDOW_MAX, u8>,
}

impl InFlight {
    /// Whether `sequence`, larger than those there are, can be added.
    pub(super) fn has_room(&self, sequence: u64) -> bool {
        self.is_empty() || (!self.behind.is_full() && self.distance(sequence).is_some())
    }

    /// Adds `sequence` where there is room, see [`has_room`](Self::has_room).
    pub(super) fn push(&mut self, sequence: u64) {
        if self.is_empty() {
            self.base = sequence;
        }
        if let Some(distance) = self.distance(sequence) {
            // A full one has no room.
            let _ = self.behind.push(distance);
        }
    }

    /// Removes what is up to `sequence`; how many that were.
    pub(super) fn remove_upto(&mut self, sequence: u64) -> usize {
        let done = self.sequences().take_while(|oldest| *oldest <= sequence).count();
        self.behind.rotate_left(done);
        self.behind.truncate(self.behind.len() - done);
        done
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.sequences().any(|open| open == sequence)
    }

    pub(super) fn len(&self) -> usize {
        self.behind.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.behind.is_empty()
    }

    fn sequences(&self) -> impl Iterator<Item = u64> + '_ {
        self.behind.iter().map(|behind| self.base + u64::from(*behind))
    }

    fn distance(&self, sequence: u64) -> Option<u32> {
        sequence.checked_sub(self.base).and_then(|distance| u32::try_from(distance).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sequences: impl IntoIterator<Item = u64>) -> InFlight {
        let mut open = InFlight::default();
        sequences.into_iter().for_each(|sequence| open.push(sequence));
        open
    }

    #[test]
    fn what_is_acknowledged_is_removed_and_the_rest_stays_in_order() {
        let mut open = of([10, 12, 17]);
        assert_eq!(open.remove_upto(9), 0);
        assert_eq!(open.remove_upto(12), 2);
        assert!(!open.contains(12) && open.contains(17));
        open.push(18);
        assert_eq!((open.remove_upto(u64::MAX), open.len()), (2, 0));
    }

    #[test]
    fn a_full_window_and_a_sequence_too_far_ahead_wait() {
        let full = of(1..=WINDOW_MAX as u64);
        assert!(!full.has_room(100));
        let mut open = of([5]);
        assert!(open.has_room(5 + u64::from(u32::MAX)));
        assert!(!open.has_room(6 + u64::from(u32::MAX)));
        open.remove_upto(5);
        assert!(open.has_room(u64::MAX), "from here on it counts anew");
    }

    #[test]
    fn it_takes_80_bytes() {
        assert_eq!(size_of::<InFlight>(), 80);
    }
}

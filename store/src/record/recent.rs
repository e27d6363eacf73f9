//! The ids of the last appends of a mailbox.
//!
//! Each append takes the next sequence, so the id of sequence *s* lies in place *s* mod 16 and the result of
//! an append needs no room. Ids are kept as 64 bits of themselves.

use crate::limits::RECENT_MAX;

/// The last ids, 128 bytes.
#[derive(Debug, Default)]
pub(super) struct Recent {
    tags: [u64; RECENT_MAX],
}

impl Recent {
    /// Remembers the append that made `sequence`.
    pub(super) fn insert(&mut self, id: &[u8; 16], sequence: u64) {
        if let Some(tag) = self.tags.get_mut(place(sequence)) {
            *tag = tag_of(id);
        }
    }

    /// The sequence that this append made, if it is one of the last up to `last`.
    pub(super) fn find(&self, id: &[u8; 16], last: u64) -> Option<u64> {
        let wanted = tag_of(id);
        let oldest = last.saturating_sub(RECENT_MAX as u64 - 1).max(1);
        (oldest..=last).rev().find(|sequence| self.tags.get(place(*sequence)) == Some(&wanted))
    }
}

fn place(sequence: u64) -> usize {
    (sequence % RECENT_MAX as u64) as usize
}

/// 64 bits that differ for ids that differ, as good as any 64 random bits do; never 0, which is an empty place.
pub(crate) fn tag_of(id: &[u8; 16]) -> u64 {
    let whole = u128::from_le_bytes(*id);
    let (low, high) = (whole as u64, (whole >> 64) as u64);
    let mixed = low.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ high.wrapping_mul(0xc2b2_ae3d_27d4_eb4f).rotate_left(29);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sixteen_are_found_and_the_one_before_is_not() {
        let mut recent = Recent::default();
        let id = |n: u64| u128::from(n).to_be_bytes();
        for n in 1..=20 {
            recent.insert(&id(n), n);
        }
        assert_eq!(recent.find(&id(20), 20), Some(20));
        assert_eq!(recent.find(&id(5), 20), Some(5));
        assert_eq!(recent.find(&id(4), 20), None);
    }
}

//! Records of any length in a fixed piece of memory.
//!
//! ```text
//! bytes    record · record · …                   the rest is free
//! record   length (u16, little-endian) · postcard encoding
//! ```
//!
//! Removing a record moves the later ones up: these queues are short, a moved byte costs less than the
//! bookkeeping of a ring, and every record stays in one piece.

use core::cell::Cell;

use serde::{Deserialize, Serialize};

/// Records in the order they came.
#[derive(Debug)]
pub(crate) struct Queue<B: ?Sized = [u8]> {
    /// Bytes and records in use; both fit a `u16`, and a word each is enough on any machine.
    used: u32,
    count: u32,
    bytes: B,
}

/// The record does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Bytes of a record's length.
const HEAD: usize = 2;

impl<const N: usize> Queue<[u8; N]> {
    pub(crate) const fn new() -> Self {
        assert!(N <= u16::MAX as usize, "a queue has at most 65,535 bytes");
        Self { used: 0, count: 0, bytes: [0; N] }
    }
}

impl Queue {
    pub(crate) fn push<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<(), Full> {
        let (head, body) =
            self.bytes.get_mut(self.used as usize..).and_then(|free| free.split_at_mut_checked(HEAD)).ok_or(Full)?;
        let len = postcard::to_slice(record, body).map_err(|_| Full)?.len();
        head.copy_from_slice(&u16::try_from(len).map_err(|_| Full)?.to_le_bytes());
        self.used += (HEAD + len) as u32;
        self.count += 1;
        Ok(())
    }

    /// Record `index`, from the oldest.
    pub(crate) fn get<'a, T: Deserialize<'a>>(&'a self, index: usize) -> Option<T> {
        let (at, len) = self.place(index)?;
        postcard::from_bytes(self.bytes.get(at + HEAD..at + HEAD + len)?).ok()
    }

    pub(crate) fn iter<'a, T: Deserialize<'a> + 'a>(&'a self) -> impl Iterator<Item = T> + 'a {
        let mut rest = self.bytes.get(..self.used as usize).unwrap_or_default();
        core::iter::from_fn(move || {
            let (head, tail) = rest.split_at_checked(HEAD)?;
            let len = usize::from(u16::from_le_bytes(head.try_into().ok()?));
            let (record, tail) = tail.split_at_checked(len)?;
            rest = tail;
            postcard::from_bytes(record).ok()
        })
    }

    /// Overwrites the first byte of record `index`.
    pub(crate) fn set_first_byte(&mut self, index: usize, byte: u8) {
        if let Some(first) = self.place(index).and_then(|(at, _)| self.bytes.get_mut(at + HEAD)) {
            *first = byte;
        }
    }

    pub(crate) fn remove(&mut self, index: usize) {
        if let Some((at, len)) = self.place(index) {
            let (used, bytes) = (self.used as usize, &mut self.bytes);
            shift(bytes.get_mut(at..used).unwrap_or_default(), HEAD + len);
            self.used -= (HEAD + len) as u32;
            self.count -= 1;
        }
    }

    pub(crate) fn clear(&mut self) {
        (self.used, self.count) = (0, 0);
    }

    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether a record of `len` encoded bytes fits now.
    pub(crate) fn fits(&self, len: usize) -> bool {
        self.bytes.len() - self.used as usize >= HEAD + len
    }

    /// Whether at least half of it is free.
    #[cfg(feature = "flash")]
    pub(crate) fn is_half_empty(&self) -> bool {
        self.used as usize <= self.bytes.len() / 2
    }

    /// Bytes of the longest record when nothing else is there.
    pub(crate) fn record_max(&self) -> usize {
        self.bytes.len().saturating_sub(HEAD)
    }

    fn place(&self, index: usize) -> Option<(usize, usize)> {
        let mut at = 0;
        for _ in 0..index {
            at += HEAD + self.len_at(at)?;
        }
        Some((at, self.len_at(at)?))
    }

    fn len_at(&self, at: usize) -> Option<usize> {
        let head = self.bytes.get(..self.used as usize)?.get(at..at + HEAD)?;
        Some(usize::from(u16::from_le_bytes(head.try_into().ok()?)))
    }
}

/// Moves what lies behind the first `by` bytes to the front.
pub(crate) fn shift(bytes: &mut [u8], by: usize) {
    let cells = Cell::from_mut(bytes).as_slice_of_cells();
    let later = cells.get(by..).unwrap_or_default();
    cells.iter().zip(later).for_each(|(to, from)| to.set(from.get()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_order_and_leave_from_anywhere() {
        let mut queue: Queue<[u8; 32]> = Queue::new();
        let queue: &mut Queue = &mut queue;
        for word in ["one", "two", "three", "four"] {
            queue.push(&word).unwrap();
        }
        queue.remove(1);
        queue.remove(9);
        assert_eq!(queue.iter::<&str>().collect::<std::vec::Vec<_>>(), ["one", "three", "four"]);
        assert_eq!((queue.get::<&str>(2), queue.get::<&str>(3), queue.len()), (Some("four"), None, 3));
        assert_eq!(queue.push(&"seventeen letters"), Err(Full));
        assert!(queue.fits(9) && !queue.fits(11));
        queue.clear();
        assert_eq!((queue.len(), queue.record_max()), (0, 30));
        assert_eq!(queue.push(&[7u8; 30][..]), Err(Full), "its length does not fit any more");
    }
}

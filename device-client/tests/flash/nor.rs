//! NOR flash in memory: writes clear bits, power can fail, between words or in the middle of one.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_storage_async::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};

pub(crate) const PAGE: usize = 1024;
pub(crate) const SIZE: usize = 4 * PAGE;
const WORD: usize = 4;

/// A chip; clones are the same chip.
#[derive(Clone)]
pub(crate) struct Nor(Rc<RefCell<Chip>>);

struct Chip {
    bytes: Vec<u8>,
    erased: usize,
    /// Words that can be written until the power fails.
    left: Option<usize>,
    /// What the power leaves of the word or page in whose middle it fails; 0 leaves it untouched.
    torn: u64,
    /// Each word takes its time, so that a future can be dropped between two.
    is_slow: bool,
}

impl Nor {
    pub(crate) fn new(byte: u8) -> Self {
        Self(Rc::new(RefCell::new(Chip { bytes: vec![byte; SIZE], erased: 0, left: None, torn: 0, is_slow: false })))
    }

    /// The power fails after `words` more words.
    pub(crate) fn fail_after(&self, words: usize) {
        self.0.borrow_mut().left = Some(words);
    }

    /// The power fails in the middle of the word, or erasure, after `words` more. `seed` says what is left of that.
    pub(crate) fn tear_after(&self, words: usize, seed: u64) {
        let chip = &mut *self.0.borrow_mut();
        (chip.left, chip.torn) = (Some(words), seed);
    }

    /// Whether each word takes its time.
    pub(crate) fn set_slow(&self, is_slow: bool) {
        self.0.borrow_mut().is_slow = is_slow;
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.0.borrow().left == Some(0)
    }

    async fn work(&self) {
        if self.0.borrow().is_slow {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn power_on(&self) {
        self.0.borrow_mut().left = None;
    }

    pub(crate) fn erased(&self) -> usize {
        self.0.borrow().erased
    }
}

impl Chip {
    fn erase(&mut self, from: usize, to: usize) -> Result<(), NorFlashErrorKind> {
        self.spend().inspect_err(|_| {
            // A stretch of it is erased.
            let torn = core::mem::take(&mut self.torn);
            let ends = [torn as usize, (torn >> 32) as usize].map(|end| from + end % (to - from));
            self.bytes[ends[0].min(ends[1])..ends[0].max(ends[1])].fill(0xff);
        })?;
        self.erased += (to - from) / PAGE;
        self.bytes[from..to].fill(0xff);
        Ok(())
    }

    fn spend(&mut self) -> Result<(), NorFlashErrorKind> {
        match &mut self.left {
            Some(0) => Err(NorFlashErrorKind::Other),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl ErrorType for Nor {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        let from = offset as usize;
        bytes.copy_from_slice(&self.0.borrow().bytes[from..from + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        self.work().await;
        self.0.borrow_mut().erase(from as usize, to as usize)?;
        self.work().await;
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        assert!((offset as usize).is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD));
        for (at, word) in (offset as usize..).step_by(WORD).zip(bytes.chunks(WORD)) {
            self.work().await;
            let chip = &mut *self.0.borrow_mut();
            chip.spend().inspect_err(|_| {
                // Some of its bits are written.
                let torn = core::mem::take(&mut chip.torn).to_le_bytes();
                let kept = chip.bytes[at..at + WORD].iter_mut().zip(word).zip(torn);
                kept.for_each(|((kept, byte), torn)| *kept &= byte | !torn);
            })?;
            for (kept, byte) in chip.bytes[at..at + WORD].iter_mut().zip(word) {
                assert_eq!(*kept & byte, *byte, "a bit was written from 0 to 1");
                *kept = *byte;
            }
        }
        // Done, and nobody was told yet.
        self.work().await;
        Ok(())
    }
}

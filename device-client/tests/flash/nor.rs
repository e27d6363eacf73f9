//! NOR flash in memory: writes clear bits, power can fail.

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
}

impl Nor {
    pub(crate) fn new(byte: u8) -> Self {
        Self(Rc::new(RefCell::new(Chip { bytes: vec![byte; SIZE], erased: 0, left: None })))
    }

    /// The power fails after `words` more words.
    pub(crate) fn fail_after(&self, words: usize) {
        self.0.borrow_mut().left = Some(words);
    }

    pub(crate) fn power_on(&self) {
        self.0.borrow_mut().left = None;
    }

    pub(crate) fn erased(&self) -> usize {
        self.0.borrow().erased
    }
}

impl Chip {
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
        let chip = &mut *self.0.borrow_mut();
        chip.spend()?;
        chip.erased += (to - from) as usize / PAGE;
        chip.bytes[from as usize..to as usize].fill(0xff);
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        assert!((offset as usize).is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD));
        let chip = &mut *self.0.borrow_mut();
        for (at, word) in (offset as usize..).step_by(WORD).zip(bytes.chunks(WORD)) {
            chip.spend()?;
            for (kept, byte) in chip.bytes[at..at + WORD].iter_mut().zip(word) {
                assert_eq!(*kept & byte, *byte, "a bit was written from 0 to 1");
                *kept = *byte;
            }
        }
        Ok(())
    }
}

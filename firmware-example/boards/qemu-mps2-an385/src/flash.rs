//! Memory that behaves like NOR flash: erased by pages to ones, written by words from one to zero.
//!
//! It is the board's PSRAM, which a reset leaves alone. With
//! `-object memory-backend-file,id=flash,share=on,size=16M,mem-path=FILE -machine memory-backend=flash` it is a
//! file, and survives QEMU as flash survives a power loss.

use core::ops::Range;
use core::ptr::{read_volatile, write_volatile};

use embedded_storage::nor_flash::{ErrorType, NorFlashError, NorFlashErrorKind};
use embedded_storage_async::nor_flash::{NorFlash, ReadNorFlash};

/// The flash; there is one.
pub(crate) struct MemoryFlash(());

/// Where it lies.
const BASE: usize = 0x2100_0000;
const PAGE: u32 = 4096;
const WORD: usize = 4;

/// Why an operation was refused.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Outside of the flash, or not on the border of a word or page.
    Place,
    /// A bit that is zero cannot be written to one.
    NotErased,
}

impl NorFlashError for Refused {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Place => NorFlashErrorKind::OutOfBounds,
            Self::NotErased => NorFlashErrorKind::Other,
        }
    }
}

impl MemoryFlash {
    /// What is kept over a power loss.
    pub(crate) const RECORDS: Range<u32> = 0..16 * PAGE;
    /// A firmware image of up to 128 KiB, and its journal.
    pub(crate) const IMAGE: Range<u32> = Self::RECORDS.end..Self::RECORDS.end + 33 * PAGE;
    /// Events that are not stored yet: about 3,000 readings.
    pub(crate) const EVENTS: Range<u32> = Self::IMAGE.end..Self::IMAGE.end + 32 * PAGE;
    /// Bytes of the flash.
    const SIZE: u32 = Self::EVENTS.end;

    pub(crate) fn new() -> Self {
        Self(())
    }

    /// The address of `offset`, if `len` bytes from there on are flash and both are multiples of `unit`.
    fn place(offset: u32, len: usize, unit: u32) -> Result<usize, Refused> {
        let len = u32::try_from(len).map_err(|_| Refused::Place)?;
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= Self::SIZE);
        if !is_inside || !offset.is_multiple_of(unit) || !len.is_multiple_of(unit) {
            return Err(Refused::Place);
        }
        Ok(BASE + offset as usize)
    }
}

impl ErrorType for MemoryFlash {
    type Error = Refused;
}

impl ReadNorFlash for MemoryFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Refused> {
        let from = Self::place(offset, bytes.len(), 1)?;
        for (at, byte) in (from..).zip(bytes) {
            // SAFETY: `place` checked that the range is PSRAM, which nothing else uses.
            *byte = unsafe { read_volatile(at as *const u8) };
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        Self::SIZE as usize
    }
}

impl NorFlash for MemoryFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE as usize;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Refused> {
        let len = to.checked_sub(from).ok_or(Refused::Place)?;
        let start = Self::place(from, len as usize, PAGE)?;
        for at in (start..start + len as usize).step_by(WORD) {
            // SAFETY: as in `read`; pages begin at words.
            unsafe { write_volatile(at as *mut u32, u32::MAX) };
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Refused> {
        let to = Self::place(offset, bytes.len(), WORD as u32)?;
        for (at, word) in (to..).step_by(WORD).zip(bytes.chunks_exact(WORD)) {
            let word = word.try_into().map(u32::from_le_bytes).map_err(|_| Refused::Place)?;
            // SAFETY: as in `erase`.
            unsafe {
                if read_volatile(at as *const u32) & word != word {
                    return Err(Refused::NotErased);
                }
                write_volatile(at as *mut u32, word);
            }
        }
        Ok(())
    }
}

//! The queue of events that outlives a power loss: its numbers, and what is due. Its pages are in [`pages`](super::pages).

use core::num::NonZeroU64;
use core::ops::Range;

use embedded_storage_async::nor_flash::NorFlash;
use imlink_protocol::Key;
use imlink_protocol::device::EventRange;
use imlink_protocol::limits::NUMBER_MAX;
use sequential_storage::queue::QueueConfig;

use super::pages::{KeptEvent, Numbered};
use super::{Buffer, FlashError};
use crate::config::{EventStart, Overflow};
use crate::platform::{Rng, draw};

/// Events in a range of flash of their own, by `sequential-storage`, for
/// [`Client::kept_in`](crate::Client::kept_in).
///
/// An event takes at most 40 bytes beside its payload (26 is usual), rounded up to words of the flash: 100 events of 8
/// bytes fit a page of 4 KiB. One page is written while the others hold what waits: a range of four pages keeps the
/// last three at least.
///
/// **Wear**: one record an event, and one more when a backlog of 8 or more is stored; one erasure a page that is filled.
/// With four pages of 4 KiB each page is erased every 400 events of 8 bytes, which flash that bears 100,000 erasures does
/// 40 million times; more pages last longer in proportion.
///
/// `LEN` is the buffer of a record in bytes, a multiple of 32 from 64 on, in each future that reads or writes: payloads
/// have at most `LEN` − 32. Events that an older firmware kept with a larger `LEN` are not found.
pub struct FlashQueue<F: NorFlash, const LEN: usize = 256> {
    pub(super) flash: F,
    pub(super) range: Range<u32>,
    pub(super) pages: u32,
    /// Its incarnation.
    pub(super) queue: NonZeroU64,
    /// Events up to this number are stored, and up to which the flash says so.
    pub(super) stored: u64,
    pub(super) noted: u64,
    /// The last number that was used.
    pub(super) last: u64,
    pub(super) head: u32,
    pub(super) tail: u32,
    /// The page in which the next event to be sent is looked for.
    pub(super) feed: u32,
    pub(super) is_tail_erased: bool,
    pub(super) failures: u32,
}

/// Bytes of a record's encoding beside the payload, at most: 8 + 8 + 1 + 8 + 4, length 3.
const RECORD_OVERHEAD: usize = 32;
/// A note is written when this many events more than the flash knows of are stored, and none is left.
const NOTE_AFTER: u64 = 8;

/// An event was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) sequence: u64,
    /// Events that were never sent and made room for it.
    pub(crate) dropped: u32,
}

/// Why a [`FlashQueue`] was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum OpenError {
    /// The source of randomness failed.
    Rng,
    /// The range is none, or cannot be read.
    Flash(FlashError),
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Rng => f.write_str("the source of randomness failed, so the event queue has no number"),
            Self::Flash(error) => write!(f, "no events can be kept: {error}"),
        }
    }
}

impl core::error::Error for OpenError {}

impl From<FlashError> for OpenError {
    fn from(error: FlashError) -> Self {
        Self::Flash(error)
    }
}

impl<F: NorFlash, const LEN: usize> FlashQueue<F, LEN> {
    const LEN_FITS: () = assert!(LEN >= 64 && LEN.is_multiple_of(32), "LEN is a multiple of 32, from 64 on");

    /// The events in `range` of `flash`, two pages or more that nothing else uses. What lies there and is no such queue is
    /// overwritten; then, as at first power-on, the queue is new and its incarnation drawn from `rng`.
    ///
    /// Reads the whole range.
    pub async fn open(flash: F, range: Range<u32>, rng: &mut impl Rng) -> Result<Self, OpenError> {
        let () = Self::LEN_FITS;
        let len = range.end.checked_sub(range.start).ok_or(FlashError::Range)?;
        QueueConfig::<F>::try_new(range.clone()).map_err(|_| FlashError::Range)?;
        let pages = len / F::ERASE_SIZE as u32;
        if pages < 2 {
            return Err(FlashError::Range.into());
        }
        let queue = draw(rng).map_err(|_| OpenError::Rng)?;
        let mut opened = Self {
            flash,
            range,
            pages,
            queue,
            stored: 0,
            noted: 0,
            last: 0,
            head: 0,
            tail: 0,
            feed: 0,
            is_tail_erased: false,
            failures: 0,
        };
        opened.find(&mut Buffer([0; LEN])).await?;
        // A page that a power loss left half erased, or that nobody wrote yet, is no failure.
        opened.failures = 0;
        Ok(opened)
    }

    /// Where the last power-on ended, for [`Config::events`](crate::Config::events).
    pub fn start(&self) -> EventStart {
        let range = EventRange { stored: self.stored, numbered: self.last };
        EventStart { queue: self.queue.get(), range }
    }

    /// Writes, readings and pages that failed since power-on. When this grows the flash is worn.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Largest payload of an event, in bytes.
    pub(crate) fn payload_max() -> usize {
        // Two marks of a page, the header of a record and the end of its last word.
        let page = F::ERASE_SIZE.saturating_sub(4 * F::WRITE_SIZE.max(8));
        LEN.min(page).saturating_sub(RECORD_OVERHEAD)
    }

    /// Number of the last event that was kept, or may have been.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Keeps an event. `stored` is up to where events are known to be stored, `taken` up to where they may have been
    /// sent: those are not counted as dropped.
    pub(crate) async fn keep(
        &mut self,
        key: Key,
        payload: &[u8],
        (stored, taken): (u64, u64),
        overflow: Overflow,
    ) -> Result<Kept, FlashError> {
        self.stored = self.stored.max(stored);
        let sequence = self.last + 1;
        if sequence > NUMBER_MAX {
            return Err(FlashError::Full);
        }
        let event = Numbered { ahead: sequence.saturating_sub(self.stored), key, payload };
        // From here on nothing else has this number, whatever becomes of the write.
        self.last = sequence;
        let record = &mut Buffer([0; LEN]);
        let appended = self.append(record, Some(&event), taken, overflow).await;
        match appended {
            // Before anything was written.
            Err(FlashError::Full) => self.last = sequence - 1,
            Err(_) => self.failures = self.failures.saturating_add(1),
            Ok(_) => {}
        }
        appended.map(|dropped| Kept { sequence, dropped })
    }

    /// Notes that events up to `stored` are stored, when that is due: all are, and the flash knows of too few.
    pub(crate) async fn note(&mut self, stored: u64) -> Result<(), FlashError> {
        self.stored = self.stored.max(stored);
        if self.stored < self.last || self.stored.saturating_sub(self.noted) < NOTE_AFTER {
            return Ok(());
        }
        let record = &mut Buffer([0; LEN]);
        self.append(record, None, self.stored, Overflow::RefuseNewest).await.map(drop)
    }

    /// Offers the events in order until one is not taken, from a page on that was not offered to its end; some are offered
    /// again.
    pub(crate) async fn feed(&mut self, mut is_taken: impl FnMut(&KeptEvent<'_>) -> bool) -> Result<(), FlashError> {
        let record = &mut Buffer([0; LEN]);
        loop {
            let mut is_done = false;
            self.scan(record, self.feed, |_, _, event| {
                is_done = event.is_some_and(|event| !is_taken(&event));
                !is_done
            })
            .await?;
            if is_done || self.feed == self.tail {
                return Ok(());
            }
            self.feed = self.after(self.feed);
        }
    }
}

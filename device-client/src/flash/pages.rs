//! Events in pages of flash.
//!
//! ```text
//! page     record · record · …                         a queue of `sequential-storage` for itself, never popped
//! record   queue u64 · stored u64 · [ahead u64 · key 4 · payload]       8 bytes of `sequential-storage` in front
//!
//! ring     free · | head: oldest events · · · tail: written | · free
//! ```
//!
//! Each record names the incarnation of the queue and up to which number events were known to be stored when it was
//! written; *ahead* of that is its event's number. A record without event only notes that. So every page tells all that
//! a power-on needs, and a page is erased when the ring comes round to it and its events are stored: no record is ever
//! changed, which flash with error correction could not do.
//!
//! **Numbers grow from page to page of the ring and within each.** A number is used up before its record is written: what
//! a write left behind that was cut off is never taken for a later event.

use core::num::NonZeroU64;
use core::ops::Range;

use embedded_storage_async::nor_flash::NorFlash;
use imlink_protocol::Key;
use imlink_protocol::limits::NUMBER_MAX;
use sequential_storage::Error;
use sequential_storage::cache::Cache;
use sequential_storage::queue::{QueueConfig, QueueStorage};
use serde::{Deserialize, Serialize};

use super::queue::FlashQueue;
use super::{Buffer, FlashError};
use crate::config::Overflow;

/// An event as it was found.
pub(crate) struct KeptEvent<'a> {
    pub(crate) sequence: u64,
    pub(crate) key: Key,
    pub(crate) payload: &'a [u8],
}

/// `E` is a [`Numbered`], or a reference to one.
#[derive(Serialize, Deserialize)]
struct Record<E> {
    queue: [u8; 8],
    stored: u64,
    event: Option<E>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Numbered<'a> {
    pub(super) ahead: u64,
    pub(super) key: Key,
    pub(super) payload: &'a [u8],
}

/// What a page holds.
#[derive(Clone, Copy, Default)]
struct Content {
    queue: Option<NonZeroU64>,
    stored: u64,
    /// The last number, and what the last record said was stored: together they grow with every record.
    rank: (u64, u64),
    /// Events above the limit that was asked for.
    above: u32,
}

impl<F: NorFlash, const LEN: usize> FlashQueue<F, LEN> {
    /// Looks at all pages for what an earlier power-on left.
    pub(super) async fn find(&mut self, record: &mut Buffer<LEN>) -> Result<(), FlashError> {
        let mut newest = None;
        for page in 0..self.pages {
            let content = self.content(record, page, 0, newest.map(|_| self.queue)).await?;
            let Some(queue) = content.queue else { continue };
            self.queue = queue;
            self.stored = self.stored.max(content.stored);
            self.last = self.last.max(content.rank.0);
            if newest.is_none_or(|rank| content.rank > rank) {
                newest = Some(content.rank);
                (self.tail, self.is_tail_erased) = (page, true);
            }
        }
        (self.noted, self.head) = (self.stored, self.tail);
        let mut page = self.after(self.tail);
        while newest.is_some() && page != self.tail {
            if self.content(record, page, self.stored, Some(self.queue)).await?.above > 0 {
                self.head = page;
                break;
            }
            page = self.after(page);
        }
        self.feed = self.head;
        Ok(())
    }

    /// What `page` holds of `queue`, or of the first queue found there.
    async fn content(
        &mut self,
        record: &mut Buffer<LEN>,
        page: u32,
        limit: u64,
        queue: Option<NonZeroU64>,
    ) -> Result<Content, FlashError> {
        let mut content = Content { queue, ..Content::default() };
        let mut is_empty = true;
        self.scan(record, page, |of, stored, event| {
            let sequence = event.map_or(stored, |event| event.sequence);
            if *content.queue.get_or_insert(of) == of {
                is_empty = false;
                content.stored = content.stored.max(stored);
                content.rank = content.rank.max((sequence, stored));
                content.above += u32::from(sequence > limit.max(stored));
            }
            true
        })
        .await?;
        Ok(if is_empty { Content::default() } else { content })
    }

    /// Shows the records of `page` until `look` has enough.
    pub(super) async fn scan(
        &mut self,
        record: &mut Buffer<LEN>,
        page: u32,
        mut look: impl FnMut(NonZeroU64, u64, Option<KeptEvent<'_>>) -> bool,
    ) -> Result<(), FlashError> {
        let config = QueueConfig::try_new(self.place(page)).map_err(|_| FlashError::Range)?;
        let mut storage = QueueStorage::new(&mut self.flash, config, Cache::new_uncached());
        let failures = &mut self.failures;
        let mut records = match storage.iter().await {
            Ok(records) => records,
            Err(error) => return unreadable(&error, failures),
        };
        loop {
            match records.next(&mut record.0).await {
                Ok(Some(found)) => {
                    let goes_on = decode(&found).is_none_or(|(queue, stored, event)| look(queue, stored, event));
                    if !goes_on {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => return unreadable(&error, failures),
            }
        }
    }

    /// Writes a record at the end of the ring; returns how many events made room.
    pub(super) async fn append(
        &mut self,
        record: &mut Buffer<LEN>,
        event: Option<&Numbered<'_>>,
        taken: u64,
        overflow: Overflow,
    ) -> Result<u32, FlashError> {
        let mut dropped = 0;
        if self.is_tail_erased {
            match self.write(record, event).await {
                Err(FlashError::Full) => dropped = self.turn(record, taken, overflow).await?,
                written => return written.map(|()| 0),
            }
        }
        // What lies there is stored, dropped, or none of this queue.
        let place = self.place(self.tail);
        self.flash.erase(place.start, place.end).await.map_err(|_| FlashError::Flash)?;
        self.is_tail_erased = true;
        match self.write(record, event).await {
            Err(FlashError::Full) => Err(FlashError::Flash),
            written => written.map(|()| dropped),
        }
    }

    /// The next page becomes the tail, if its events are stored or may be dropped; returns how many were.
    async fn turn(&mut self, record: &mut Buffer<LEN>, taken: u64, overflow: Overflow) -> Result<u32, FlashError> {
        let next = self.after(self.tail);
        let mut dropped = 0;
        if next == self.head {
            let queue = Some(self.queue);
            if self.content(record, next, self.stored, queue).await?.above > 0 {
                if overflow == Overflow::RefuseNewest {
                    return Err(FlashError::Full);
                }
                dropped = self.content(record, next, self.stored.max(taken), queue).await?.above;
            }
            self.head = self.after(next);
            if self.feed == next {
                self.feed = self.head;
            }
        }
        (self.tail, self.is_tail_erased) = (next, false);
        Ok(dropped)
    }

    /// Writes a record into the tail.
    async fn write(&mut self, buffer: &mut Buffer<LEN>, event: Option<&Numbered<'_>>) -> Result<(), FlashError> {
        let stored = self.stored;
        let record = Record { queue: self.queue.get().to_le_bytes(), stored, event };
        let len = postcard::to_slice(&record, &mut buffer.0).map_err(|_| FlashError::TooLong)?.len();
        let bytes = buffer.0.get(..len).unwrap_or_default();
        let config = QueueConfig::try_new(self.place(self.tail)).map_err(|_| FlashError::Range)?;
        let mut storage = QueueStorage::new(&mut self.flash, config, Cache::new_uncached());
        match storage.push(bytes, false).await {
            Ok(()) => {
                self.noted = self.noted.max(stored);
                Ok(())
            }
            Err(Error::FullStorage) => Err(FlashError::Full),
            Err(Error::Storage { .. }) => Err(FlashError::Flash),
            // A page that cannot be written to any more counts as full.
            Err(_) => {
                self.failures = self.failures.saturating_add(1);
                Err(FlashError::Full)
            }
        }
    }

    fn place(&self, page: u32) -> Range<u32> {
        let start = self.range.start + page * F::ERASE_SIZE as u32;
        start..start + F::ERASE_SIZE as u32
    }

    pub(super) fn after(&self, page: u32) -> u32 {
        if page + 1 < self.pages { page + 1 } else { 0 }
    }
}

/// The queue's incarnation, up to where events were stored, and the event.
fn decode(record: &[u8]) -> Option<(NonZeroU64, u64, Option<KeptEvent<'_>>)> {
    let Record { queue, stored, event } = postcard::from_bytes::<Record<Numbered<'_>>>(record).ok()?;
    let queue = NonZeroU64::new(u64::from_le_bytes(queue))?;
    let event = match event {
        None => None,
        Some(Numbered { ahead, key, payload }) => {
            let sequence = stored.checked_add(ahead).filter(|sequence| *sequence <= NUMBER_MAX && ahead > 0)?;
            Some(KeptEvent { sequence, key, payload })
        }
    };
    (stored <= NUMBER_MAX).then_some((queue, stored, event))
}

/// What cannot be read of a page is passed over: the rest of the queue goes on.
fn unreadable<E>(error: &Error<E>, failures: &mut u32) -> Result<(), FlashError> {
    *failures = failures.saturating_add(1);
    match error {
        Error::Storage { .. } => Err(FlashError::Flash),
        _ => Ok(()),
    }
}

//! What survives a power loss, in flash: the cursor, and records of the application.

use core::ops::Range;

use embassy_sync::blocking_mutex::raw::RawMutex;
use embassy_sync::mutex::Mutex;
use embedded_storage_async::nor_flash::NorFlash;
use imlink_protocol::MessageId;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Resume;
use crate::messages::CursorStore;

/// Small records in a range of flash, by `sequential-storage`: a power loss leaves the old or the new one.
///
/// ```text
/// key 0        the message that was started     ≤ 16 bytes
/// key 1        the message that was done        ≤ 16 bytes
/// key 16 …     the application's
/// ```
///
/// A message costs two records of about 24 bytes. With two pages of 4 KiB a page is erased every 150 messages
/// or so, which flash that bears 100,000 erasures does 30 million times; more pages last longer in proportion.
///
/// Share it as `Mutex<M, FlashStore<F>>`: a reference to that is the [`CursorStore`].
pub struct FlashStore<F: NorFlash> {
    map: MapStorage<u8, F, Cache<Uncached, Uncached, Uncached, u8>>,
    failures: u32,
}

/// The first key of the application.
pub const KEY_FIRST: u8 = 16;
/// Longest record of the application, in bytes.
pub const RECORD_MAX: usize = 96;

/// Why a record was not kept or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FlashError {
    /// The range is not made of whole pages, or of less than two.
    Range,
    /// The key is below [`KEY_FIRST`].
    Key,
    /// The record is longer than [`RECORD_MAX`].
    TooLong,
    /// The records do not fit the range.
    Full,
    /// The flash reported an error, or holds what these records cannot be.
    Flash,
}

impl core::fmt::Display for FlashError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Range => "the flash range has to be two pages or more, from the start of one to the end of another",
            Self::Key => "keys of the application begin at 16",
            Self::TooLong => "a record has at most 96 bytes",
            Self::Full => "the records do not fit the flash range: make it larger",
            Self::Flash => "the flash reported an error",
        })
    }
}

impl core::error::Error for FlashError {}

const STARTED: u8 = 0;
const DONE: u8 = 1;
/// The key in front of a record, and its end up to a whole word of flash.
const BUFFER_LEN: usize = RECORD_MAX + 32;

/// The buffer that is written from; some flash wants it aligned.
#[repr(align(32))]
struct Buffer([u8; BUFFER_LEN]);

impl<F: NorFlash> FlashStore<F> {
    /// The records in `range` of `flash`. A range that holds something else is erased.
    pub async fn open(flash: F, range: Range<u32>) -> Result<Self, FlashError> {
        let config = MapConfig::try_new(range).map_err(|_| FlashError::Range)?;
        let mut store = Self { map: MapStorage::new(flash, config, Cache::new_uncached()), failures: 0 };
        if store.read::<MessageId>(DONE).await.is_err() {
            store.map.erase_all().await.map_err(|_| FlashError::Flash)?;
        }
        Ok(store)
    }

    /// Where the last power-on ended, for [`Config::resume`](crate::Config::resume).
    pub async fn resume(&mut self) -> Result<Resume, FlashError> {
        let done = self.read(DONE).await?.unwrap_or_default();
        Ok(Resume { done, started: self.read(STARTED).await?.unwrap_or_default() })
    }

    /// The record `key` (from [`KEY_FIRST`] on), `None` when there is none or it does not have that form.
    pub async fn get<T: DeserializeOwned>(&mut self, key: u8) -> Result<Option<T>, FlashError> {
        if key < KEY_FIRST { Err(FlashError::Key) } else { self.read(key).await }
    }

    /// Keeps `value` as the record `key` (from [`KEY_FIRST`] on).
    pub async fn put<T: Serialize>(&mut self, key: u8, value: &T) -> Result<(), FlashError> {
        if key < KEY_FIRST { Err(FlashError::Key) } else { self.write(key, value).await }
    }

    /// Cursors that could not be kept since power-on. When this grows the flash is worn or too small, and after
    /// a power loss messages may come again.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    async fn read<T: DeserializeOwned>(&mut self, key: u8) -> Result<Option<T>, FlashError> {
        let mut buffer = Buffer([0; BUFFER_LEN]);
        let bytes = self.map.fetch_item::<&[u8]>(&mut buffer.0, &key).await.map_err(|error| fault(&error))?;
        Ok(bytes.and_then(|bytes| postcard::from_bytes(bytes).ok()))
    }

    async fn write<T: Serialize>(&mut self, key: u8, value: &T) -> Result<(), FlashError> {
        let mut record = [0; RECORD_MAX];
        let record: &[u8] = postcard::to_slice(value, &mut record).map_err(|_| FlashError::TooLong)?;
        let mut buffer = Buffer([0; BUFFER_LEN]);
        self.map.store_item(&mut buffer.0, &key, &record).await.map_err(|error| fault(&error))
    }

    async fn keep(&mut self, key: u8, id: MessageId) {
        if self.write(key, &id).await.is_err() {
            self.failures = self.failures.saturating_add(1);
        }
    }
}

fn fault<E>(error: &sequential_storage::Error<E>) -> FlashError {
    match error {
        sequential_storage::Error::FullStorage | sequential_storage::Error::ItemTooBig => FlashError::Full,
        _ => FlashError::Flash,
    }
}

impl<M: RawMutex, F: NorFlash> CursorStore for &Mutex<M, FlashStore<F>> {
    async fn started(&mut self, id: MessageId) {
        self.lock().await.keep(STARTED, id).await;
    }

    async fn done(&mut self, id: MessageId) {
        self.lock().await.keep(DONE, id).await;
    }
}

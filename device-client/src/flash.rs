//! What survives a power loss, in flash: the cursor, records of the application, and events.
//!
//! ```text
//! FlashStore    small records: cursor, private key, the application's own
//! FlashQueue    events that are not stored yet, in a range of its own
//! KeptEvents    publishes into it, and feeds the State's queue from it
//! ```

mod kept;
mod pages;
mod queue;

use core::ops::Range;

use embassy_sync::blocking_mutex::raw::RawMutex;
use embassy_sync::mutex::Mutex;
use embedded_storage_async::nor_flash::NorFlash;
use imlink_protocol::MessageId;
#[cfg(feature = "seal")]
use imlink_protocol::key_pair::{KEY_LEN, PrivateKey};
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};
use serde::Serialize;
use serde::de::DeserializeOwned;
#[cfg(feature = "seal")]
use zeroize::Zeroize;

use crate::config::Resume;
use crate::messages::CursorStore;
#[cfg(feature = "seal")]
use crate::platform::Rng;

pub use kept::KeptEvents;
pub use queue::{FlashQueue, OpenError};

/// Small records in a range of flash, by `sequential-storage`: a power loss leaves the old or the new one.
///
/// ```text
/// key 0        the message that was started     ≤ 16 bytes
/// key 1        the message that was done        ≤ 16 bytes
/// key 2        the device's private key         32 bytes
/// key 16 …     the application's
/// ```
///
/// A message costs two records of about 24 bytes. With two pages of 4 KiB a page is erased every 150 messages
/// or so, which flash that bears 100,000 erasures does 30 million times; more pages last longer in proportion.
///
/// Share it as `Mutex<M, FlashStore<F>>`: a reference to that is the [`CursorStore`].
///
/// A future of it that is dropped while it writes does what a power loss does at that moment.
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

/// Where a private key comes from.
#[cfg(feature = "seal")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Origin {
    /// It was drawn now, and has to be provisioned.
    Drawn,
    /// An earlier power-on kept it.
    Kept,
}

/// Why there is no private key.
#[cfg(feature = "seal")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum KeyError {
    /// The source of randomness failed.
    Rng,
    /// It cannot be read or kept.
    Flash(FlashError),
}

#[cfg(feature = "seal")]
impl core::fmt::Display for KeyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Rng => f.write_str("the source of randomness failed, so there is no key"),
            Self::Flash(error) => write!(f, "the key cannot be kept: {error}"),
        }
    }
}

#[cfg(feature = "seal")]
impl core::error::Error for KeyError {}

#[cfg(feature = "seal")]
impl From<FlashError> for KeyError {
    fn from(error: FlashError) -> Self {
        Self::Flash(error)
    }
}

const STARTED: u8 = 0;
const DONE: u8 = 1;
#[cfg(feature = "seal")]
const PRIVATE_KEY: u8 = 2;
/// The key in front of a record, and its end up to a whole word of flash.
const BUFFER_LEN: usize = RECORD_MAX + 32;

/// The buffer that is read into and written from, in the future that does; some flash wants it aligned.
#[repr(align(32))]
struct Buffer<const LEN: usize>([u8; LEN]);

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

    /// The device's private key. At first power-on there is none: one is drawn from `rng` and kept, so that it never
    /// leaves the device; its [`public`](PrivateKey::public) one is what `imlink device add ID --public-key …` wants.
    ///
    /// It lies in clear in flash: lock the microcontroller's debug port against reading where that matters. When the
    /// range is erased the key is gone, and the next one has to be provisioned.
    #[cfg(feature = "seal")]
    pub async fn private_key(&mut self, rng: &mut impl Rng) -> Result<(PrivateKey, Origin), KeyError> {
        if let Some(key) = self.read_key().await? {
            return Ok((key, Origin::Kept));
        }
        let mut drawn = [0; KEY_LEN];
        let filled = rng.fill(&mut drawn);
        let key = PrivateKey::new(drawn);
        drawn.zeroize();
        // Zeros come from a source that does not work.
        if filled.is_err() || key == PrivateKey::new([0; KEY_LEN]) {
            return Err(KeyError::Rng);
        }
        self.write(PRIVATE_KEY, key.bytes()).await?;
        // Told to anybody only once it will be there after a power loss.
        match self.read_key().await? {
            Some(kept) if kept == key => Ok((key, Origin::Drawn)),
            _ => Err(KeyError::Flash(FlashError::Flash)),
        }
    }

    #[cfg(feature = "seal")]
    async fn read_key(&mut self) -> Result<Option<PrivateKey>, FlashError> {
        let mut bytes = self.read::<[u8; KEY_LEN]>(PRIVATE_KEY).await?;
        let key = bytes.map(PrivateKey::new);
        bytes.zeroize();
        Ok(key)
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

//! Where events go: into flash on a board that has a range for them, else into memory.

use core::convert::Infallible;
use core::ops::Range;

use embassy_embedded_hal::flash::partition::Partition;
use embassy_sync::mutex::Mutex;
use embedded_storage_async::nor_flash::NorFlash;
use imlink_device_client::flash::{FlashQueue, FlashStore, KeptEvents};
use imlink_device_client::{Client, ConfigError, Key, NoopRawMutex, Rng, Storage};
use log::{error, info, warn};
use serde::Serialize;

/// What a board keeps over a power loss.
pub struct Flash<F: NorFlash> {
    /// Cursor, settings, counter, perhaps the private key.
    pub records: FlashStore<F>,
    /// Events that are not stored yet; without they are lost with the power.
    pub events: Option<FlashQueue<F>>,
}

/// One flash of a board, for records, events and images.
pub type SharedFlash<F> = Mutex<NoopRawMutex, F>;

impl<F: NorFlash> Flash<Partition<'static, NoopRawMutex, F>> {
    /// Opens records in the first half of `range` and events in the second, two pages or more each. A board whose flash
    /// does not work goes on without, and logs why.
    pub async fn open(flash: &'static SharedFlash<F>, range: Range<u32>, rng: &mut impl Rng) -> Option<Self> {
        let half = range.end.saturating_sub(range.start) / 2;
        let part = |start| Partition::new(flash, start, half);
        let records = FlashStore::open(part(range.start), 0..half).await;
        let records = records.inspect_err(|why| error!("{why}")).ok()?;
        let events = FlashQueue::open(part(range.start + half), 0..half, rng).await;
        Some(Self { records, events: events.inspect_err(|why| error!("{why}")).ok() })
    }
}

/// Where this device's events go.
#[allow(clippy::large_enum_variant, reason = "there is one, and no heap to put the larger on")]
pub(crate) enum Events<'a, S, F: NorFlash> {
    Memory(Client<'a, S>),
    Flash(KeptEvents<'a, S, NoopRawMutex, F>),
}

impl<'a, S: Storage, F: NorFlash> Events<'a, S, F> {
    pub(crate) fn new(client: Client<'a, S>, queue: Option<FlashQueue<F>>) -> Result<Self, ConfigError> {
        match queue {
            None => Ok(Self::Memory(client)),
            Some(queue) => client.kept_in(queue).map(Self::Flash),
        }
    }

    pub(crate) async fn publish<V: Serialize>(&self, key: Key, value: &V) {
        let published = match self {
            Self::Memory(client) => client.publish_typed(key, value),
            Self::Flash(kept) => kept.publish_typed(key, value).await.map(|number| info!("event {number} is kept")),
        };
        if let Err(error) = published {
            warn!("an event is lost: {error}");
        }
    }

    /// Does what the queue needs beside publishing, for ever.
    pub(crate) async fn run(&self) -> Infallible {
        match self {
            Self::Memory(_) => core::future::pending().await,
            Self::Flash(kept) => kept.run().await,
        }
    }

    /// What flash refused since power-on.
    pub(crate) async fn failures(&self) -> u32 {
        match self {
            Self::Memory(_) => 0,
            Self::Flash(kept) => kept.failures().await,
        }
    }
}

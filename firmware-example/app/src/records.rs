//! What the device keeps in flash; nothing on a board without.

use core::cell::Cell;

use embassy_sync::mutex::Mutex;
use embedded_storage_async::nor_flash::NorFlash;
use imlink_device_client::flash::{FlashError, FlashStore, KEY_FIRST};
use imlink_device_client::{CursorStore, MessageId, NoopRawMutex, Resume};
use log::warn;

use crate::interface::{Counter, Settings};

/// The records, behind a lock: the client's cursor and the device's own share one range of flash.
pub(crate) struct Records<F: NorFlash> {
    flash: Option<Mutex<NoopRawMutex, FlashStore<F>>>,
    failures: Cell<u32>,
}

/// The client's cursor among the records.
pub(crate) struct Cursor<'a, F: NorFlash>(Option<&'a Mutex<NoopRawMutex, FlashStore<F>>>);

const BOOTS: u8 = KEY_FIRST;
const SETTINGS: u8 = KEY_FIRST + 1;
const COUNTER: u8 = KEY_FIRST + 2;

impl<F: NorFlash> Records<F> {
    pub(crate) fn new(flash: Option<FlashStore<F>>) -> Self {
        Self { flash: flash.map(Mutex::new), failures: Cell::new(0) }
    }

    pub(crate) fn cursor(&self) -> Cursor<'_, F> {
        Cursor(self.flash.as_ref())
    }

    /// Where the last power-on ended.
    pub(crate) async fn resume(&self) -> Resume {
        match &self.flash {
            Some(flash) => self.done(flash.lock().await.resume().await).unwrap_or_default(),
            None => Resume::default(),
        }
    }

    /// Counts this power-on.
    pub(crate) async fn count_boot(&self) -> u32 {
        let Some(flash) = &self.flash else { return 0 };
        let mut flash = flash.lock().await;
        let boots = self.done(flash.get(BOOTS).await).flatten().unwrap_or(0u32).saturating_add(1);
        self.done(flash.put(BOOTS, &boots).await);
        boots
    }

    pub(crate) async fn settings(&self) -> Settings {
        match &self.flash {
            Some(flash) => self.done(flash.lock().await.get(SETTINGS).await).flatten().unwrap_or_default(),
            None => Settings::default(),
        }
    }

    pub(crate) async fn keep_settings(&self, settings: &Settings) {
        if let Some(flash) = &self.flash {
            self.done(flash.lock().await.put(SETTINGS, settings).await);
        }
    }

    pub(crate) async fn counter(&self) -> Counter {
        match &self.flash {
            Some(flash) => self.done(flash.lock().await.get(COUNTER).await).flatten().unwrap_or_default(),
            None => Counter::default(),
        }
    }

    /// Keeps the counter with the id of the message that was counted last: what a message does and that it was
    /// done are one record, so that a power loss leaves both or neither.
    pub(crate) async fn keep_counter(&self, counter: &Counter) {
        if let Some(flash) = &self.flash {
            self.done(flash.lock().await.put(COUNTER, counter).await);
        }
    }

    /// Records that were not kept or read since power-on.
    pub(crate) async fn failures(&self) -> u32 {
        match &self.flash {
            Some(flash) => flash.lock().await.failures().saturating_add(self.failures.get()),
            None => 0,
        }
    }

    fn done<T>(&self, result: Result<T, FlashError>) -> Option<T> {
        result
            .inspect_err(|error| {
                self.failures.set(self.failures.get().saturating_add(1));
                warn!("{error}");
            })
            .ok()
    }
}

impl<F: NorFlash> CursorStore for Cursor<'_, F> {
    async fn started(&mut self, id: MessageId) {
        if let Some(mut flash) = self.0 {
            flash.started(id).await;
        }
    }

    async fn done(&mut self, id: MessageId) {
        if let Some(mut flash) = self.0 {
            flash.done(id).await;
        }
    }
}

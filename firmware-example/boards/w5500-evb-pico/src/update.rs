//! Firmware updates by `embassy-boot`: an image goes into the second partition, is marked, and swapped in at the next
//! start. The image that runs is good once it has attached.

use embassy_boot_rp::{FirmwareUpdater, FirmwareUpdaterConfig, State};
use embassy_embedded_hal::flash::partition::Partition;
use embassy_sync::mutex::Mutex;
use embedded_storage_async::nor_flash::NorFlash;
use imlink_device_client::NoopRawMutex;
use imlink_device_client::blob::{Blob, BlobKind, BlobSink, Kept, Refusal, StorageError};
use imlink_firmware_app::Image;

/// The partition for the next image. It is written anew after a power loss: the bootloader's swap leaves no room for
/// a journal.
pub(crate) struct Updates<'a, F: NorFlash> {
    updater: FirmwareUpdater<'a, Partition<'a, NoopRawMutex, F>, Partition<'a, NoopRawMutex, F>>,
}

/// Largest image: the partition that it is run from, see `memory-update.x`.
const SIZE_MAX: u32 = 896 * 1024;
/// Flash is read in whole words.
const WORD: usize = 4;

impl<'a, F: NorFlash> Updates<'a, F> {
    /// The partitions in `flash` that the linker script names; `word` is memory for one word of flash.
    pub(crate) fn new(flash: &'a Mutex<NoopRawMutex, F>, word: &'a mut [u8]) -> Self {
        Self { updater: FirmwareUpdater::new(FirmwareUpdaterConfig::from_linkerfile(flash, flash), word) }
    }
}

impl<F: NorFlash> BlobSink for Updates<'_, F> {
    async fn begin(&mut self, blob: &Blob) -> Result<u32, Refusal> {
        match blob {
            Blob { kind: BlobKind::File, .. } => Err(Refusal::Unsupported),
            Blob { size, .. } if *size > SIZE_MAX => Err(Refusal::TooLarge { max: SIZE_MAX }),
            _ => Ok(0),
        }
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), StorageError> {
        self.updater.write_firmware(offset as usize, bytes).await.map_err(|_| StorageError)
    }

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
        let whole = bytes.len() - bytes.len() % WORD;
        let (words, rest) = bytes.split_at_mut_checked(whole).ok_or(StorageError)?;
        self.updater.read_dfu(offset, words).await.map_err(|_| StorageError)?;
        if rest.is_empty() {
            return Ok(());
        }
        let mut last = [0; WORD];
        self.updater.read_dfu(offset + whole as u32, &mut last).await.map_err(|_| StorageError)?;
        rest.copy_from_slice(last.get(..rest.len()).ok_or(StorageError)?);
        Ok(())
    }

    async fn finish(&mut self, _: &Blob) -> Result<Kept, StorageError> {
        self.updater.mark_updated().await.map_err(|_| StorageError)?;
        Ok(Kept::Marked)
    }

    async fn abort(&mut self, _: &Blob) {}
}

impl<F: NorFlash> Image for Updates<'_, F> {
    async fn confirm(&mut self) {
        // Without this the bootloader swaps back at the next start; and there is nothing to write when it is so.
        if matches!(self.updater.get_state().await, Ok(State::Swap)) {
            let _ = self.updater.mark_booted().await;
        }
    }
}

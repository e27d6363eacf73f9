//! The partition `records` of the chip's flash.

use core::ops::Range;

use embassy_embedded_hal::adapter::BlockingAsync;
use embassy_embedded_hal::flash::partition::Partition;
use esp_bootloader_esp_idf::partitions::{PARTITION_TABLE_MAX_LEN, read_partition_table};
use esp_hal::peripherals::FLASH;
use esp_storage::FlashStorage;
use imlink_device_client::{NoopRawMutex, Rng};
use imlink_firmware_app::{Flash, SharedFlash};
use log::error;
use static_cell::StaticCell;

type Chip = BlockingAsync<FlashStorage<'static>>;

/// What survives a power loss.
type Kept = Flash<Partition<'static, NoopRawMutex, Chip>>;

/// Opens what survives a power loss; the board works without, and keeps nothing.
pub(crate) async fn open(flash: FLASH<'static>, rng: &mut impl Rng) -> Option<Kept> {
    static CHIP: StaticCell<SharedFlash<Chip>> = StaticCell::new();
    let mut flash = FlashStorage::new(flash);
    let Some(range) = find(&mut flash) else {
        error!("there is no partition `records` in flash: give espflash --partition-table partitions.csv");
        return None;
    };
    Flash::open(CHIP.init(SharedFlash::new(BlockingAsync::new(flash))), range, rng).await
}

/// Where the partition lies, by the table in flash.
fn find(flash: &mut FlashStorage<'static>) -> Option<Range<u32>> {
    let mut memory = [0; PARTITION_TABLE_MAX_LEN];
    let table = read_partition_table(flash, &mut memory).ok()?;
    let records = table.iter().find(|entry| entry.label_as_str() == "records")?;
    Some(records.offset()..records.offset().checked_add(records.len())?)
}

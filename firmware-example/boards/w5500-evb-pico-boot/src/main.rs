//! The bootloader of the W5500-EVB-Pico: swaps an image in that the firmware has verified and marked, and swaps it back
//! at the next start if that image did not attach to its gateway.
//!
//! It is flashed once, in front of the firmware that `--features update` builds. Compiled in CI's image, never run there.
#![no_std]
#![no_main]

use core::cell::RefCell;

use embassy_boot_rp::{BootLoader, BootLoaderConfig, WatchdogFlash};
use embassy_rp as _;
use embassy_sync::blocking_mutex::Mutex;
use embassy_time::Duration;
use panic_reset as _;
use portable_atomic as _;

/// Bytes of the flash chip.
const FLASH_SIZE: usize = 2 * 1024 * 1024;
/// An image that does not feed the watchdog for so long is swapped back.
const WATCHDOG: Duration = Duration::from_secs(8);

#[cortex_m_rt::entry]
fn main() -> ! {
    let p = embassy_rp::init(Default::default());
    let flash = WatchdogFlash::<FLASH_SIZE>::start(p.FLASH, p.WATCHDOG, WATCHDOG);
    let flash = Mutex::new(RefCell::new(flash));
    let config = BootLoaderConfig::from_linkerfile_blocking(&flash, &flash, &flash);
    let active = embassy_rp::flash::FLASH_BASE as u32 + config.active.offset();
    let loader: BootLoader = BootLoader::prepare(config);
    // SAFETY: the linker scripts of both put the firmware's vector table at the start of the active partition.
    unsafe { loader.load(active) }
}

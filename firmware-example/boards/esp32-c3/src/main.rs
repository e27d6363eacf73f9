//! imlink's example firmware on boards with Espressif's ESP32-C3: RISC-V with Wi-Fi, an LED on GPIO 10, the chip's own
//! thermometer, the last 64 KiB of flash.
//!
//! Compiled in CI's image, never run there. Set at build time: `IMLINK_WIFI`, `IMLINK_WIFI_PASSWORD`, `IMLINK_DEVICE`,
//! `IMLINK_ROUTE`, `IMLINK_ROUTE_KEY`, and `IMLINK_PRIVATE_KEY` unless the board is to draw its own.
#![no_std]
#![no_main]

mod flash;
mod wifi;

use embassy_executor::Spawner;
use embassy_net::{Config as NetConfig, Runner, StackResources};
use esp_backtrace as _;
use esp_hal::clock::CpuClock;
use esp_hal::gpio::{Level, Output, OutputConfig};
use esp_hal::rng::Trng;
use esp_hal::timer::timg::TimerGroup;
use esp_hal::tsens::TemperatureSensor;
use esp_radio::wifi::Interface;
use imlink_device_client::{Rng, RngError};
use imlink_firmware_app::{Board, StackUse, Texts, Thermometer};
use log::{LevelFilter, error};
use static_cell::StaticCell;

// What the second stage of the chip's boot looks for.
esp_bootloader_esp_idf::esp_app_desc!();

const IDENTITY: Texts = Texts {
    device: env!("IMLINK_DEVICE"),
    routes: env!("IMLINK_ROUTE"),
    route_keys: option_env!("IMLINK_ROUTE_KEY"),
    private_key: option_env!("IMLINK_PRIVATE_KEY"),
};

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Interface>) -> ! {
    runner.run().await
}

#[esp_hal::main]
async fn main(spawner: Spawner) {
    esp_println::logger::init_logger(LevelFilter::Info);
    let p = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    // For the radio alone; the first piece is what the boot stages leave.
    esp_alloc::heap_allocator!(#[esp_hal::ram(reclaimed)] size: 64 * 1024);
    esp_alloc::heap_allocator!(size: 36 * 1024);
    esp_rtos::start(TimerGroup::new(p.TIMG0).timer0, p.FROM_CPU_INTR0);

    // From here on the chip's random numbers are true ones.
    let controller = match wifi::start(p.WIFI) {
        Ok(controller) => controller,
        Err(why) => return error!("there is no Wi-Fi: {why}"),
    };
    let mut seed = [0; 8];
    if BoardRng.fill(&mut seed).is_err() {
        return error!("the chip gives no true random numbers");
    }
    static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) = embassy_net::new(
        Interface::station(),
        NetConfig::dhcpv4(Default::default()),
        resources,
        u64::from_le_bytes(seed),
    );
    if let (Ok(wifi), Ok(network)) = (wifi::stay(controller), network(runner)) {
        spawner.spawn(wifi);
        spawner.spawn(network);
    }
    let board = Board {
        led: Output::new(p.GPIO10, Level::Low, OutputConfig::default()),
        thermometer: ChipThermometer(TemperatureSensor::new(p.TSENS, Default::default()).ok()),
        stack_use: StackUse::default,
        reset: esp_hal::system::software_reset,
    };
    let kept = flash::open(p.FLASH, &mut BoardRng).await;
    imlink_firmware_app::start(IDENTITY, stack, BoardRng, board, kept).await;
}

/// What `esp-backtrace` calls after it has told of a panic.
#[unsafe(no_mangle)]
extern "Rust" fn custom_halt() -> ! {
    esp_hal::system::software_reset()
}

/// The chip's random number generator, with the radio's noise in it; without the radio it gives nothing.
struct BoardRng;

impl Rng for BoardRng {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        Trng::try_new().map_err(|_| RngError)?.read(bytes);
        Ok(())
    }
}

/// The thermometer of the ESP32-C3.
struct ChipThermometer(Option<TemperatureSensor<'static>>);

impl Thermometer for ChipThermometer {
    async fn millicelsius(&mut self) -> Option<i32> {
        let shown = self.0.as_ref()?.get_temperature();
        // 0.4386 °C a step, 27.88 °C for each range that is chosen (the HAL's formula, without its floating point).
        Some(i32::from(shown.raw_value) * 4386 / 10 - i32::from(shown.offset) * 27_880 - 20_520)
    }
}

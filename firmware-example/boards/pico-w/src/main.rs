//! imlink's example firmware on the Raspberry Pi Pico W: RP2040, CYW43439 Wi-Fi, the LED beside the USB port, the
//! chip's own thermometer, the last 64 KiB of flash.
//!
//! Compiled in CI's image, never run there. Set at build time: `IMLINK_WIFI`, `IMLINK_WIFI_PASSWORD`, `IMLINK_DEVICE`,
//! `IMLINK_ROUTE`, `IMLINK_ROUTE_KEY`, and `IMLINK_PRIVATE_KEY` unless the board is to draw its own. It logs on its USB
//! port, which is a serial line.
#![no_std]
#![no_main]

mod wifi;

use cyw43::NetDriver;
use cyw43_pio::{DEFAULT_CLOCK_DIVIDER, PioSpi};
use embassy_executor::Spawner;
use embassy_net::{Config as NetConfig, Runner, StackResources};
use embassy_rp::adc::{self, Adc, Channel};
use embassy_rp::clocks::RoscRng;
use embassy_rp::flash::{Async as FlashAsync, Flash};
use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, FLASH, PIO0, USB};
use embassy_rp::pio::{self, Pio};
use embassy_rp::{bind_interrupts, dma, usb};
use imlink_device_client::{Rng, RngError};
use imlink_firmware_app::{Board, Flash as Kept, SharedFlash, StackUse, Texts, Thermometer};
use log::LevelFilter;
use panic_reset as _;
use portable_atomic as _;
use static_cell::StaticCell;

use wifi::{Chip, Led};

bind_interrupts!(struct Irqs {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
    ADC_IRQ_FIFO => adc::InterruptHandler;
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
    USBCTRL_IRQ => usb::InterruptHandler<USB>;
});

/// Bytes of the flash chip.
const FLASH_SIZE: usize = 2 * 1024 * 1024;
/// What survives a power loss, see `memory.x`.
const KEPT: core::ops::Range<u32> = (FLASH_SIZE - 64 * 1024) as u32..FLASH_SIZE as u32;

type FlashChip = Flash<'static, FLASH, FlashAsync, FLASH_SIZE>;

const IDENTITY: Texts = Texts {
    device: env!("IMLINK_DEVICE"),
    routes: env!("IMLINK_ROUTE"),
    route_keys: option_env!("IMLINK_ROUTE_KEY"),
    private_key: option_env!("IMLINK_PRIVATE_KEY"),
};

#[embassy_executor::task]
async fn radio(chip: Chip) -> ! {
    chip.run().await
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, NetDriver<'static>>) -> ! {
    runner.run().await
}

/// Keeps the first 2 KiB of what is logged until somebody opens the port.
#[embassy_executor::task]
async fn log_by(usb: usb::Driver<'static, USB>) {
    embassy_usb_logger::run!(2048, LevelFilter::Info, usb);
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let p = embassy_rp::init(Default::default());
    if let Ok(log) = log_by(usb::Driver::new(p.USB, Irqs)) {
        spawner.spawn(log);
    }
    let mut pio = Pio::new(p.PIO0, Irqs);
    let wires = PioSpi::new(
        &mut pio.common,
        pio.sm0,
        DEFAULT_CLOCK_DIVIDER,
        pio.irq0,
        Output::new(p.PIN_25, Level::High),
        p.PIN_24,
        p.PIN_29,
        dma::Channel::new(p.DMA_CH0, Irqs),
    );
    static FLASH_CHIP: StaticCell<SharedFlash<FlashChip>> = StaticCell::new();
    let flash = FLASH_CHIP.init(SharedFlash::new(FlashChip::new(p.FLASH, p.DMA_CH1, Irqs)));

    let (device, mut control, chip) = wifi::start(Output::new(p.PIN_23, Level::Low), wires).await;
    if let Ok(radio) = radio(chip) {
        spawner.spawn(radio);
    }
    wifi::prepare(&mut control).await;
    let mut seed = [0; 8];
    if Noise.fill(&mut seed).is_err() {
        // An oscillator that stands still may start at the next power-on.
        cortex_m::peripheral::SCB::sys_reset();
    }
    static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) =
        embassy_net::new(device, NetConfig::dhcpv4(Default::default()), resources, u64::from_le_bytes(seed));
    if let (Ok(network), Ok(wifi)) = (network(runner), wifi::stay(control, stack)) {
        spawner.spawn(network);
        spawner.spawn(wifi);
    }
    let board = Board {
        led: Led,
        thermometer: ChipThermometer {
            adc: Adc::new(p.ADC, Irqs, adc::Config::default()),
            channel: Channel::new_temp_sensor(p.ADC_TEMP_SENSOR),
        },
        stack_use: StackUse::default,
        reset: cortex_m::peripheral::SCB::sys_reset,
    };
    let kept = Kept::open(flash, KEPT, &mut Noise).await;
    imlink_firmware_app::start(IDENTITY, stack, Noise, board, kept).await;
}

/// The ring oscillator's noise, hashed: its bits lean to one side, and are read faster than they change (RP2040 datasheet
/// 2.17.5). The RP2040 has no better source; where keys are worth an attack, make them on a host.
struct Noise;

impl Rng for Noise {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        imlink_firmware_app::hashed(|piece| RoscRng.fill_bytes(piece), bytes)
    }
}

/// The thermometer of the RP2040.
struct ChipThermometer {
    adc: Adc<'static, adc::Async>,
    channel: Channel<'static>,
}

impl Thermometer for ChipThermometer {
    async fn millicelsius(&mut self) -> Option<i32> {
        // 12 bits of 3.3 V; 0.706 V at 27 °C, 1.721 mV less for each degree (RP2040 datasheet 4.9.5).
        let microvolts = i32::from(self.adc.read(&mut self.channel).await.ok()?) * 3_300_000 / 4096;
        Some(27_000 - (microvolts - 706_000) * 1000 / 1721)
    }
}

//! imlink's example firmware on WIZnet's W5500-EVB-Pico: RP2040, W5500 Ethernet on SPI0, LED on GPIO 25, the chip's
//! own thermometer, the last 64 KiB of flash.
//!
//! Compiled in CI's image, never run there. Set at build time: `IMLINK_DEVICE`, `IMLINK_ROUTE`, `IMLINK_ROUTE_KEY`, and
//! `IMLINK_PRIVATE_KEY` unless the board is to draw its own. With feature `update` also `IMLINK_UPDATE_KEY`,
//! by which images are signed. It logs on its USB port, which is a serial line.
#![no_std]
#![no_main]

#[cfg(feature = "update")]
mod update;

use embassy_executor::Spawner;
use embassy_net::{Config as NetConfig, Runner, StackResources};
use embassy_net_wiznet::chip::W5500;
use embassy_net_wiznet::{Device, State};
use embassy_rp::adc::{self, Adc, Channel};
use embassy_rp::clocks::RoscRng;
use embassy_rp::flash::{Async as FlashAsync, Flash};
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, DMA_CH2, FLASH, SPI0, USB};
use embassy_rp::spi::{Async, Config as SpiConfig, Spi};
use embassy_rp::{bind_interrupts, dma, usb};
use embassy_time::Delay;
use embedded_hal_bus::spi::ExclusiveDevice;
use imlink_device_client::{Rng, RngError};
use imlink_firmware_app::{Board, Flash as Kept, SharedFlash, StackUse, Texts, Thermometer};
use log::LevelFilter;
use panic_reset as _;
use portable_atomic as _;
use static_cell::StaticCell;

bind_interrupts!(struct Irqs {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>, dma::InterruptHandler<DMA_CH2>;
    ADC_IRQ_FIFO => adc::InterruptHandler;
    USBCTRL_IRQ => usb::InterruptHandler<USB>;
});

/// Bytes of the flash chip.
const FLASH_SIZE: usize = 2 * 1024 * 1024;
/// What survives a power loss, see `memory-plain.x`.
const KEPT: core::ops::Range<u32> = (FLASH_SIZE - 64 * 1024) as u32..FLASH_SIZE as u32;

type FlashChip = Flash<'static, FLASH, FlashAsync, FLASH_SIZE>;

const IDENTITY: Texts = Texts {
    device: env!("IMLINK_DEVICE"),
    routes: env!("IMLINK_ROUTE"),
    route_keys: option_env!("IMLINK_ROUTE_KEY"),
    private_key: option_env!("IMLINK_PRIVATE_KEY"),
};

type Wires = ExclusiveDevice<Spi<'static, SPI0, Async>, Output<'static>, Delay>;
type Chip = embassy_net_wiznet::Runner<'static, W5500, Wires, Input<'static>, Output<'static>>;

#[embassy_executor::task]
async fn ethernet(runner: Chip) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Device<'static>>) -> ! {
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
    let mut spi = SpiConfig::default();
    spi.frequency = 30_000_000;
    let spi = Spi::new(p.SPI0, p.PIN_18, p.PIN_19, p.PIN_16, p.DMA_CH0, p.DMA_CH1, Irqs, spi);
    let Ok(wires) = ExclusiveDevice::new(spi, Output::new(p.PIN_17, Level::High), Delay);
    let (interrupt, reset) = (Input::new(p.PIN_21, Pull::Up), Output::new(p.PIN_20, Level::High));
    static FLASH_CHIP: StaticCell<SharedFlash<FlashChip>> = StaticCell::new();
    let flash = FLASH_CHIP.init(SharedFlash::new(FlashChip::new(p.FLASH, p.DMA_CH2, Irqs)));

    static CHIP: StaticCell<State<4, 4>> = StaticCell::new();
    let started = embassy_net_wiznet::new(address(), CHIP.init(State::new()), wires, interrupt, reset).await;
    let Ok((device, chip)) = started else {
        // The W5500 does not answer: the next power-on may find it.
        cortex_m::peripheral::SCB::sys_reset();
    };
    let mut seed = [0; 8];
    if Noise.fill(&mut seed).is_err() {
        // An oscillator that stands still may start at the next power-on.
        cortex_m::peripheral::SCB::sys_reset();
    }
    static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) =
        embassy_net::new(device, NetConfig::dhcpv4(Default::default()), resources, u64::from_le_bytes(seed));
    if let (Ok(chip), Ok(network)) = (ethernet(chip), network(runner)) {
        spawner.spawn(chip);
        spawner.spawn(network);
    }
    let board = Board {
        led: Output::new(p.PIN_25, Level::Low),
        thermometer: ChipThermometer {
            adc: Adc::new(p.ADC, Irqs, adc::Config::default()),
            channel: Channel::new_temp_sensor(p.ADC_TEMP_SENSOR),
        },
        stack_use: StackUse::default,
        reset: cortex_m::peripheral::SCB::sys_reset,
    };
    let kept = Kept::open(flash, KEPT, &mut Noise).await;
    #[cfg(not(feature = "update"))]
    imlink_firmware_app::start(IDENTITY, stack, Noise, board, kept).await;
    #[cfg(feature = "update")]
    {
        if let Ok(watch) = watch(p.WATCHDOG) {
            spawner.spawn(watch);
        }
        updatable_on(stack, board, flash, kept).await;
    }
}

/// Tells the bootloader's watchdog that the image runs.
#[cfg(feature = "update")]
#[embassy_executor::task]
async fn watch(watchdog: embassy_rp::Peri<'static, embassy_rp::peripherals::WATCHDOG>) -> ! {
    let mut watchdog = embassy_rp::watchdog::Watchdog::new(watchdog);
    loop {
        watchdog.feed(embassy_time::Duration::from_secs(8));
        embassy_time::Timer::after_secs(2).await;
    }
}

/// The same with firmware updates: one flash for records and images.
#[cfg(feature = "update")]
async fn updatable_on(
    stack: embassy_net::Stack<'static>,
    board: Board<Output<'static>, ChipThermometer>,
    flash: &'static SharedFlash<FlashChip>,
    mut kept: Option<Kept<impl embedded_storage_async::nor_flash::NorFlash>>,
) {
    use imlink_device_client::blob::Nothing;
    use imlink_firmware_app::{Blobs, Identity, Memory, public_key};
    use log::error;

    static WORD: StaticCell<[u8; 4]> = StaticCell::new();
    let memory = Memory::take();
    let identity = match Identity::read(IDENTITY, kept.as_mut().map(|kept| &mut kept.records), &mut Noise).await {
        Ok(identity) => identity,
        Err(why) => return error!("{why}"),
    };
    // Without a key of its form no image is taken.
    let update_key = option_env!("IMLINK_UPDATE_KEY").and_then(public_key).map(|key| [key]);
    let blobs = Blobs {
        state: transfers(),
        keys: update_key.as_ref().map_or(&[], |key| key.as_slice()),
        sink: update::Updates::new(flash, WORD.init([0; 4])),
        source: Nothing,
    };
    let ended = imlink_firmware_app::run_with_blobs(memory, stack, identity.config(), Noise, board, kept, blobs).await;
    error!("the device stopped: {ended}");
}

/// Memory of transfers. Not inlined, as `Memory::take`.
#[cfg(feature = "update")]
#[inline(never)]
fn transfers() -> &'static imlink_device_client::blob::BlobState<imlink_device_client::NoopRawMutex> {
    use imlink_device_client::NoopRawMutex;
    use imlink_device_client::blob::BlobState;

    static TRANSFERS: StaticCell<BlobState<NoopRawMutex>> = StaticCell::new();
    TRANSFERS.init_with(BlobState::new)
}

/// A MAC address of those that nobody is given, from the device id: the board has none of its own.
fn address() -> [u8; 6] {
    let hash =
        IDENTITY.device.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_le_bytes();
    [0x02, 0x00, a, b, c, d]
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

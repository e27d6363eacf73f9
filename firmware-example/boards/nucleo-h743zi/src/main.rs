//! imlink's example firmware on ST's Nucleo-H743ZI2: STM32H743 with its own Ethernet, LED LD1 on PB0, the chip's own
//! thermometer, the last four sectors of flash.
//!
//! Compiled in CI's image, never run there. Set at build time: `IMLINK_DEVICE`, `IMLINK_ROUTE`, `IMLINK_ROUTE_KEY`, and
//! `IMLINK_PRIVATE_KEY` unless the board is to draw its own. It logs by RTT, which `probe-rs run` shows.
#![no_std]
#![no_main]

use embassy_embedded_hal::adapter::BlockingAsync;
use embassy_executor::Spawner;
use embassy_net::{Config as NetConfig, Runner, StackResources};
use embassy_stm32::adc::{Adc, SampleTime, Temperature};
use embassy_stm32::eth::{self, Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::flash::{Blocking, Flash};
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::peripherals::{self, ADC3, ETH, ETH_SMA};
use embassy_stm32::rng::{self, Rng as HardwareRng};
use embassy_stm32::{Config as ChipConfig, bind_interrupts};
use imlink_device_client::{Rng, RngError};
use imlink_firmware_app::{Board, Flash as Kept, SharedFlash, StackUse, Texts, Thermometer};
use log::LevelFilter;
use panic_reset as _;
use static_cell::StaticCell;

bind_interrupts!(struct Irqs {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<peripherals::RNG>;
});

/// What survives a power loss, see `memory.x`: offsets in flash.
const KEPT: core::ops::Range<u32> = (2048 - 512) * 1024..2048 * 1024;

const IDENTITY: Texts = Texts {
    device: env!("IMLINK_DEVICE"),
    routes: env!("IMLINK_ROUTE"),
    route_keys: option_env!("IMLINK_ROUTE_KEY"),
    private_key: option_env!("IMLINK_PRIVATE_KEY"),
};

type Device = Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>;
type Chip = BlockingAsync<Flash<'static, Blocking>>;

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Device>) -> ! {
    runner.run().await
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    rtt_target::rtt_init_log!(LevelFilter::Info);
    let p = embassy_stm32::init(clocks());
    let mut rng = HardwareRng::new(p.RNG, Irqs);
    let mut seed = [0; 8];
    if rng.async_fill_bytes(&mut seed).await.is_err() {
        // A source of noise that fails its own test may pass it after a reset.
        cortex_m::peripheral::SCB::sys_reset();
    }
    static PACKETS: StaticCell<PacketQueue<4, 4>> = StaticCell::new();
    let packets = PACKETS.init(PacketQueue::new());
    let device = Ethernet::new(
        packets,
        p.ETH,
        Irqs,
        p.PA1,
        p.PA7,
        p.PC4,
        p.PC5,
        p.PG13,
        p.PB13,
        p.PG11,
        address(),
        p.ETH_SMA,
        p.PA2,
        p.PC1,
    );
    static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) =
        embassy_net::new(device, NetConfig::dhcpv4(Default::default()), resources, u64::from_le_bytes(seed));
    if let Ok(network) = network(runner) {
        spawner.spawn(network);
    }
    let adc = Adc::new(p.ADC3);
    let channel = adc.enable_temperature();
    let board = Board {
        led: Output::new(p.PB0, Level::Low, Speed::Low),
        thermometer: ChipThermometer { adc, channel },
        stack_use: StackUse::default,
        reset: cortex_m::peripheral::SCB::sys_reset,
    };
    static CHIP: StaticCell<SharedFlash<Chip>> = StaticCell::new();
    let flash = CHIP.init(SharedFlash::new(BlockingAsync::new(Flash::new_blocking(p.FLASH))));
    let mut rng = BoardRng(rng);
    let kept = Kept::open(flash, KEPT, &mut rng).await;
    imlink_firmware_app::start(IDENTITY, stack, rng, board, kept).await;
}

/// 400 MHz, and the oscillator of the random number generator.
fn clocks() -> ChipConfig {
    use embassy_stm32::rcc::*;
    let mut config = ChipConfig::default();
    config.rcc.hsi = Some(HSIPrescaler::DIV1);
    config.rcc.csi = true;
    config.rcc.hsi48 = Some(Default::default());
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL50,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    // The converter's clock: 64 MHz / 16 · 32 / 8 = 16 MHz.
    config.rcc.pll2 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV16,
        mul: PllMul::MUL32,
        fracn: None,
        divp: Some(PllDiv::DIV8),
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV2;
    config.rcc.apb1_pre = APBPrescaler::DIV2;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.apb3_pre = APBPrescaler::DIV2;
    config.rcc.apb4_pre = APBPrescaler::DIV2;
    config.rcc.voltage_scale = VoltageScale::Scale1;
    config.rcc.mux.adcsel = mux::Adcsel::PLL2_P;
    config
}

/// A MAC address of those that nobody is given, from the chip's unique id.
fn address() -> [u8; 6] {
    let id = embassy_stm32::uid::uid();
    let hash = id.iter().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_le_bytes();
    [0x02, 0x00, a, b, c, d]
}

/// The chip's random number generator.
struct BoardRng(HardwareRng<'static, peripherals::RNG>);

impl Rng for BoardRng {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

/// The thermometer of the STM32H743.
struct ChipThermometer {
    adc: Adc<'static, ADC3>,
    channel: Temperature,
}

/// What the converter shows at 30 °C and at 110 °C, measured when this chip was made (datasheet, table 96).
const AT_30: *const u16 = 0x1ff1_e820 as *const u16;
const AT_110: *const u16 = 0x1ff1_e840 as *const u16;

impl Thermometer for ChipThermometer {
    async fn millicelsius(&mut self) -> Option<i32> {
        let shown = i32::from(self.adc.blocking_read(&mut self.channel, SampleTime::CYCLES810_5));
        // SAFETY: both lie in the chip's read-only system memory, on their alignment.
        let (low, high) = unsafe { (AT_30.read_volatile(), AT_110.read_volatile()) };
        let span = i32::from(high) - i32::from(low);
        // A chip whose calibration is missing shows none.
        (span > 0).then(|| 30_000 + (shown - i32::from(low)) * 800 / span * 100)
    }
}

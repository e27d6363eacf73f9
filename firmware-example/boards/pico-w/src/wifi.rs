//! The Wi-Fi chip: joins the network whose name and password were put into the image, joins it again, and switches the
//! LED, which hangs on that chip.

use core::convert::Infallible;

use cyw43::{A4, Aligned, Control, JoinOptions, NetDriver, PowerManagementMode, Runner, SpiBus, State};
use cyw43_pio::PioSpi;
use embassy_futures::select::{Either, select};
use embassy_net::Stack;
use embassy_rp::gpio::Output;
use embassy_rp::peripherals::PIO0;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::Timer;
use embedded_hal::digital::{ErrorType, OutputPin};
use log::{error, info, warn};
use static_cell::StaticCell;

const NAME: &str = env!("IMLINK_WIFI");
const PASSWORD: &str = env!("IMLINK_WIFI_PASSWORD");
/// Between two tries, in seconds.
const PAUSE_S: u64 = 5;

/// What the chip runs, which rules of which countries it knows, and how it is wired here.
static FIRMWARE: &Aligned<A4, [u8]> = &Aligned(*cyw43_firmware::CYW43_43439A0);
static COUNTRIES: &[u8] = cyw43_firmware::CYW43_43439A0_CLM;
static WIRING: &Aligned<A4, [u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/nvram.bin")));

/// The chip behind its wires.
pub(crate) type Chip = Runner<'static, SpiBus<Output<'static>, PioSpi<'static, PIO0, 0>>>;

/// What the LED is to be.
static LED: Signal<CriticalSectionRawMutex, bool> = Signal::new();
/// The chip's pin with the LED.
const LED_PIN: u8 = 0;

/// The LED; it is switched when the chip comes to it.
pub(crate) struct Led;

impl ErrorType for Led {
    type Error = Infallible;
}

impl OutputPin for Led {
    fn set_low(&mut self) -> Result<(), Infallible> {
        LED.signal(false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        LED.signal(true);
        Ok(())
    }
}

/// Starts the chip; its runner has to run before [`stay`].
pub(crate) async fn start(
    power: Output<'static>,
    wires: PioSpi<'static, PIO0, 0>,
) -> (NetDriver<'static>, Control<'static>, Chip) {
    static STATE: StaticCell<State> = StaticCell::new();
    cyw43::new(STATE.init(State::new()), power, wires, FIRMWARE, WIRING).await
}

/// Joins the network and switches the LED, for ever. A network without password is an open one.
#[embassy_executor::task]
pub(crate) async fn stay(mut control: Control<'static>, stack: Stack<'static>) -> ! {
    if NAME.is_empty() {
        error!("IMLINK_WIFI was not set when this was built: there is no network to join");
        switch_until(&mut control, core::future::pending()).await;
    }
    loop {
        let options = if PASSWORD.is_empty() { JoinOptions::new_open() } else { JoinOptions::new(PASSWORD.as_bytes()) };
        match control.join(NAME, options).await {
            Ok(()) => {
                info!("joined {NAME}");
                switch_until(&mut control, stack.wait_link_down()).await;
                warn!("left {NAME}");
            }
            Err(why) => warn!("{NAME} cannot be joined: {why:?}"),
        }
        switch_until(&mut control, Timer::after_secs(PAUSE_S)).await;
    }
}

/// Loads what the chip needs before anything else, and lets it sleep between beacons.
pub(crate) async fn prepare(control: &mut Control<'static>) {
    control.init(COUNTRIES).await;
    control.set_power_management(PowerManagementMode::PowerSave).await;
}

/// Switches the LED as it is wanted, until `end`.
async fn switch_until(control: &mut Control<'static>, end: impl Future<Output = ()>) {
    let mut end = core::pin::pin!(end);
    while let Either::First(on) = select(LED.wait(), &mut end).await {
        control.gpio_set(LED_PIN, on).await;
    }
}

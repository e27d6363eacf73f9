//! The board-free part of the example firmware: what it does with messages and calls, and what it tells.
//!
//! ```text
//! board package   pins, network driver, flash, randomness
//!       │
//!      run ─ network    the device client's connections over embassy-net
//!          ├ device     messages, calls, readings
//!          └ records    what it keeps in flash
//! ```
//!
//! A board calls [`run`] from a task, with [`Memory`] from a `StaticCell`. Change `imlink-firmware-interface`
//! and [`device`](self) to make it your own.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![allow(async_fn_in_trait, reason = "used by generics only, never as trait objects")]

mod device;
mod identity;
mod network;
mod records;

use core::cell::{Cell, RefCell};

use embassy_futures::join::join3;
use embassy_futures::select::{Either, select};
use embassy_net::Stack;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Timer};
use embedded_hal::digital::OutputPin;
use embedded_storage_async::nor_flash::NorFlash;
use imlink_device_client::embassy::EmbassyClock;
use imlink_device_client::flash::FlashStore;
use imlink_device_client::{Config, Error, NoopRawMutex, Rng, State};
use log::{info, warn};

pub use identity::{Identity, private_key};
pub use imlink_firmware_interface as interface;
pub use network::{Connection, Network};

use device::Device;
use records::Records;

/// What the firmware works with.
pub struct Board<L, T> {
    /// The LED; high is on.
    pub led: L,
    /// The thermometer.
    pub thermometer: T,
    /// How much of the stack was used.
    pub stack_use: fn() -> StackUse,
    /// Restarts the board.
    pub reset: fn() -> !,
}

/// A thermometer.
pub trait Thermometer {
    /// The temperature in thousandths of a degree Celsius; `None` when it does not answer.
    async fn millicelsius(&mut self) -> Option<i32>;
}

/// How much of the stack was used, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct StackUse {
    /// The most there ever was.
    pub used: u32,
    /// All of it.
    pub size: u32,
}

/// All memory of the client and its connection, about 4.5 KiB.
pub struct Memory {
    state: State<NoopRawMutex, EmbassyClock, 512, 256, 512, 128, 512>,
    incoming: [u8; 1024],
    outgoing: [u8; 512],
}

impl Memory {
    /// Fresh memory.
    pub fn new() -> Self {
        Self { state: State::new(EmbassyClock), incoming: [0; 1024], outgoing: [0; 512] }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// Longest time to leave in good order before a restart.
const LEAVING_MAX: Duration = Duration::from_secs(6);
/// Time for the last bytes of a connection before a restart.
const LAST_BYTES: Duration = Duration::from_millis(500);

/// Runs the device over `stack`, until it restarts the board or an error that only another configuration mends.
///
/// `config` says who it is and where it goes; interface and resume are filled in here. With `flash` it knows after
/// a power loss what it has done.
pub async fn run<R, L, T, F>(
    memory: &mut Memory,
    stack: Stack<'_>,
    config: Config<'_>,
    rng: R,
    board: Board<L, T>,
    flash: Option<FlashStore<F>>,
) -> Error
where
    R: Rng,
    L: OutputPin,
    T: Thermometer,
    F: NorFlash,
{
    let Board { led, thermometer, stack_use, reset } = board;
    let records = Records::new(flash);
    let resume = records.resume().await;
    let config = Config { interface: interface::BOARD, resume, ..config };
    let network = Network::new(stack, &mut memory.incoming, &mut memory.outgoing);
    let imlink_device_client::Device { mut runner, client, messages } =
        match imlink_device_client::new(&mut memory.state, config, network, rng) {
            Ok(device) => device,
            Err(error) => return error,
        };
    info!("{}: done up to message {}", config.device, resume.done);
    let device = Device {
        client,
        led: RefCell::new(led),
        is_on: Cell::new(false),
        counter: Cell::new(records.counter().await),
        settings: Cell::new(records.settings().await),
        is_changed: Signal::new(),
        restart: Signal::new(),
        records: &records,
        stack_use,
    };
    device.boot().await;
    // While there is no network there is nothing to try, and no failed try to wait for afterwards.
    let connect = async {
        loop {
            stack.wait_config_up().await;
            info!("network is up");
            match select(runner.run(), stack.wait_config_down()).await {
                Either::First(Ok(())) => return None,
                Either::First(Err(error)) => return Some(error),
                Either::Second(()) => info!("network is down"),
            }
        }
    };
    let restart = async {
        device.restart.wait().await;
        client.stop();
        Timer::after(LEAVING_MAX).await;
    };
    let work = join3(device.handle_messages(messages), device.answer_calls(), device.report(thermometer));
    match select(select(connect, restart), work).await {
        Either::First(Either::First(Some(error))) => {
            warn!("stopped: {error}");
            return error;
        }
        Either::First(_) => {}
        Either::Second((never, ..)) => match never {},
    }
    // The last bytes are on their way.
    Timer::after(LAST_BYTES).await;
    info!("restarting");
    reset()
}

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

#[cfg(test)]
extern crate std;

mod device;
mod identity;
mod network;
mod records;

use core::cell::{Cell, RefCell};
use core::convert::Infallible;

use embassy_futures::join::join4;
use embassy_futures::select::{Either, select};
use embassy_net::Stack;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Timer};
use embedded_hal::digital::OutputPin;
use embedded_storage_async::nor_flash::NorFlash;
#[cfg(feature = "blob")]
use imlink_device_client::blob::{BlobSink, BlobSource, BlobState, Partition};
use imlink_device_client::embassy::EmbassyClock;
use imlink_device_client::flash::FlashStore;
use imlink_device_client::{Client, Config, Error, Messages, NoopRawMutex, Rng, State, Storage};
use log::{info, warn};

pub use identity::{Identity, IdentityError, Texts, private_key, public_key};
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
    let records = Records::new(flash);
    let config = Config { interface: interface::BOARD, resume: records.resume().await, ..config };
    let network = Network::new(stack, &mut memory.incoming, &mut memory.outgoing);
    match imlink_device_client::new(&mut memory.state, config, network, rng) {
        Ok(imlink_device_client::Device { mut runner, client, messages }) => {
            let connect = async || runner.run().await;
            work(stack, &config, board, &records, client, messages, connect, core::future::pending()).await
        }
        Err(error) => error,
    }
}

/// Where firmware images go.
#[cfg(feature = "blob")]
pub trait Image: BlobSink {
    /// The device is attached: the image that runs is good.
    async fn confirm(&mut self) {}
}

#[cfg(feature = "blob")]
impl<F: NorFlash> Image for Partition<F> {}

/// Where firmware images go and what may be fetched.
#[cfg(feature = "blob")]
pub struct Blobs<'a, I, S> {
    /// Memory of transfers.
    pub state: &'a BlobState<NoopRawMutex>,
    /// Ed25519 public keys by which images are signed.
    pub keys: &'a [[u8; 32]],
    /// Where images go.
    pub sink: I,
    /// What may be fetched.
    pub source: S,
}

/// The same with transfers of firmware images and files.
#[cfg(feature = "blob")]
#[allow(clippy::too_many_arguments, reason = "what a board has, each of its own type")]
pub async fn run_with_blobs<R, L, T, F>(
    memory: &mut Memory,
    stack: Stack<'_>,
    config: Config<'_>,
    rng: R,
    board: Board<L, T>,
    flash: Option<FlashStore<F>>,
    blobs: Blobs<'_, impl Image, impl BlobSource>,
) -> Error
where
    R: Rng,
    L: OutputPin,
    T: Thermometer,
    F: NorFlash,
{
    let records = Records::new(flash);
    let config = Config { interface: interface::BOARD, resume: records.resume().await, ..config };
    let network = Network::new(stack, &mut memory.incoming, &mut memory.outgoing);
    let Blobs { state, keys, mut sink, mut source } = blobs;
    match imlink_device_client::new(&mut memory.state, config, network, rng) {
        Ok(imlink_device_client::Device { runner, client, messages }) => {
            let (mut runner, blobs) = runner.with_blobs(state);
            let mut blobs = blobs.with_keys(keys);
            let connect = async || runner.run().await;
            let transfer = async {
                client.wait_for(|link, _| link.is_attached()).await;
                sink.confirm().await;
                blobs.run(&mut sink, &mut source).await
            };
            work(stack, &config, board, &records, client, messages, connect, transfer).await
        }
        Err(error) => error,
    }
}

/// Connects while there is a network, and works, until the board is to restart.
#[allow(clippy::too_many_arguments, reason = "the parts of a device, each of its own type")]
async fn work<S, L, T, F>(
    stack: Stack<'_>,
    config: &Config<'_>,
    board: Board<L, T>,
    records: &Records<F>,
    client: Client<'_, S>,
    messages: Messages<'_, S>,
    mut connect: impl AsyncFnMut() -> Result<(), Error>,
    transfer: impl Future<Output = Infallible>,
) -> Error
where
    S: Storage,
    L: OutputPin,
    T: Thermometer,
    F: NorFlash,
{
    let Board { led, thermometer, stack_use, reset } = board;
    info!("{}: done up to message {}", config.device, config.resume.done);
    let device = Device {
        client,
        led: RefCell::new(led),
        is_on: Cell::new(false),
        counter: Cell::new(records.counter().await),
        settings: Cell::new(records.settings().await),
        is_changed: Signal::new(),
        restart: Signal::new(),
        records,
        stack_use,
    };
    device.boot().await;
    // While there is no network there is nothing to try, and no failed try to wait for afterwards.
    let connected = async {
        loop {
            stack.wait_config_up().await;
            info!("network is up");
            match select(connect(), stack.wait_config_down()).await {
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
    let work = join4(device.handle_messages(messages), device.answer_calls(), device.report(thermometer), transfer);
    match select(select(connected, restart), work).await {
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

//! The board-free part of the example firmware: what it does with messages and calls, and what it tells.
//!
//! ```text
//! board package   pins, network driver, flash, randomness
//!       │
//!      run ─ network    the device client's connections over embassy-net
//!          ├ device     messages, calls, readings
//!          ├ events     what it publishes, kept in flash
//!          └ records    what it keeps in flash
//! ```
//!
//! A board calls [`run`] from a task, with [`Memory`]. Change `imlink-firmware-interface`
//! and [`device`](self) to make it your own.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![allow(async_fn_in_trait, reason = "used by generics only, never as trait objects")]

#[cfg(test)]
extern crate std;

mod device;
mod events;
mod identity;
mod network;
mod noise;
mod records;

use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::pin::pin;

use embassy_futures::join::join5;
use embassy_futures::select::{Either, select};
use embassy_net::Stack;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Timer};
use embedded_hal::digital::OutputPin;
use embedded_storage_async::nor_flash::NorFlash;
#[cfg(feature = "blob")]
use imlink_device_client::blob::{BlobSink, BlobSource, BlobState, Partition};
use imlink_device_client::embassy::EmbassyClock;
use imlink_device_client::flash::FlashQueue;
use imlink_device_client::{Client, Config, Error, Messages, NoopRawMutex, Rng, State, Storage};
use log::{error, info, warn};
use static_cell::{ConstStaticCell, StaticCell};

pub use events::{Flash, SharedFlash};
pub use identity::{Identity, IdentityError, Texts, private_key, public_key};
pub use imlink_firmware_interface as interface;
pub use network::{Connection, Network};
pub use noise::hashed;

use device::Device;
use events::Events;
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
    state: &'static mut ClientState,
    incoming: &'static mut [u8],
    outgoing: &'static mut [u8],
}

type ClientState = State<NoopRawMutex, EmbassyClock, 512, 256, 512, 128, 512>;

impl Memory {
    /// The memory of a board, which has one.
    ///
    /// # Panics
    /// When it is taken twice.
    // Not inlined: the stack that it needs to make it is given back before the device runs.
    #[inline(never)]
    pub fn take() -> Self {
        static STATE: StaticCell<ClientState> = StaticCell::new();
        static INCOMING: ConstStaticCell<[u8; 1024]> = ConstStaticCell::new([0; 1024]);
        static OUTGOING: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
        let state = STATE.init_with(|| State::new(EmbassyClock));
        Self { state, incoming: INCOMING.take(), outgoing: OUTGOING.take() }
    }
}

/// Longest time to leave in good order before a restart.
const LEAVING_MAX: Duration = Duration::from_secs(6);
/// Time for the last bytes of a connection before a restart.
const LAST_BYTES: Duration = Duration::from_millis(500);

/// Runs the device over `stack`, until it restarts the board or an error that only another configuration mends.
///
/// `config` says who it is and where it goes; interface, resume and events are filled in here. With `flash` it knows
/// after a power loss what it has done, and what it still has to tell.
pub async fn run<R, L, T, F>(
    memory: Memory,
    stack: Stack<'_>,
    config: Config<'_>,
    rng: R,
    board: Board<L, T>,
    flash: Option<Flash<F>>,
) -> Error
where
    R: Rng,
    L: OutputPin,
    T: Thermometer,
    F: NorFlash,
{
    let (records, queue) = keep(flash);
    let config = configured(config, &records, queue.as_ref()).await;
    let network = Network::new(stack, memory.incoming, memory.outgoing);
    match imlink_device_client::new(memory.state, config, network, rng) {
        Ok(imlink_device_client::Device { mut runner, client, messages }) => {
            let connect = async || runner.run().await;
            let parts = (client, messages, queue);
            work(stack, &config, board, &records, parts, connect, core::future::pending()).await
        }
        Err(error) => error,
    }
}

/// The records, and the queue of events.
fn keep<F: NorFlash>(flash: Option<Flash<F>>) -> (Records<F>, Option<FlashQueue<F>>) {
    let (records, events) = flash.map_or((None, None), |Flash { records, events }| (Some(records), events));
    (Records::new(records), events)
}

async fn configured<'a, F: NorFlash>(
    config: Config<'a>,
    records: &Records<F>,
    queue: Option<&FlashQueue<F>>,
) -> Config<'a> {
    let (resume, events) = (records.resume().await, queue.map(FlashQueue::start));
    Config { interface: interface::BOARD, resume, events, ..config }
}

/// The same for a board whose image says who it is. Logs why it stops.
pub async fn start<R, L, T, F>(
    texts: Texts,
    stack: Stack<'_>,
    mut rng: R,
    board: Board<L, T>,
    mut flash: Option<Flash<F>>,
) where
    R: Rng,
    L: OutputPin,
    T: Thermometer,
    F: NorFlash,
{
    let identity = match Identity::read(texts, flash.as_mut().map(|flash| &mut flash.records), &mut rng).await {
        Ok(identity) => identity,
        Err(why) => return error!("{why}"),
    };
    let ended = run(Memory::take(), stack, identity.config(), rng, board, flash).await;
    error!("the device stopped: {ended}");
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
    memory: Memory,
    stack: Stack<'_>,
    config: Config<'_>,
    rng: R,
    board: Board<L, T>,
    flash: Option<Flash<F>>,
    blobs: Blobs<'_, impl Image, impl BlobSource>,
) -> Error
where
    R: Rng,
    L: OutputPin,
    T: Thermometer,
    F: NorFlash,
{
    let (records, queue) = keep(flash);
    let config = configured(config, &records, queue.as_ref()).await;
    let network = Network::new(stack, memory.incoming, memory.outgoing);
    let Blobs { state, keys, mut sink, mut source } = blobs;
    match imlink_device_client::new(memory.state, config, network, rng) {
        Ok(imlink_device_client::Device { runner, client, messages }) => {
            let (mut runner, blobs) = runner.with_blobs(state);
            let mut blobs = blobs.with_keys(keys);
            let connect = async || runner.run().await;
            let transfer = async {
                client.wait_for(|link, _| link.is_attached()).await;
                sink.confirm().await;
                blobs.run(&mut sink, &mut source).await
            };
            work(stack, &config, board, &records, (client, messages, queue), connect, transfer).await
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
    (client, messages, queue): (Client<'_, S>, Messages<'_, S>, Option<FlashQueue<F>>),
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
    let events = match Events::new(client, queue) {
        Ok(events) => events,
        Err(error) => return error.into(),
    };
    let device = Device {
        client,
        events: &events,
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
    // Pinned where they are made: moved, each would pass over the stack as a whole.
    let (handle, answer) = (pin!(device.handle_messages(messages)), pin!(device.answer_calls()));
    let (report, feed, transfer) = (pin!(device.report(thermometer)), pin!(events.run()), pin!(transfer));
    let work = join5(handle, answer, report, feed, transfer);
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

//! imlink's example firmware on QEMU's `mps2-an385`: Cortex-M3, LAN9118 Ethernet, TMP105 thermometer.
//!
//! ```text
//! executor   sleeps with WFI
//! clock      embassy's time on the two CMSDK timers, without ticks
//! pace       how fast it runs
//! ethernet   LAN9118 for embassy-net
//! flash      memory that behaves like NOR flash
//! fpga       LEDs
//! i2c        the thermometer
//! host       arguments, randomness, log and exit by semihosting
//! stack      how much of the stack was used
//! ```
//!
//! Arguments (QEMU: `-semihosting-config …,arg=fw,arg=NAME=VALUE`): `device=ID`, `route=HOST:PORT` (up to four),
//! `private_key=HEX`, `route_key=HEX` (current and next), `psk=HEX` and `update_key=HEX` (by which images are signed), which on a real board
//! are flashed; without a private key the links are plain. With `private_key=flash` the device draws its own key at its
//! first power-on, keeps it, and logs the command that provisions it. `flash=no` for a board that keeps nothing,
//! `heartbeat=adaptive` for one that looks for the longest interval of heartbeats, `speed=N` for a clock that runs N times as fast,
//! `patience_ms=N` for one that does not while an answer is awaited, for so long.
#![no_std]
#![no_main]

mod arguments;
mod clock;
mod ethernet;
mod executor;
mod flash;
mod fpga;
mod host;
mod i2c;
mod interrupts;
mod pace;
mod stack;

use embassy_executor::Spawner;
use embassy_net::{Config as NetConfig, Runner, Stack, StackResources};
use imlink_device_client::blob::{BlobState, Partition};
use imlink_device_client::flash::{FlashQueue, FlashStore};
use imlink_device_client::{NoopRawMutex, Rng};
use imlink_firmware_app::{Blobs, Board, Flash, Memory};
use log::error;
use static_cell::{ConstStaticCell, StaticCell};

use arguments::{Arguments, Key};
use ethernet::{Buffers, Lan9118};
use flash::MemoryFlash;
use fpga::Led;
use host::HostRng;
use i2c::Tmp105;

#[cortex_m_rt::entry]
fn main() -> ! {
    host::log_to_host();
    static ARGUMENTS: StaticCell<Arguments> = StaticCell::new();
    let arguments: &'static Arguments = match Arguments::read() {
        Ok(arguments) => ARGUMENTS.init(arguments),
        Err(why) => {
            error!("{why}");
            host::exit(false);
        }
    };
    clock::start(arguments.speed, arguments.patience_ms);
    executor::run(|spawner| start(spawner, arguments))
}

fn start(spawner: Spawner, arguments: &'static Arguments) {
    static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::new());
    let Some(nic) = Lan9118::new(BUFFERS.take()) else {
        error!("there is no LAN9118");
        host::exit(false);
    };
    // The TCP port of the first connection depends on it: the same after every reset, it would meet the server's
    // memory of the connection before.
    let mut seed = [0; 8];
    if HostRng.fill(&mut seed).is_err() {
        error!("the host gives no randomness");
        host::exit(false);
    }
    static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();
    let resources = RESOURCES.init(StackResources::new());
    let config = NetConfig::dhcpv4(Default::default());
    let (stack, runner) = embassy_net::new(nic, config, resources, u64::from_le_bytes(seed));
    interrupts::enable(interrupts::ETHERNET);
    match (network(runner), device(stack, arguments)) {
        (Ok(network), Ok(device)) => {
            spawner.spawn(network);
            spawner.spawn(device);
        }
        _ => host::exit(false),
    }
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn device(stack: Stack<'static>, arguments: &'static Arguments) {
    let memory = Memory::take();
    let mut flash = if arguments.has_flash { open().await } else { None };
    let board = Board { led: Led, thermometer: Tmp105, stack_use: stack::measure, reset: host::reset };
    let own_key;
    let private_key = match (&arguments.key, &mut flash) {
        (Key::None, _) => None,
        (Key::Given(key), _) => Some(key),
        (Key::Flash, flash) => {
            let records = flash.as_mut().map(|flash| &mut flash.records);
            match imlink_firmware_app::private_key(arguments.device, records, &mut HostRng).await {
                Ok(key) => {
                    own_key = key;
                    Some(&own_key)
                }
                Err(why) => {
                    error!("{why}");
                    host::exit(false);
                }
            }
        }
    };
    let config = arguments.config(private_key);
    // Images go there, and what went there can be fetched. Both are the same flash.
    let partition = || Partition::new(MemoryFlash::new(), MemoryFlash::IMAGE, "image");
    let (Ok(sink), Ok(source)) = (partition(), partition()) else { host::exit(false) };
    let blobs = Blobs { state: transfers(), keys: &arguments.update_keys, sink, source };
    let ended = imlink_firmware_app::run_with_blobs(memory, stack, config, HostRng, board, flash, blobs).await;
    error!("the device stopped: {ended}");
    host::exit(false);
}

/// Memory of transfers. Not inlined, as `Memory::take`.
#[inline(never)]
fn transfers() -> &'static BlobState<NoopRawMutex> {
    static TRANSFERS: StaticCell<BlobState<NoopRawMutex>> = StaticCell::new();
    TRANSFERS.init_with(BlobState::new)
}

/// What the board keeps, in two ranges of the same flash.
async fn open() -> Option<Flash<MemoryFlash>> {
    let records = FlashStore::open(MemoryFlash::new(), MemoryFlash::RECORDS).await;
    let records = records.inspect_err(|why| error!("{why}")).ok()?;
    let events = FlashQueue::open(MemoryFlash::new(), MemoryFlash::EVENTS, &mut HostRng).await;
    Some(Flash { records, events: events.inspect_err(|why| error!("{why}")).ok() })
}

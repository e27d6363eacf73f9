//! The device client against a server of a few lines, over real sockets.

mod blobs;
mod faults;
mod peer;
#[path = "../common/wire.rs"]
mod wire;
mod work;

use imlink_device_client::tokio::{TokioClock, TokioRng, TokioStack};
use imlink_device_client::{Config, Device, NoopRawMutex, Shared, State, interface};

interface! {
    /// What the device of these tests speaks.
    pub(crate) LAMP {
        Message SET = "led/set": bool;
        Message RAW = "raw";
        Call ECHO = "echo";
        Event TICK = "tick": u32;
    }
}

pub(crate) type Lamp<'a> = Device<'a, Shared<NoopRawMutex, TokioClock>, TokioStack, TokioRng>;
pub(crate) type LampState = State<NoopRawMutex, TokioClock>;

pub(crate) fn state() -> LampState {
    State::new(TokioClock::new())
}

pub(crate) fn lamp<'a>(state: &'a mut LampState, routes: &'a [&'a str]) -> Lamp<'a> {
    let config = Config { interface: LAMP, ..Config::plain("lamp-1", routes) };
    imlink_device_client::new(state, config, TokioStack::default(), TokioRng).unwrap()
}

/// Runs the device beside `test` until that is done.
#[macro_export]
macro_rules! beside {
    ($device:ident, $test:expr) => {
        tokio::select! {
            ended = $device.runner.run() => panic!("the device stopped: {ended:?}"),
            result = $test => result,
        }
    };
}

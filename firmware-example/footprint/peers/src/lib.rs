//! A device that does over MQTT what `../src/device.rs` does over imlink, by libraries that others keep: it connects,
//! logs in, subscribes, carries out commands, acknowledges them, publishes an event that is kept until it is
//! acknowledged, pings, and comes back when the link is lost. Network, clock, randomness and LED are functions that
//! the linker does not find, as there.
//!
//! ```text
//! board      what the board would give
//! link       TCP, or TLS 1.3 over it: with a pre-shared key, or with the server's certificate
//! rust_mqtt  the device by rust-mqtt      minimq   the device by minimq
//! ```
//!
//! `firmware-example/footprint/measure` links it with garbage collection and reads the sizes.
#![no_std]

#[cfg(feature = "link")]
mod board;
#[cfg(feature = "link")]
mod link;
#[cfg(feature = "minimq")]
mod minimq;
#[cfg(feature = "rust-mqtt")]
mod rust_mqtt;

/// What a board's start-up code would call. Without a client: what every image has.
#[unsafe(no_mangle)]
pub extern "C" fn device_main() -> usize {
    #[cfg(feature = "rust-mqtt")]
    return board::run(rust_mqtt::device());
    #[cfg(feature = "minimq")]
    return board::run(minimq::device());
    #[cfg(not(feature = "link"))]
    0
}

/// Bytes of the device's future, which an executor places for its task.
#[cfg(feature = "link")]
const FUTURE_LEN: usize = {
    const fn len<F>(_: fn() -> F) -> usize {
        size_of::<F>()
    }
    #[cfg(feature = "rust-mqtt")]
    let len = len(rust_mqtt::device);
    #[cfg(feature = "minimq")]
    let len = len(minimq::device);
    len
};

/// As long as that future; the script reads its length, and does not link it.
#[cfg(feature = "link")]
#[unsafe(no_mangle)]
static DEVICE_FUTURE: [u8; FUTURE_LEN] = [0; FUTURE_LEN];

struct NoInterrupts;
critical_section::set_impl!(NoInterrupts);

// SAFETY: nothing of this is ever run.
unsafe impl critical_section::Impl for NoInterrupts {
    unsafe fn acquire() -> critical_section::RawRestoreState {}

    unsafe fn release(_: critical_section::RawRestoreState) {}
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

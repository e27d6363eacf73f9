//! A device that does over MQTT what `../src/device.rs` does over imlink, by libraries that others keep: it connects,
//! logs in, subscribes, carries out commands, acknowledges them, publishes an event that is kept until it is
//! acknowledged, pings, and comes back when the link is lost. Network, clock, randomness and LED are functions that
//! the linker does not find, as there.
//!
//! ```text
//! board      what the board would give, image  what every image has: the same files as there
//! link       TCP, or TLS 1.3 over it: with a pre-shared key, or with the server's certificate
//! rust_mqtt  the device by rust-mqtt      minimq   the device by minimq
//! ```
//!
//! `firmware-example/footprint/measure` links it with garbage collection and reads the sizes.
#![no_std]

#[cfg(feature = "link")]
#[path = "../../src/board.rs"]
mod board;
#[path = "../../src/image.rs"]
mod image;
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
    return image::run(rust_mqtt::device());
    #[cfg(feature = "minimq")]
    return image::run(minimq::device());
    #[cfg(not(feature = "link"))]
    0
}

/// As long as the device's future, which an executor places for its tasks; the script reads its length, and does not link
/// it.
#[cfg(feature = "rust-mqtt")]
#[unsafe(no_mangle)]
static DEVICE_FUTURE: [u8; image::len(rust_mqtt::device)] = [0; image::len(rust_mqtt::device)];

/// The same of the other.
#[cfg(feature = "minimq")]
#[unsafe(no_mangle)]
static DEVICE_FUTURE: [u8; image::len(minimq::device)] = [0; image::len(minimq::device)];

//! A device whose board is somewhere else: network, clock, randomness and flash are functions that the linker does not
//! find, so that nothing of the client can be left out because of what they do.
//!
//! `firmware-example/footprint/measure` links it with garbage collection and reads the sizes.
#![no_std]

#[cfg(feature = "client")]
mod board;
#[cfg(feature = "client")]
mod device;
mod image;
#[cfg(feature = "network")]
mod network;

/// What a board's start-up code would call. Without the client: what every image has.
#[unsafe(no_mangle)]
pub extern "C" fn device_main() -> usize {
    #[cfg(feature = "client")]
    return image::run(device::device());
    #[cfg(feature = "network")]
    return image::run(network::device());
    #[cfg(not(any(feature = "client", feature = "network")))]
    0
}

/// As long as the device's future, which an executor places for its tasks; the script reads its length, and does not link
/// it.
#[cfg(feature = "client")]
#[unsafe(no_mangle)]
static DEVICE_FUTURE: [u8; image::len(device::device)] = [0; image::len(device::device)];

/// The same of the network's.
#[cfg(feature = "network")]
#[unsafe(no_mangle)]
static DEVICE_FUTURE: [u8; image::len(network::device)] = [0; image::len(network::device)];

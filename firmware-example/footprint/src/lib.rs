//! A device whose board is somewhere else: network, clock, randomness and flash are functions that the linker does not
//! find, so that nothing of the client can be left out because of what they do.
//!
//! `firmware-example/footprint/measure` links it with garbage collection and reads the sizes.
#![no_std]

#[cfg(feature = "client")]
mod device;
#[cfg(feature = "network")]
mod network;

/// What a board's start-up code would call. Without the client: what every image has.
#[unsafe(no_mangle)]
pub extern "C" fn device_main() -> usize {
    #[cfg(feature = "client")]
    return run(device::device());
    #[cfg(feature = "network")]
    return run(network::device());
    #[cfg(not(any(feature = "client", feature = "network")))]
    0
}

/// What an executor does.
#[cfg(any(feature = "client", feature = "network"))]
fn run(device: impl Future) -> usize {
    let mut device = core::pin::pin!(device);
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    while device.as_mut().poll(&mut context).is_pending() {}
    size_of_val(&*device)
}

/// Bytes of the device's future, which an executor places for its tasks.
#[cfg(any(feature = "client", feature = "network"))]
const FUTURE_LEN: usize = {
    const fn len<F>(_: fn() -> F) -> usize {
        size_of::<F>()
    }
    #[cfg(feature = "client")]
    let len = len(device::device);
    #[cfg(feature = "network")]
    let len = len(network::device);
    len
};

/// As long as that future; the script reads its length, and does not link it.
#[cfg(any(feature = "client", feature = "network"))]
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

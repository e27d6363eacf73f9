//! A device whose board is somewhere else: network, clock, randomness and flash are functions that the linker does not
//! find, so that nothing of the client can be left out because of what they do.
//!
//! `firmware-example/footprint/measure` links it with garbage collection and reads the sizes.
#![no_std]

#[cfg(feature = "client")]
mod device;

/// What a board's start-up code would call. Without the client: what every image has.
#[unsafe(no_mangle)]
pub extern "C" fn device_main() -> usize {
    #[cfg(feature = "client")]
    return device::run();
    #[cfg(not(feature = "client"))]
    0
}

/// Bytes of the device's future, which an executor places for its tasks.
#[cfg(feature = "client")]
const FUTURE_LEN: usize = {
    const fn len<F>(_: fn() -> F) -> usize {
        size_of::<F>()
    }
    len(device::device)
};

/// As long as that future; the script reads its length, and does not link it.
#[cfg(feature = "client")]
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

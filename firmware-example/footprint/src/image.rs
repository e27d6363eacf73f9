//! What every image has. `peers` has this file, too.

/// What an executor does.
#[allow(dead_code, reason = "the empty frame runs nothing")]
pub(crate) fn run(device: impl Future<Output = ()>) -> usize {
    let mut device = core::pin::pin!(device);
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    while device.as_mut().poll(&mut context).is_pending() {}
    size_of_val(&*device)
}

/// Bytes of a device's future, which an executor places for its tasks.
#[allow(dead_code, reason = "the empty frame has none")]
pub(crate) const fn len<F>(_: fn() -> F) -> usize {
    size_of::<F>()
}

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

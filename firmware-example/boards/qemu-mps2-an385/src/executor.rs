//! An executor that sleeps with WFI: under QEMU the WFE of embassy's own would keep a core of the host busy.

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw};
use static_cell::StaticCell;

/// A task was woken since the tasks were last polled.
static IS_WOKEN: AtomicBool = AtomicBool::new(true);

#[unsafe(export_name = "__pender")]
fn pend(_context: *mut ()) {
    IS_WOKEN.store(true, Ordering::Release);
}

/// Runs the tasks that `start` spawns, for ever.
pub(crate) fn run(start: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
    let executor: &'static raw::Executor = EXECUTOR.init(raw::Executor::new(core::ptr::null_mut()));
    start(executor.spawner());
    loop {
        while IS_WOKEN.swap(false, Ordering::AcqRel) {
            // SAFETY: this is the only place that polls, and tasks do not come here.
            unsafe { executor.poll() };
        }
        // With interrupts masked one that comes after the last look stays pending, and ends the WFI at once.
        cortex_m::interrupt::free(|_| {
            if !IS_WOKEN.load(Ordering::Acquire) {
                cortex_m::asm::wfi();
            }
        });
    }
}

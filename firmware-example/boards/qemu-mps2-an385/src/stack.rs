//! How much of the stack was used, by the paint that `cortex-m-rt` put on it at the start.

use core::ptr::{addr_of, read_volatile};

use imlink_firmware_app::StackUse;

/// The paint of `cortex-m-rt`.
const PAINT: u32 = 0xcccc_cccc;

unsafe extern "C" {
    /// End of what is placed statically: the lowest the stack can get.
    static __euninit: u32;
    /// Where the stack begins, going down.
    static _stack_start: u32;
}

/// The stack's high-water mark since power-on.
pub(crate) fn measure() -> StackUse {
    let (end, start) = (addr_of!(__euninit) as usize, addr_of!(_stack_start) as usize);
    let words = (end..start).step_by(4);
    // SAFETY: the linker reserves the range for the stack, it is aligned, and a word that changes is only misread.
    let untouched = words.take_while(|word| unsafe { read_volatile(*word as *const u32) } == PAINT).count();
    let size = start - end;
    StackUse { used: (size - 4 * untouched) as u32, size: size as u32 }
}

//! The interrupts of this board.

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;

/// Number of an interrupt.
#[derive(Clone, Copy)]
pub(crate) struct Interrupt(u16);

/// The free-running timer passed zero.
pub(crate) const TIMER0: Interrupt = Interrupt(8);
/// The alarm.
pub(crate) const TIMER1: Interrupt = Interrupt(9);
/// The LAN9118 wants something.
pub(crate) const ETHERNET: Interrupt = Interrupt(13);

// SAFETY: the numbers are those of the MPS2's memory map, below the 32 that the table has.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self.0
    }
}

/// Lets an interrupt through.
pub(crate) fn enable(interrupt: Interrupt) {
    // SAFETY: no critical section relies on this interrupt being masked.
    unsafe { NVIC::unmask(interrupt) };
}

/// An entry of the table.
#[derive(Clone, Copy)]
pub union Vector {
    handler: extern "C" fn(),
    reserved: usize,
}

const fn vectors() -> [Vector; 32] {
    let mut table = [Vector { reserved: 0 }; 32];
    table[TIMER0.0 as usize] = Vector { handler: crate::clock::on_wrap };
    table[TIMER1.0 as usize] = Vector { handler: crate::clock::on_alarm };
    table[ETHERNET.0 as usize] = Vector { handler: crate::ethernet::on_interrupt };
    table
}

/// The part of the vector table that is the device's; `cortex-m-rt` places it behind the core's.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
#[used]
pub static __INTERRUPTS: [Vector; 32] = vectors();

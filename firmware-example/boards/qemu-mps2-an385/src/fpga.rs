//! The LEDs of the board's FPGA.

use core::convert::Infallible;
use core::ptr::{read_volatile, write_volatile};

use embedded_hal::digital::{ErrorType, OutputPin};

/// LED 0.
pub(crate) struct Led;

/// Register of the LEDs, one bit each.
const LEDS: *mut u32 = 0x4002_8000 as *mut u32;

impl ErrorType for Led {
    type Error = Infallible;
}

impl OutputPin for Led {
    fn set_low(&mut self) -> Result<(), Infallible> {
        // SAFETY: a register that only this value writes.
        unsafe { write_volatile(LEDS, read_volatile(LEDS) & !1) };
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        // SAFETY: as above.
        unsafe { write_volatile(LEDS, read_volatile(LEDS) | 1) };
        Ok(())
    }
}

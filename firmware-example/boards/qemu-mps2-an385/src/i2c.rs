//! The TMP105 thermometer on an I2C bus (QEMU: `-device tmp105,address=0x48`).
//!
//! A bus controller is two lines that software moves; QEMU takes any speed. The board has four, and QEMU does not
//! say to which it puts a device: the first one that answers is it.

use core::ptr::{read_volatile, write_volatile};

use imlink_firmware_app::Thermometer;

/// The thermometer.
pub(crate) struct Tmp105;

const BUSES: [Bus; 4] = [Bus(0x4002_2000), Bus(0x4002_3000), Bus(0x4002_9000), Bus(0x4002_a000)];
const SCL: u32 = 1;
const SDA: u32 = 2;

const ADDRESS: u8 = 0x48;
/// Register of the temperature: 1/256 of a degree, 12 bits of 16.
const TEMPERATURE: u8 = 0;

impl Thermometer for Tmp105 {
    async fn millicelsius(&mut self) -> Option<i32> {
        BUSES.iter().find_map(Bus::temperature).map(|bytes| i32::from(i16::from_be_bytes(bytes)) * 1000 / 256)
    }
}

/// A bus: reads give the lines, writes raise them, writes four bytes on lower them.
struct Bus(usize);

impl Bus {
    fn temperature(&self) -> Option<[u8; 2]> {
        self.start();
        let is_there = self.write(ADDRESS << 1) && self.write(TEMPERATURE);
        self.start();
        let is_read = is_there && self.write(ADDRESS << 1 | 1);
        let bytes = [self.read(true), self.read(false)];
        self.stop();
        is_read.then_some(bytes)
    }

    fn raise(&self, lines: u32) {
        // SAFETY: a register that only this module uses.
        unsafe { write_volatile(self.0 as *mut u32, lines) };
    }

    fn lower(&self, lines: u32) {
        // SAFETY: as above.
        unsafe { write_volatile((self.0 + 4) as *mut u32, lines) };
    }

    fn is_sda_high(&self) -> bool {
        // SAFETY: as above.
        unsafe { read_volatile(self.0 as *const u32) & SDA != 0 }
    }

    fn start(&self) {
        self.raise(SDA);
        self.raise(SCL);
        self.lower(SDA);
        self.lower(SCL);
    }

    fn stop(&self) {
        self.lower(SDA);
        self.raise(SCL);
        self.raise(SDA);
    }

    fn put(&self, bit: bool) {
        if bit {
            self.raise(SDA)
        } else {
            self.lower(SDA)
        }
        self.raise(SCL);
        self.lower(SCL);
    }

    fn take(&self) -> bool {
        self.raise(SDA);
        self.raise(SCL);
        let bit = self.is_sda_high();
        self.lower(SCL);
        bit
    }

    /// Writes a byte; whether it was acknowledged.
    fn write(&self, byte: u8) -> bool {
        for bit in (0..8).rev() {
            self.put(byte >> bit & 1 == 1);
        }
        !self.take()
    }

    /// Reads a byte; `goes_on` asks for another one.
    fn read(&self, goes_on: bool) -> u8 {
        let byte = (0..8).fold(0, |byte, _| byte << 1 | u8::from(self.take()));
        self.put(!goes_on);
        byte
    }
}

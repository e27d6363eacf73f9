//! embassy's time on two CMSDK timers of 25 MHz, an idle board sleeps until its next alarm or 10 ms.
//!
//! How real time becomes the board's is the business of `pace`.
//!
//! ```text
//! timer 0   counts down through 2^32 again and again; each wrap (172 s) counts one
//! timer 1   the alarm, counts down once
//! ```

use core::cell::{Cell, RefCell};
use core::ptr::{read_volatile, write_volatile};
use core::task::Waker;

use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::{Driver, TICK_HZ};
use embassy_time_queue_utils::Queue;

use crate::interrupts;
use crate::pace::Pace;

/// Counts of a timer in a second.
const TIMER_HZ: u64 = 25_000_000;
/// Counts of a timer in a tick of embassy's, at its own speed.
const COUNTS_PER_TICK: u64 = TIMER_HZ / TICK_HZ;
const _: () = assert!(TIMER_HZ.is_multiple_of(TICK_HZ));

/// Longest sleep in counts, 10 ms: QEMU's user network looks at a new connection of its own only when something
/// else wakes it, which on a board that sleeps long would be after a second.
const NAP_MAX: u32 = 250_000;
/// The same for a clock that runs fast, 1 ms.
const NAP_MAX_FAST: u32 = 25_000;

struct Timers {
    wraps: Mutex<Cell<u32>>,
    pace: Mutex<Cell<Pace>>,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static TIMERS: Timers = Timers {
    wraps: Mutex::new(Cell::new(0)),
    pace: Mutex::new(Cell::new(Pace::REAL)),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

/// Starts the clock, `speed` times as fast as real time: days of a device's life pass in a test. For `patience_ms` of
/// each wait for an answer it runs at real speed.
pub(crate) fn start(speed: u32, patience_ms: u32) {
    let patience = u64::from(patience_ms) * (TIMER_HZ / 1000);
    critical_section::with(|cs| TIMERS.pace.borrow(cs).set(Pace::new(speed.max(1), patience)));
    FREE.write(RELOAD, u32::MAX);
    FREE.write(VALUE, u32::MAX);
    FREE.write(CONTROL, ENABLE | INTERRUPT);
    ALARM.write(CONTROL, 0);
    interrupts::enable(interrupts::TIMER0);
    interrupts::enable(interrupts::TIMER1);
}

/// The board said something that wants an answer.
pub(crate) fn ask() {
    critical_section::with(|cs| TIMERS.change(cs, Pace::ask));
}

/// Something came that may be an answer.
pub(crate) fn answer() {
    critical_section::with(|cs| TIMERS.change(cs, Pace::answer));
}

pub(crate) extern "C" fn on_wrap() {
    critical_section::with(|cs| {
        if FREE.read(PENDING) != 0 {
            FREE.write(PENDING, 1);
            let wraps = TIMERS.wraps.borrow(cs);
            wraps.set(wraps.get().wrapping_add(1));
        }
    });
}

pub(crate) extern "C" fn on_alarm() {
    critical_section::with(|cs| {
        ALARM.write(CONTROL, 0);
        ALARM.write(PENDING, 1);
        TIMERS.set_alarm(cs);
    });
}

impl Driver for Timers {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.now_in(cs))
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            if self.queue.borrow(cs).borrow_mut().schedule_wake(at, waker) {
                self.set_alarm(cs);
            }
        });
    }
}

impl Timers {
    /// Changes how fast the clock runs from now on.
    fn change(&self, cs: CriticalSection<'_>, change: impl FnOnce(&mut Pace, u64)) {
        let mut pace = self.pace.borrow(cs).get();
        change(&mut pace, self.counts(cs));
        self.pace.borrow(cs).set(pace);
        self.set_alarm(cs);
    }

    fn now_in(&self, cs: CriticalSection<'_>) -> u64 {
        self.pace.borrow(cs).get().at(self.counts(cs)) / COUNTS_PER_TICK
    }

    /// Counts of real time.
    fn counts(&self, cs: CriticalSection<'_>) -> u64 {
        let wraps = u64::from(self.wraps.borrow(cs).get());
        let mut counted = u32::MAX - FREE.read(VALUE);
        let is_wrapped = FREE.read(PENDING) != 0;
        if is_wrapped {
            // It wrapped and the interrupt waits; the value read before may be from either side.
            counted = u32::MAX - FREE.read(VALUE);
        }
        ((wraps + u64::from(is_wrapped)) << 32) | u64::from(counted)
    }

    /// Wakes what is due and sets the alarm for what is next.
    fn set_alarm(&self, cs: CriticalSection<'_>) {
        let now = self.now_in(cs);
        let next = self.queue.borrow(cs).borrow_mut().next_expiration(now);
        let speed = self.pace.borrow(cs).get().speed;
        // Rounded up: an alarm that comes early would only be set again.
        let counts = (next.saturating_sub(now).saturating_mul(COUNTS_PER_TICK)).div_ceil(speed.into());
        // One further away comes early and is set again.
        let nap = if speed == 1 { NAP_MAX } else { NAP_MAX_FAST };
        let counts = u32::try_from(counts.saturating_add(1)).unwrap_or(u32::MAX).min(nap);
        ALARM.write(CONTROL, 0);
        ALARM.write(RELOAD, 0);
        ALARM.write(VALUE, counts);
        ALARM.write(CONTROL, ENABLE | INTERRUPT);
    }
}

/// A CMSDK APB timer.
struct Timer(usize);

const FREE: Timer = Timer(0x4000_0000);
const ALARM: Timer = Timer(0x4000_1000);

const CONTROL: usize = 0x0;
const VALUE: usize = 0x4;
const RELOAD: usize = 0x8;
/// Read: an interrupt is pending. Written 1: it is not any more.
const PENDING: usize = 0xc;

const ENABLE: u32 = 1;
const INTERRUPT: u32 = 1 << 3;

impl Timer {
    fn read(&self, register: usize) -> u32 {
        // SAFETY: a register of this timer; only this module uses it.
        unsafe { read_volatile((self.0 + register) as *const u32) }
    }

    fn write(&self, register: usize, value: u32) {
        // SAFETY: as above.
        unsafe { write_volatile((self.0 + register) as *mut u32, value) };
    }
}

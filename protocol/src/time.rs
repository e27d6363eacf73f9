//! Time as the session machines see it: milliseconds from a start that the caller chose.

use core::time::Duration;

/// A point on the caller's monotonic clock, in milliseconds. Only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant(u64);

impl Instant {
    /// The instant `ms` milliseconds after the clock's start.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the clock's start.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`, zero when `earlier` lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.millis_since(earlier))
    }

    /// The same in milliseconds. A microcontroller has no division for the seconds of a `Duration`, and room for one
    /// copy of this.
    #[cfg_attr(target_os = "none", inline(never))]
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant moved on by `by`; stays at the end of time rather than wrapping.
    pub const fn after(self, by: Duration) -> Self {
        let ms = by.as_millis();
        self.after_millis(if ms > u64::MAX as u128 { u64::MAX } else { ms as u64 })
    }

    /// The same, `ms` milliseconds on.
    #[cfg_attr(target_os = "none", inline(never))]
    pub const fn after_millis(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_back_gives_zero_not_a_panic() {
        let late = Instant::from_millis(10);
        assert_eq!(Instant::from_millis(3).since(late), Duration::ZERO);
        assert_eq!(late.after(Duration::MAX).as_millis(), u64::MAX);
    }
}

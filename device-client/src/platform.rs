//! What a board gives: time and randomness. The network is `embedded-nal-async`'s `TcpConnect`.

use core::fmt;
use core::num::NonZeroU64;

use imlink_protocol::Instant;

/// A monotonic clock and its alarm.
pub trait Clock {
    /// Milliseconds since any fixed moment of this boot.
    fn now(&self) -> Instant;

    /// Waits until `at`; returns at once when that has passed. The client drops most of these futures before they
    /// are ready, so it has to be cancel safe.
    async fn sleep_until(&self, at: Instant);
}

impl<C: Clock> Clock for &C {
    fn now(&self) -> Instant {
        (**self).now()
    }

    async fn sleep_until(&self, at: Instant) {
        (**self).sleep_until(at).await;
    }
}

/// A source of randomness fit for keys. Session numbers and back-off are drawn from it.
pub trait Rng {
    /// Fills `bytes`; an error stops the device from connecting, since numbers that repeat after a
    /// reset would make the server take it for an older connection.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError>;
}

/// The source of randomness failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RngError;

impl fmt::Display for RngError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source of randomness failed")
    }
}

impl core::error::Error for RngError {}

/// A number that is new at each power-on.
pub(crate) fn draw(rng: &mut impl Rng) -> Result<NonZeroU64, RngError> {
    let mut bytes = [0; 8];
    rng.fill(&mut bytes)?;
    // Zero comes up once in 2^64 draws, or from a source that does not work.
    NonZeroU64::new(u64::from_le_bytes(bytes)).ok_or(RngError)
}

//! A rate shared by many devices: each has its own long period and a random phase.

use std::time::Duration;

use tokio::time::Instant;

/// The moments at which one device of many does its share.
#[derive(Debug)]
pub(crate) struct Pace {
    next: Option<Instant>,
    period: Duration,
}

impl Pace {
    /// `rate` a second over `devices`; `phase` from 0 to 1 tells this device's place. Never at rate 0.
    pub(crate) fn new(rate: f64, devices: u32, phase: f64) -> Self {
        let period = Duration::try_from_secs_f64(f64::from(devices) / rate).ok().filter(|_| rate > 0.0);
        let next = period.map(|period| Instant::now() + period.mul_f64(phase));
        Self { next, period: period.unwrap_or_default() }
    }

    /// The next moment.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether the moment has come; then the following one is set, without forgetting any.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        if is_due {
            self.next = self.next.map(|next| next + self.period);
        }
        is_due
    }
}

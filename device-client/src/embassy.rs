//! The clock of boards that run embassy. Their network is `embassy-net`'s, see the project's `firmware-example`.

use imlink_protocol::Instant;

use crate::platform::Clock;

/// The clock of `embassy-time`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbassyClock;

impl Clock for EmbassyClock {
    fn now(&self) -> Instant {
        Instant::from_millis(embassy_time::Instant::now().as_millis())
    }

    async fn sleep_until(&self, at: Instant) {
        match embassy_time::Instant::try_from_millis(at.as_millis()) {
            Some(at) => embassy_time::Timer::at(at).await,
            None => core::future::pending().await,
        }
    }
}

//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Interval between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `look` gives something, and gives it back.
///
/// # Panics
/// When `within` is over; `what` says what was waited for.
pub async fn eventually<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

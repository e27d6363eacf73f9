//! Two devices with one identity: slowed down, counted and reported, so that they do not kick one another for ever.

use std::collections::HashMap;
use std::time::Duration;

use imlink_protocol::Instant;
use imlink_store::DeviceKey;

/// Identities whose sessions replace one another: slowed down instead of kicking one another for ever.
#[derive(Default)]
pub(crate) struct Contested {
    seen: HashMap<DeviceKey, (u32, Instant)>,
}

impl Contested {
    /// A live session was replaced by one of another boot.
    pub(crate) fn count(&mut self, name: &DeviceKey, now: Instant) {
        if self.seen.len() >= CONTESTED_MAX {
            self.seen.retain(|_, (_, since)| now.since(*since) < CONTESTED_WINDOW);
        }
        if self.seen.len() < CONTESTED_MAX {
            self.seen.entry(name.clone()).or_insert((0, now)).0 += 1;
        }
    }

    /// Seconds to wait before this identity may attach again, if it is contested.
    pub(crate) fn delay_s(&mut self, name: &DeviceKey, now: Instant) -> Option<u32> {
        let (count, since) = *self.seen.get(name)?;
        let left = CONTESTED_WINDOW.checked_sub(now.since(since));
        match left {
            Some(left) if count > CONTESTED_FREE => Some(left.as_secs() as u32 + 1),
            Some(_) => None,
            None => {
                self.seen.remove(name);
                None
            }
        }
    }
}

/// Replacements of one identity within [`CONTESTED_WINDOW`] that are taken for a device on a bad link.
const CONTESTED_FREE: u32 = 5;
const CONTESTED_WINDOW: Duration = Duration::from_secs(60);
/// Identities watched at once.
const CONTESTED_MAX: usize = 4096;

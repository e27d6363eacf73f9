//! The tickets that a server gives to the devices it holds: with `Welcome`, and a newer one long before that ends.
//!
//! ```text
//! Welcome ──── half of a ticket's life ──┬── a quarter, drawn at random ──▶ Grant ──── and so on
//! ```
//!
//! A device that stays attached for weeks comes back with a ticket after a drop, and a fleet that attached in one
//! minute is not given new ones in one minute.

use std::time::Duration;

use imlink_protocol::Instant;
use imlink_protocol::limits::GRANT_LEN_MAX;
use imlink_protocol::message::ToDevice;
use imlink_protocol::serving::Transmit;
use imlink_protocol::ticket::{self, Ticket};

use crate::admission::unix_s;
use crate::conn::{About, Phase};
use crate::reactor::Reactor;

/// A ticket's key, and the ticket.
pub(crate) struct Grant {
    bytes: [u8; GRANT_LEN_MAX],
    len: usize,
}

impl Grant {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.bytes);
    }
}

impl Reactor {
    /// Makes the grant for the device's next connection; `None` while there is no key for it.
    pub(crate) fn grant(&self, about: &About, is_plain: bool, epoch: u64) -> Option<Grant> {
        let keys = self.shared.ticket_keys.read();
        let (_, key) = keys.first()?;
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce).ok()?;
        let expires_s = unix_s() + self.shared.config.limits.ticket_life.as_secs();
        let (tenant, device) = (about.name.tenant(), about.name.device());
        let ticket = Ticket { is_plain, tenant, device, epoch_floor: epoch, expires_s, key: about.key };
        let mut grant = Grant { bytes: [0; GRANT_LEN_MAX], len: 0 };
        grant.len = ticket::grant(&ticket, key, &nonce, &mut grant.bytes)?;
        Some(grant)
    }

    /// When a device is given its next ticket, after it was given one or could not be.
    pub(crate) fn renewal_after(&self, is_given: bool) -> Instant {
        let life = self.shared.config.limits.ticket_life;
        let wait = if is_given { renewal_wait(life, getrandom::u32().unwrap_or_default()) } else { life / 16 };
        self.now.after(wait)
    }

    /// Gives an attached device a newer ticket.
    pub(crate) fn renew_ticket(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let Phase::Attached(device) = &conn.phase else { return };
        let grant = self.grant(&device.about, !conn.out.is_sealed(), device.session.epoch());
        let renewal = self.renewal_after(grant.is_some());
        self.lend_buffer(index);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if let Some(grant) = &grant {
            conn.out.transmit(&ToDevice::Grant { grant: grant.bytes() });
            self.shared.metrics.tickets_renewed.inc();
        }
        if let Some(device) = conn.device() {
            device.renewal = renewal;
        }
        self.mark(index);
    }
}

/// Between a half and three quarters of the life, as evenly as `random` is drawn.
fn renewal_wait(life: Duration, random: u32) -> Duration {
    let jitter_ms = (life.as_millis() as u64 / 4).saturating_mul(random.into()) >> 32;
    life / 2 + Duration::from_millis(jitter_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_renewed_between_a_half_and_three_quarters_of_its_life() {
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(renewal_wait(day, 0), Duration::from_secs(12 * 3600));
        let latest = renewal_wait(day, u32::MAX);
        assert!(latest < Duration::from_secs(18 * 3600) && latest > Duration::from_secs(18 * 3600 - 1), "{latest:?}");
        assert_eq!(renewal_wait(day, 1 << 31), Duration::from_secs(15 * 3600));
    }
}

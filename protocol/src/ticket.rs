//! Tickets: a route's word to one IM-server that a device may attach.
//!
//! ```text
//! ticket    fields · mac
//! fields    postcard encoding of Ticket
//! mac       32 bytes, HMAC-SHA256 over fields under the server's key of the day
//! key       HMAC-SHA256 under the cluster secret over "imlink ticket" · server · 0 · day (4 bytes, LE)
//! ```
//!
//! Routes hold the cluster secret; a server is told its own keys of today and yesterday and no others.
//! The device carries a ticket without reading it. Fields are in clear until the sealed link lands.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::id::Epoch;
use crate::limits::TICKET_LEN_MAX;

/// Bytes of the mac.
pub const MAC_LEN: usize = 32;
/// How long a ticket is good for, in seconds.
pub const LIFETIME_S: u64 = 24 * 3600;
/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;

/// A server's key of one day.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TicketKey(pub [u8; 32]);

impl core::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TicketKey(..)")
    }
}

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket<'a> {
    /// Number of the day whose key made it, days since 1970.
    pub day: u32,
    /// Tenant.
    pub tenant: &'a str,
    /// Device id.
    pub device: &'a str,
    /// The session to come has a larger epoch than this.
    pub epoch_floor: Epoch,
    /// Good until, seconds since 1970.
    pub expires_s: u64,
    /// Drawn at random.
    pub id: u64,
}

/// Why a ticket admits nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketError {
    /// Not a ticket, or made under another key.
    Forged,
    /// Its time is over.
    Expired,
}

/// Day number of a time in seconds since 1970.
pub const fn day_of(now_s: u64) -> u32 {
    (now_s / DAY_S) as u32
}

/// HMAC-SHA256 of `parts` under `key`.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_LEN] {
    // HMAC takes keys of any length, so this cannot fail.
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => return [0; MAC_LEN],
    };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// The key of `server` on `day` under the cluster secret.
pub fn derive(secret: &[u8], server: &str, day: u32) -> TicketKey {
    TicketKey(mac(secret, &[b"imlink ticket", server.as_bytes(), &[0], &day.to_le_bytes()]))
}

/// Whether two byte strings are equal, in time that depends on their lengths only.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// Writes `ticket` into `out` and returns its length; `None` when it does not fit.
pub fn issue(ticket: &Ticket<'_>, key: &TicketKey, out: &mut [u8; TICKET_LEN_MAX]) -> Option<usize> {
    let len = postcard::to_slice(ticket, out.get_mut(..TICKET_LEN_MAX - MAC_LEN)?).ok()?.len();
    let mac = mac(&key.0, &[out.get(..len)?]);
    out.get_mut(len..len + MAC_LEN)?.copy_from_slice(&mac);
    Some(len + MAC_LEN)
}

/// Reads a ticket made under one of `keys` (each with its day).
pub fn check<'a>(bytes: &'a [u8], keys: &[(u32, TicketKey)], now_s: u64) -> Result<Ticket<'a>, TicketError> {
    let split = bytes.len().checked_sub(MAC_LEN).ok_or(TicketError::Forged)?;
    let (fields, given) = bytes.split_at_checked(split).ok_or(TicketError::Forged)?;
    let (ticket, rest) = postcard::take_from_bytes::<Ticket<'a>>(fields).map_err(|_| TicketError::Forged)?;
    let Some((_, key)) = keys.iter().find(|(day, _)| *day == ticket.day) else {
        return Err(TicketError::Expired);
    };
    if !rest.is_empty() || !equal(&mac(&key.0, &[fields]), given) {
        return Err(TicketError::Forged);
    }
    if ticket.expires_s < now_s { Err(TicketError::Expired) } else { Ok(ticket) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket<'static> {
        Ticket {
            day: 20_000,
            tenant: "-",
            device: "lamp-1",
            epoch_floor: 7,
            expires_s: 20_000 * DAY_S + LIFETIME_S,
            id: 99,
        }
    }

    #[test]
    fn a_ticket_is_good_at_its_server_until_it_expires() {
        let key = derive(b"secret", "im-1", 20_000);
        let mut out = [0; TICKET_LEN_MAX];
        let len = issue(&ticket(), &key, &mut out).unwrap();
        let keys = [(20_000, key)];
        assert_eq!(check(&out[..len], &keys, 20_000 * DAY_S), Ok(ticket()));
        assert_eq!(check(&out[..len], &keys, 20_002 * DAY_S), Err(TicketError::Expired));
        let other = [(20_000, derive(b"secret", "im-2", 20_000))];
        assert_eq!(check(&out[..len], &other, 0), Err(TicketError::Forged));
    }

    #[test]
    fn no_changed_or_cut_ticket_is_taken() {
        let key = derive(b"secret", "im-1", 20_000);
        let mut out = [0; TICKET_LEN_MAX];
        let len = issue(&ticket(), &key, &mut out).unwrap();
        let keys = [(20_000, key)];
        for bit in 0..len * 8 {
            let mut bad = out;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bad[..len], &keys, 0).is_err(), "bit {bit}");
        }
        for cut in 0..len {
            assert!(check(&out[..cut], &keys, 0).is_err(), "cut at {cut}");
        }
    }
}

//! Tickets: a route's word to one IM-server that a device may attach.
//!
//! ```text
//! ticket    nonce [24] · sealed fields · tag [16]    XChaCha20-Poly1305 under the server's key of the day
//! fields    postcard encoding of Ticket
//! day key   HMAC-SHA256 under the cluster secret over "imlink ticket" · server · 0 · day (4 bytes, LE)
//! key       HMAC-SHA256 under the day key over "imlink ticket key" · nonce: the psk of the attach
//! grant     key [32] · ticket                        what a device is given; on a plain link the key is zeros
//! ```
//!
//! Routes hold the cluster secret; a server is told its own keys of today and yesterday and no others. The
//! device carries a ticket without reading it, and shows it in clear: without its key it opens nothing. The
//! nonce, drawn at random, is also the ticket's id.

use chacha20poly1305::{AeadInOut, XChaCha20Poly1305};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroize;

use crate::id::{Epoch, KeyMark};
use crate::limits::{GRANT_LEN_MAX, TICKET_LEN_MAX};

/// Bytes of a mac.
pub const MAC_LEN: usize = 32;
/// Bytes of a ticket's key, the first of a grant.
pub const KEY_LEN: usize = 32;
/// How long a ticket is good for, in seconds.
pub const LIFETIME_S: u64 = 24 * 3600;
/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;

/// A server's key of one day.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey(pub [u8; KEY_LEN]);

impl Drop for TicketKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl core::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TicketKey(..)")
    }
}

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket<'a> {
    /// For a plain link: the device was provisioned without a key. Such a ticket is good there only, and
    /// another one never.
    pub is_plain: bool,
    /// Tenant.
    pub tenant: &'a str,
    /// Device id.
    pub device: &'a str,
    /// The session to come has a larger epoch than this.
    pub epoch_floor: Epoch,
    /// Good until, seconds since 1970.
    pub expires_s: u64,
    /// The key that the device proved: a ticket ends with it. Zeros in a plain one.
    pub key: KeyMark,
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

/// Seals `ticket` under the `key` of a day, with a `nonce` drawn at random, and writes the grant into `out`;
/// returns its length, `None` when it does not fit.
pub fn grant(
    ticket: &Ticket<'_>,
    key: &TicketKey,
    nonce: &[u8; NONCE_LEN],
    out: &mut [u8; GRANT_LEN_MAX],
) -> Option<usize> {
    let (ticket_key, rest) = out.split_first_chunk_mut::<KEY_LEN>()?;
    *ticket_key = if ticket.is_plain { [0; KEY_LEN] } else { ticket_key_of(key, nonce) };
    let (begin, rest) = rest.split_first_chunk_mut::<NONCE_LEN>()?;
    *begin = *nonce;
    let fields = postcard::to_slice(ticket, rest).ok()?.len();
    let (fields, rest) = rest.split_at_mut_checked(fields)?;
    let cipher = XChaCha20Poly1305::new((&key.0).into());
    let tag = cipher.encrypt_inout_detached(nonce.into(), &[], (&mut *fields).into()).ok()?;
    rest.first_chunk_mut::<TAG_LEN>()?.copy_from_slice(&tag);
    Some(KEY_LEN + NONCE_LEN + fields.len() + TAG_LEN)
}

/// Opens a ticket made under one of `keys` into `room`, and returns what it says and its key.
pub fn open<'r>(
    bytes: &[u8],
    keys: &[(u32, TicketKey)],
    now_s: u64,
    room: &'r mut [u8; TICKET_LEN_MAX],
) -> Result<(Ticket<'r>, [u8; KEY_LEN]), TicketError> {
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(TicketError::Forged)?;
    let (fields, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(TicketError::Forged)?;
    let room = room.get_mut(..fields.len()).ok_or(TicketError::Forged)?;
    for (_, key) in keys {
        room.copy_from_slice(fields);
        let cipher = XChaCha20Poly1305::new((&key.0).into());
        if cipher.decrypt_inout_detached(nonce.into(), &[], (&mut *room).into(), tag.into()).is_err() {
            continue;
        }
        let (ticket, rest) = postcard::take_from_bytes::<Ticket<'r>>(room).map_err(|_| TicketError::Forged)?;
        if !rest.is_empty() {
            return Err(TicketError::Forged);
        }
        let is_over = ticket.expires_s < now_s;
        return if is_over { Err(TicketError::Expired) } else { Ok((ticket, ticket_key_of(key, nonce))) };
    }
    // Made by nobody, or under a key that is no longer held.
    Err(TicketError::Forged)
}

fn ticket_key_of(day: &TicketKey, nonce: &[u8; NONCE_LEN]) -> [u8; KEY_LEN] {
    mac(&day.0, &[b"imlink ticket key", nonce])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const NONCE: [u8; 24] = [5; 24];

    fn ticket() -> Ticket<'static> {
        let expires_s = 20_000 * DAY_S + LIFETIME_S;
        Ticket { is_plain: false, tenant: "-", device: "lamp-1", epoch_floor: 7, expires_s, key: KeyMark([8; 8]) }
    }

    fn granted(ticket: &Ticket<'_>, key: &TicketKey) -> Vec<u8> {
        let mut out = [0; GRANT_LEN_MAX];
        let len = grant(ticket, key, &NONCE, &mut out).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn a_ticket_is_good_at_its_server_until_it_expires_and_gives_the_key_of_its_grant() {
        let key = derive(b"secret", "im-1", 20_000);
        let grant = granted(&ticket(), &key);
        let (given, bytes) = grant.split_at(KEY_LEN);
        let keys = [(20_001, derive(b"secret", "im-1", 20_001)), (20_000, key)];
        let mut room = [0; TICKET_LEN_MAX];
        let (opened, ticket_key) = open(bytes, &keys, 20_000 * DAY_S, &mut room).unwrap();
        assert_eq!((opened, &ticket_key[..]), (ticket(), given));
        assert_eq!(open(bytes, &keys, 20_002 * DAY_S, &mut room), Err(TicketError::Expired));
        let other = [(20_000, derive(b"secret", "im-2", 20_000))];
        assert_eq!(open(bytes, &other, 0, &mut room), Err(TicketError::Forged));
    }

    #[test]
    fn no_changed_or_cut_ticket_is_taken() {
        let keys = [(20_000, derive(b"secret", "im-1", 20_000))];
        let grant = granted(&ticket(), &keys[0].1);
        let bytes = &grant[KEY_LEN..];
        let mut room = [0; TICKET_LEN_MAX];
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bad, &keys, 0, &mut room).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(open(&bytes[..cut], &keys, 0, &mut room).is_err(), "cut at {cut}");
        }
        let long = [bytes, &[0; TICKET_LEN_MAX]].concat();
        assert!(open(&long, &keys, 0, &mut room).is_err());
    }

    #[test]
    fn a_grant_of_the_longest_names_fits_and_a_plain_one_gives_no_key() {
        let key = derive(b"secret", "im-1", 1);
        let (tenant, device) = ("t".repeat(32), "d".repeat(64));
        let longest = Ticket {
            is_plain: true,
            tenant: &tenant,
            device: &device,
            epoch_floor: u64::MAX,
            expires_s: u64::MAX,
            key: KeyMark::PLAIN,
        };
        let grant = granted(&longest, &key);
        assert!(grant.len() <= GRANT_LEN_MAX);
        assert_eq!(grant[..KEY_LEN], [0; KEY_LEN]);
    }
}

//! Tickets and grants, and the keys that they are made with.

use imlink_protocol::KeyMark;
use imlink_protocol::limits::{GRANT_LEN_MAX, TICKET_LEN_MAX};
use imlink_protocol::ticket::{self, KEY_LEN, Ticket};

use crate::{Entry, compare};

pub(crate) const CLUSTER_SECRET: &[u8] = b"the secret of a cluster";
pub(crate) const SERVER: &str = "im-1";
const NOW_S: u64 = 1_764_000_000;
const NONCE: [u8; 24] = *b"24 bytes drawn at random";

/// The ticket of the attach in `sealed.txt`.
pub(crate) const TICKET: Ticket<'static> = Ticket {
    is_plain: false,
    tenant: "-",
    device: "lamp-1",
    epoch_floor: 8,
    expires_s: NOW_S + ticket::LIFETIME_S,
    key: KeyMark([0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54]),
};

/// The grant of `said` by [`SERVER`] on the day of the vectors.
pub(crate) fn grant(said: &Ticket<'_>) -> Vec<u8> {
    let key = ticket::derive(CLUSTER_SECRET, SERVER, ticket::day_of(NOW_S));
    let mut out = [0; GRANT_LEN_MAX];
    let len = ticket::grant(said, &key, &NONCE, &mut out).unwrap();
    out[..len].to_vec()
}

#[test]
fn tickets_and_grants() {
    let of_a_tenant = Ticket { tenant: "acme", device: "door.7:b", epoch_floor: 1_764_000_000_321, ..TICKET };
    let plain = Ticket { is_plain: true, key: KeyMark::PLAIN, ..TICKET };
    let mut text = String::new();
    for (name, said) in [("sealed", TICKET), ("sealed-of-a-tenant", of_a_tenant), ("plain", plain)] {
        let day = ticket::day_of(NOW_S);
        let key = ticket::derive(CLUSTER_SECRET, SERVER, day);
        let grant = grant(&said);
        let (psk, bytes) = grant.split_at(KEY_LEN);
        let mut room = [0; TICKET_LEN_MAX];
        let (opened, opened_key) = ticket::open(bytes, &[(day, key.clone())], NOW_S, &mut room).unwrap();
        assert_eq!(opened, said);
        assert_eq!(said.is_plain, psk != opened_key, "a plain grant does not show the key");
        text += &Entry::new(name)
            .bytes("cluster-secret", CLUSTER_SECRET)
            .text("server", SERVER)
            .text("day", day)
            .bytes("day-key", &key.0)
            .bytes("nonce", &NONCE)
            .text("fields", format!("{said:?}"))
            .bytes("plain", postcard::to_slice(&said, &mut room).unwrap())
            .bytes("key", psk)
            .bytes("ticket", bytes)
            .bytes("grant", &grant)
            .end();
    }
    compare("tickets.txt", &text);
}

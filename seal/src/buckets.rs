//! How many connections an address, and its neighbourhood, may open a second.
//!
//! ```text
//! slot     tag of an address · tokens · when they were counted     16 bytes, 2 × 8,192 of them: 256 KiB
//! ```
//!
//! The table has a fixed size. An address that finds its slot taken by another one takes it over: whoever has so
//! many addresses is not held by this limit but by the cap of half-open connections.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Connections a second, with a burst of two seconds' worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// From one address.
    pub address: u32,
    /// From one /24 of IPv4 or /56 of IPv6.
    pub prefix: u32,
}

/// Token buckets of addresses and prefixes.
pub struct Buckets {
    rates: Rates,
    hasher: RandomState,
    addresses: Box<[Slot]>,
    prefixes: Box<[Slot]>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    tag: u32,
    /// In thousandths of a connection.
    tokens: u32,
    counted_ms: u64,
}

const SLOTS: usize = 8192;
const CONNECTION: u32 = 1000;
const BURST_S: u32 = 2;

impl Buckets {
    /// Full buckets.
    pub fn new(rates: Rates) -> Self {
        let slots = || vec![Slot::default(); SLOTS].into_boxed_slice();
        Self { rates, hasher: RandomState::new(), addresses: slots(), prefixes: slots() }
    }

    /// Whether `address` may open another connection; `now_ms` is any clock that only grows.
    pub fn take(&mut self, address: IpAddr, now_ms: u64) -> bool {
        let address = address.to_canonical();
        let by_address = self.hasher.hash_one(address);
        let by_prefix = match address {
            IpAddr::V4(v4) => self.hasher.hash_one(u32::from(v4) >> 8),
            IpAddr::V6(v6) => self.hasher.hash_one(u128::from(v6) >> 72),
        };
        // Both are counted, so that an address past its limit does not spare its prefix.
        let is_address_good = take(&mut self.addresses, by_address, self.rates.address, now_ms);
        let is_prefix_good = take(&mut self.prefixes, by_prefix, self.rates.prefix, now_ms);
        is_address_good && is_prefix_good
    }
}

fn take(slots: &mut [Slot], hash: u64, rate: u32, now_ms: u64) -> bool {
    let full = rate.saturating_mul(BURST_S).saturating_mul(CONNECTION);
    let Some(slot) = slots.get_mut(hash as usize % SLOTS) else { return true };
    let tag = (hash >> 32) as u32 | 1;
    if slot.tag != tag {
        *slot = Slot { tag, tokens: full, counted_ms: now_ms };
    }
    // A connection a second is a thousandth of one a millisecond.
    let gained = now_ms.saturating_sub(slot.counted_ms).saturating_mul(rate.into());
    let tokens = u64::from(slot.tokens).saturating_add(gained).min(full.into());
    slot.counted_ms = now_ms;
    slot.tokens = tokens as u32;
    match slot.tokens.checked_sub(CONNECTION) {
        Some(rest) => {
            slot.tokens = rest;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn an_address_has_a_burst_and_then_its_rate_and_others_are_not_disturbed() {
        let mut buckets = Buckets::new(Rates { address: 10, prefix: 1000 });
        assert_eq!((0..100).filter(|_| buckets.take(at(1), 0)).count(), 20);
        assert_eq!((0..100).filter(|_| buckets.take(at(1), 500)).count(), 5);
        assert!(buckets.take(at(2), 500));
        assert!(!buckets.take(at(1), 500));
        assert!(buckets.take(at(1), 600));
    }

    #[test]
    fn many_addresses_of_one_prefix_share_its_rate() {
        let mut buckets = Buckets::new(Rates { address: 10, prefix: 30 });
        assert_eq!((0..200).filter(|last| buckets.take(at(*last), 0)).count(), 60);
        assert!(buckets.take(Ipv4Addr::new(10, 0, 1, 1).into(), 0), "a neighbour prefix");
    }

    #[test]
    fn a_mapped_address_is_the_same_as_its_own() {
        let mut buckets = Buckets::new(Rates { address: 1, prefix: 1000 });
        let mapped = IpAddr::V6(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        assert!(buckets.take(mapped, 0) && buckets.take(at(1), 0));
        assert!(!buckets.take(mapped, 0) && !buckets.take(at(1), 0));
    }
}

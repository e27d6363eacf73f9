//! A resume position: where a subscriber stands in each shard, as text.
//!
//! ```text
//! text     base64url without padding of
//! bytes    version · base varint · shards 8 bytes, LE bits · per set bit: varint, varint
//! base     the latest millisecond of all shards; each shard then has base − ms and its counter
//! version  1; of a tenant with a name 2, and behind it the tag of that tenant, 4 bytes
//! ```
//!
//! Shards without a bit stand before their first event. Another tenant's position means nothing: it is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use imlink_protocol::id::TENANT_DEFAULT;
use imlink_store::event::{Position, SHARDS};

/// One position per shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Positions(pub(crate) [Position; SHARDS]);

impl Positions {
    /// Before every event.
    pub(crate) const START: Self = Self([Position { ms: 0, n: 0 }; SHARDS]);

    /// The position in `shard`.
    pub(crate) fn of(&self, shard: usize) -> Position {
        self.0.get(shard).copied().unwrap_or_default()
    }

    /// Moves on in `shard`; never back.
    pub(crate) fn advance(&mut self, shard: usize, to: Position) {
        if let Some(at) = self.0.get_mut(shard) {
            *at = to.max(*at);
        }
    }

    /// As text, of `tenant`.
    pub(crate) fn encode(&self, tenant: &str) -> String {
        let base = self.0.iter().map(|position| position.ms).max().unwrap_or_default();
        let mut bytes = Vec::with_capacity(320);
        put_version(tenant, &mut bytes);
        put_varint(base, &mut bytes);
        let set = self.0.iter().enumerate().filter(|(_, position)| **position != Position::default());
        let shards = set.clone().fold(0u64, |shards, (shard, _)| shards | 1 << shard);
        bytes.extend_from_slice(&shards.to_le_bytes());
        for (_, position) in set {
            put_varint(base - position.ms, &mut bytes);
            put_varint(position.n, &mut bytes);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a text; `None` when it is none, or another tenant's.
    pub(crate) fn decode(text: &str, tenant: &str) -> Option<Self> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mut version = Vec::new();
        put_version(tenant, &mut version);
        let mut rest = bytes.strip_prefix(&version[..])?;
        let base = take_varint(&mut rest)?;
        let (shards, mut rest) = rest.split_first_chunk::<8>()?;
        let shards = u64::from_le_bytes(*shards);
        let mut positions = Self::START;
        for (shard, position) in positions.0.iter_mut().enumerate() {
            if shards & (1 << shard) != 0 {
                position.ms = base.checked_sub(take_varint(&mut rest)?)?;
                position.n = take_varint(&mut rest)?;
            }
        }
        rest.is_empty().then_some(positions)
    }
}

fn put_version(tenant: &str, out: &mut Vec<u8>) {
    if tenant == TENANT_DEFAULT {
        return out.push(VERSION);
    }
    out.push(VERSION_OF_TENANT);
    // FNV-1a: it catches mistakes. What may be read is decided by the token.
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    out.extend_from_slice(&tenant.bytes().fold(0x811c_9dc5, step).to_be_bytes());
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        value |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

const VERSION: u8 = 1;
const VERSION_OF_TENANT: u8 = 2;
/// Longest text taken: all shards at their largest.
const TEXT_LEN_MAX: usize = 2048;

// One bit a shard.
const _: () = assert!(SHARDS == u64::BITS as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_read_back(parts in proptest::collection::vec((any::<u64>(), any::<u64>()), SHARDS)) {
            let mut positions = Positions::START;
            for (position, (ms, n)) in positions.0.iter_mut().zip(parts) {
                *position = Position { ms: ms % (1 << 53), n };
            }
            for (tenant, other) in [("-", "acme"), ("acme", "-"), ("acme", "acme-2")] {
                let text = positions.encode(tenant);
                prop_assert!(text.len() <= TEXT_LEN_MAX);
                prop_assert_eq!(Positions::decode(&text, tenant), Some(positions.clone()));
                prop_assert_eq!(Positions::decode(&text, other), None);
            }
        }

        #[test]
        fn garbage_is_no_position_and_no_panic(text in "[A-Za-z0-9_-]{0,200}", bytes: Vec<u8>) {
            let _ = Positions::decode(&text, "-");
            let mut with_version = vec![VERSION];
            with_version.extend(bytes);
            let _ = Positions::decode(&URL_SAFE_NO_PAD.encode(with_version), "-");
        }
    }

    #[test]
    fn a_busy_store_has_short_positions() {
        let mut positions = Positions::START;
        for (shard, position) in positions.0.iter_mut().enumerate() {
            *position = Position { ms: 1_764_000_000_000 - 10 * shard as u64, n: 3 };
        }
        assert!(positions.encode("-").len() <= 300, "{}", positions.encode("-").len());
        assert!(Positions::START.encode("-").len() < 16);
    }

    #[test]
    fn a_position_never_goes_back() {
        let mut positions = Positions::START;
        positions.advance(3, Position { ms: 5, n: 1 });
        positions.advance(3, Position { ms: 4, n: 9 });
        assert_eq!(positions.of(3), Position { ms: 5, n: 1 });
    }
}

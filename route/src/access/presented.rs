//! A token as a backend presents it: `imt_<id>_<secret>`.

use std::fmt;

use imlink_protocol::hex::Hex;
use imlink_protocol::id::TokenId;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Id and secret. Never printed, but by whoever just made it.
pub(crate) struct Presented {
    pub(crate) id: TokenId,
    secret: [u8; 32],
}

const PREFIX: &str = "imt_";

impl Presented {
    /// A new one.
    pub(crate) fn draw() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        // Zero is the token of the configuration.
        Ok(Self { id: TokenId(getrandom::u64()?.max(1).to_be_bytes()), secret })
    }

    /// Reads it; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id: TokenId = id.parse().ok()?;
        let (pairs, rest) = secret.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() || !id.is_some() {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self { id, secret: bytes })
    }

    /// What the store keeps of the secret.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }

    /// Whether the secret is the one that `hash` was made of, in time that does not depend on where it differs.
    pub(crate) fn is(&self, hash: &[u8; 32]) -> bool {
        self.hash().ct_eq(hash).into()
    }

    /// What its owner is told, once.
    pub(crate) fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, Hex(&self.secret))
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Presented({}, …)", self.id)
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_reads_back_and_a_changed_one_is_another() {
        let one = Presented::draw().unwrap();
        let text = one.reveal();
        assert_eq!(text.len(), 4 + 16 + 1 + 64);
        let again = Presented::parse(&text).unwrap();
        assert_eq!(again.id, one.id);
        assert!(again.is(&one.hash()));
        let last = if text.ends_with('0') { "1" } else { "0" };
        let other = Presented::parse(&format!("{}{last}", &text[..text.len() - 1])).unwrap();
        assert!(!other.is(&one.hash()));
    }

    #[test]
    fn what_is_not_a_token_is_none() {
        let good = Presented::draw().unwrap().reveal();
        let none = format!("imt_{}_{}", "0".repeat(16), "0".repeat(64));
        let cut = &good[..good.len() - 1];
        for wrong in ["", "imt_", "imt__", cut, &format!("{good}0"), &good.to_uppercase(), &good[1..], &none] {
            assert!(Presented::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_never_shows() {
        let one = Presented::draw().unwrap();
        let secret = one.reveal().split_off(21);
        assert!(!format!("{one:?}").contains(&secret[..8]));
    }

    proptest! {
        #[test]
        fn whatever_is_presented_one_token_has_one_text(
            text in "(imt_)?[0-9a-fA-F+_ ]{15,17}_[0-9a-fA-F+]{63,65}|imt_[0-9a-f]{16}_[0-9a-f]{64}|.{0,90}"
        ) {
            if let Some(token) = Presented::parse(&text) {
                prop_assert_eq!(token.reveal(), text);
            }
        }
    }
}

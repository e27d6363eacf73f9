//! X25519 keys and pre-shared keys, and how people read them.
//!
//! ```text
//! PublicKey     32 bytes, 64 hexadecimal digits     may be shown
//! PrivateKey    32 bytes, 64 hexadecimal digits     shown by `reveal` alone, overwritten when dropped
//! Psk           32 bytes, 64 hexadecimal digits     likewise
//! ```
//!
//! Nothing here draws random numbers: who makes a key brings 32 random bytes.

use core::fmt;
use core::str::FromStr;

use zeroize::Zeroize;

use crate::hex::{self, Hex, HexError};

/// Bytes of every key here.
pub const KEY_LEN: usize = 32;

/// Text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum KeyError {
    /// Not 64 characters; the length in bytes.
    Length(usize),
    /// A character that is no hexadecimal digit; its position from 1.
    Digit(usize),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "has {len} characters, a key has 64 hexadecimal digits"),
            // The character itself is not told: it may be of a secret.
            Self::Digit(at) => write!(f, "is not hexadecimal at character {at}, a key has 64 digits of 0-9 a-f"),
        }
    }
}

impl core::error::Error for KeyError {}

/// An X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PublicKey(pub [u8; KEY_LEN]);

impl PublicKey {
    /// Whether a secret can be agreed on with it: false for the few points of small order, with which every
    /// private key agrees on zero.
    #[cfg(feature = "keys")]
    pub fn is_usable(&self) -> bool {
        // Any scalar does: clamping makes it a multiple of 8, which takes a point of small order to zero.
        let any = x25519_dalek::StaticSecret::from([1; KEY_LEN]);
        any.diffie_hellman(&x25519_dalek::PublicKey::from(self.0)).was_contributory()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut key = [0; KEY_LEN];
        read_hex(text, &mut key)?;
        Ok(Self(key))
    }
}

/// A secret of 32 bytes: not shown, compared in constant time, overwritten when dropped.
macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name([u8; KEY_LEN]);

        impl $name {
            /// The secret of these bytes.
            pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn bytes(&self) -> &[u8; KEY_LEN] {
                &self.0
            }

            /// Its 64 digits, for the one place that must show or keep them.
            pub const fn reveal(&self) -> Revealed<'_> {
                Revealed(&self.0)
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.iter().zip(&other.0).fold(0, |all, (a, b)| all | (a ^ b)) == 0
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                let mut secret = Self([0; KEY_LEN]);
                read_hex(text, &mut secret.0)?;
                Ok(secret)
            }
        }
    };
}

secret! {
    /// An X25519 private key; any 32 random bytes are one.
    PrivateKey
}

secret! {
    /// A key that a whole fleet shares with its routes. All zeros is none.
    Psk
}

impl PrivateKey {
    /// Its public key.
    #[cfg(feature = "keys")]
    pub fn public(&self) -> PublicKey {
        let secret = x25519_dalek::StaticSecret::from(self.0);
        PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    /// Its public key, by what a handshake computes with: slower than where there are tables, and no more flash.
    #[cfg(all(feature = "seal", not(feature = "keys")))]
    pub fn public(&self) -> PublicKey {
        use x25519_dalek::{StaticSecret, X25519_BASEPOINT_BYTES};
        let base = x25519_dalek::PublicKey::from(X25519_BASEPOINT_BYTES);
        PublicKey(StaticSecret::from(self.0).diffie_hellman(&base).to_bytes())
    }
}

/// A secret about to be written out in hexadecimal.
#[derive(Clone, Copy)]
pub struct Revealed<'a>(&'a [u8; KEY_LEN]);

impl fmt::Display for Revealed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(self.0), f)
    }
}

/// The two key pairs of a login port, the same on every route of a cluster. Devices pin both public keys and log
/// in with either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginKeys {
    /// What devices try first.
    pub current: PrivateKey,
    /// What becomes current at the next rotation.
    pub next: PrivateKey,
}

fn read_hex(text: &str, out: &mut [u8; KEY_LEN]) -> Result<(), KeyError> {
    hex::read_into(text, out).map_err(|error| match error {
        HexError::Length(len) => KeyError::Length(len),
        HexError::Digit(at) => KeyError::Digit(at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let text = "00ff10a5".repeat(8);
        let key: PublicKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(key));
        assert_eq!(text.parse::<PrivateKey>().unwrap().reveal().to_string(), text);
    }

    #[test]
    fn what_is_no_key_is_refused_by_length_or_position_and_not_repeated() {
        assert_eq!("".parse::<PublicKey>(), Err(KeyError::Length(0)));
        assert_eq!("ab".repeat(33).parse::<PublicKey>(), Err(KeyError::Length(66)));
        let wrong = format!("{}x{}", "a".repeat(40), "b".repeat(23));
        assert_eq!(wrong.parse::<PrivateKey>(), Err(KeyError::Digit(41)));
        // 64 bytes that are not 64 characters.
        assert_eq!("ü".repeat(32).parse::<Psk>(), Err(KeyError::Digit(1)));
    }

    #[test]
    fn secrets_do_not_show_by_themselves() {
        let keys = LoginKeys { current: PrivateKey::new([0xab; 32]), next: PrivateKey::new([0xab; 32]) };
        let shown = format!("{keys:?} {:?}", Psk::new([0xab; 32]));
        assert!(!shown.contains("ab, ") && !shown.contains("abab") && !shown.contains("171"), "{shown}");
        assert_eq!(keys.current, keys.next);
        assert_ne!(keys.current, PrivateKey::new([0xaa; 32]));
    }

    #[cfg(feature = "keys")]
    #[test]
    fn the_public_key_is_that_of_rfc_7748() {
        // Section 6.1, Alice.
        let private = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        let public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        assert_eq!(private.parse::<PrivateKey>().unwrap().public().to_string(), public);
    }

    #[cfg(feature = "keys")]
    #[test]
    fn points_of_small_order_are_not_usable() {
        assert!(PrivateKey::new([7; 32]).public().is_usable());
        let mut one = [0; 32];
        one[0] = 1;
        let mut p_minus_1 = [0xff; 32];
        (p_minus_1[0], p_minus_1[31]) = (0xec, 0x7f);
        for small in [[0; 32], one, p_minus_1] {
            assert!(!PublicKey(small).is_usable(), "{small:02x?}");
        }
    }
}

//! Names and numbers that identify things on the wire.

use core::cmp::Ordering;
use core::fmt;
use core::num::NonZeroU64;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hex::Hex;
use crate::limits::{DEVICE_ID_LEN_MAX, NUMBER_MAX, PATH_LEN_MAX, TENANT_LEN_MAX};

/// The tenant of a deployment that has only one.
pub const TENANT_DEFAULT: &str = "-";

/// A device's name within its tenant: 1–64 bytes of `[A-Za-z0-9._:-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(heapless::String<DEVICE_ID_LEN_MAX>);

impl DeviceId {
    /// Checks `text` and keeps it.
    pub fn new(text: &str) -> Result<Self, IdError> {
        check_device_id(text)?;
        heapless::String::try_from(text)
            .map(Self)
            .map_err(|_| IdError::TooLong { len: text.len(), max: DEVICE_ID_LEN_MAX })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeviceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

/// A message's id for life: the generation of its mailbox and its sequence there. Written `generation-sequence`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MessageId {
    /// Generation of the mailbox, in milliseconds of the store's time when it was opened; below 2^53.
    pub generation: u64,
    /// Position in the mailbox, from 1; below 2^53. Never reused within a generation.
    pub sequence: u64,
}

impl MessageId {
    /// The id of message `sequence` of `generation`.
    pub const fn new(generation: u64, sequence: u64) -> Self {
        Self { generation, sequence }
    }
}

impl Ord for MessageId {
    // A microcontroller compares 128 bits in 30 instructions, at some thirty places.
    #[cfg_attr(target_os = "none", inline(never))]
    fn cmp(&self, other: &Self) -> Ordering {
        (self.generation, self.sequence).cmp(&(other.generation, other.sequence))
    }
}

impl PartialOrd for MessageId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, self.sequence)
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (generation, sequence) = text.split_once('-').ok_or(IdError::NotAMessageId)?;
        // One id has one text: no sign, no zeros in front.
        let is_number = |text: &str| text == "0" || text.starts_with(|first: char| ('1'..='9').contains(&first));
        let number = |text: &str| match text.parse::<u64>() {
            Ok(number) if number <= NUMBER_MAX && is_number(text) => Ok(number),
            _ => Err(IdError::NotAMessageId),
        };
        Ok(Self::new(number(generation)?, number(sequence)?))
    }
}

/// How far a device got: everything up to and including this message is handled or given up. Ordered by
/// generation, then sequence; `0-0` is a device that never handled anything.
pub type Cursor = MessageId;

/// Number of a session of one device; only grows. 0 is "none".
pub type Epoch = u64;

/// First 128 bits of the SHA-256 of a firmware's interface; all zero when it states none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// The fingerprint of a device that states no interface: payloads are raw bytes, keys are unchecked.
    pub const NONE: Self = Self([0; 16]);

    /// Whether the device states an interface.
    pub fn is_some(&self) -> bool {
        *self != Self::NONE
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

/// Tells the keys of one device apart: the first 64 bits of a public key, all zero for a plain device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyMark(pub [u8; 8]);

impl KeyMark {
    /// That of a device without a key.
    pub const PLAIN: Self = Self([0; 8]);

    /// That of a public key.
    pub const fn of(public_key: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *public_key;
        Self([a, b, c, d, e, f, g, h])
    }
}

/// Public part of a backend's token, drawn at random; names who sent a message. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub [u8; 8]);

impl TokenId {
    /// The token of the configuration, which is never revoked.
    pub const NONE: Self = Self([0; 8]);

    /// Whether it is a token of the store.
    pub fn is_some(&self) -> bool {
        *self != Self::NONE
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return Err(IdError::NotATokenId);
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| IdError::NotATokenId)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// A number that its giver never gives twice: of a process, a boot or an event queue. Drawn at random.
pub type Incarnation = NonZeroU64;

/// A name or number that does not have its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum IdError {
    /// Nothing where a name is needed.
    Empty,
    /// More bytes than allowed.
    TooLong {
        /// Bytes found.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A byte outside the allowed set.
    Byte {
        /// Where, counted from 0.
        at: usize,
        /// Which.
        byte: u8,
    },
    /// Not two numbers below 2^53 joined by `-`.
    NotAMessageId,
    /// Not 16 hexadecimal digits in lower case.
    NotATokenId,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong { len, max } => write!(f, "has {len} bytes, at most {max} are allowed"),
            Self::Byte { at, byte } => {
                write!(f, "has byte 0x{byte:02x} at {at}, allowed are A-Z a-z 0-9 . _ : - (in paths also /)")
            }
            Self::NotAMessageId => {
                f.write_str("is not a message id, expected generation-sequence such as 1764000000000-17")
            }
            Self::NotATokenId => f.write_str("is not a token id, expected 16 hexadecimal digits in lower case"),
        }
    }
}

impl core::error::Error for IdError {}

/// Checks a device id: 1–64 bytes of `[A-Za-z0-9._:-]`.
pub fn check_device_id(text: &str) -> Result<(), IdError> {
    check(text, DEVICE_ID_LEN_MAX, false)
}

/// Checks a tenant name: 1–32 bytes of `[A-Za-z0-9._:-]`.
pub fn check_tenant(text: &str) -> Result<(), IdError> {
    check(text, TENANT_LEN_MAX, false)
}

/// Checks a path: 1–128 bytes of `[A-Za-z0-9._:/-]`.
pub fn check_path(text: &str) -> Result<(), IdError> {
    check(text, PATH_LEN_MAX, true)
}

fn check(text: &str, max: usize, slash: bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > max {
        return Err(IdError::TooLong { len: text.len(), max });
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte) || (slash && byte == b'/');
    match text.bytes().position(|byte| !allowed(byte)) {
        None => Ok(()),
        Some(at) => Err(IdError::Byte { at, byte: text.as_bytes().get(at).copied().unwrap_or_default() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn device_ids_outside_the_allowed_set_are_refused_by_name() {
        assert!(DeviceId::new("lamp-17.a:b_c").is_ok());
        assert_eq!(DeviceId::new(""), Err(IdError::Empty));
        assert_eq!(DeviceId::new("a/b"), Err(IdError::Byte { at: 1, byte: b'/' }));
        let long = "x".repeat(65);
        assert_eq!(DeviceId::new(&long), Err(IdError::TooLong { len: 65, max: 64 }));
    }

    #[test]
    fn message_ids_read_back_what_they_print() {
        let id = MessageId::new(1_764_000_000_000, 17);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "1", "-", "1-", "a-1", "1-9007199254740992", "+1-1", "1-+1", "01-1", "1-00", "1-1-"] {
            assert_eq!(wrong.parse::<MessageId>(), Err(IdError::NotAMessageId), "{wrong}");
        }
    }

    #[test]
    fn token_ids_read_back_what_they_print_and_nothing_else() {
        let id = TokenId([0, 1, 2, 0xab, 4, 5, 6, 0xff]);
        assert_eq!(id.to_string(), "000102ab040506ff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "0", "000102AB040506FF", "+00102ab040506ff", "000102ab040506ff0"] {
            assert_eq!(wrong.parse::<TokenId>(), Err(IdError::NotATokenId), "{wrong}");
        }
    }

    #[test]
    fn a_later_generation_is_ahead_of_every_sequence_of_an_earlier_one() {
        assert!(MessageId::new(2, 1) > MessageId::new(1, 1000));
    }
}

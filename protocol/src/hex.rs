//! Bytes as hexadecimal text, two digits each: written in lower case, read in either.

use core::fmt;

/// Bytes about to be written out.
#[derive(Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is not so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HexError {
    /// Bytes of the text, which are not two for each byte that is to be read.
    Length(usize),
    /// The byte of this number, counted from 1, is no digit.
    Digit(usize),
}

/// Reads exactly `N` bytes.
pub fn read<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let mut bytes = [0; N];
    read_into(text, &mut bytes)?;
    Ok(bytes)
}

/// The same into `out`, which is filled: for what must not be left elsewhere.
pub fn read_into(text: &str, out: &mut [u8]) -> Result<(), HexError> {
    if text.len() != 2 * out.len() {
        return Err(HexError::Length(text.len()));
    }
    let digit = |at: usize, byte: u8| {
        let digit = char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        digit.ok_or(HexError::Digit(at))
    };
    let pairs = text.as_bytes().as_chunks::<2>().0;
    for (at, (byte, [high, low])) in out.iter_mut().zip(pairs).enumerate() {
        *byte = digit(2 * at + 1, *high)? << 4 | digit(2 * at + 2, *low)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn bytes_come_back_from_their_text_in_either_case() {
        let bytes = [0x00, 0x7f, 0xa0, 0xff];
        assert_eq!(Hex(&bytes).to_string(), "007fa0ff");
        assert_eq!(read("007fa0ff"), Ok(bytes));
        assert_eq!(read("007FA0fF"), Ok(bytes));
        assert_eq!(Hex(&[]).to_string(), "");
        assert_eq!(read(""), Ok([]));
    }

    #[test]
    fn what_is_no_digit_or_too_much_is_told_with_its_place() {
        assert_eq!(read::<2>("abc"), Err(HexError::Length(3)));
        assert_eq!(read::<2>("abcdef"), Err(HexError::Length(6)));
        assert_eq!(read::<2>("+1cd"), Err(HexError::Digit(1)));
        assert_eq!(read::<2>("abcg"), Err(HexError::Digit(4)));
        assert_eq!(read::<2>("abü"), Err(HexError::Digit(3)));
    }
}

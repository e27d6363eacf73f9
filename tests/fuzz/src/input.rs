//! Bytes of a fuzzer as a list of choices.

/// Reads choices from the front; when nothing is left, all of them are 0.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// The choices that `bytes` are.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left to choose.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `n`, which is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        let high = if n > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (high | usize::from(self.byte())) % n
    }

    /// A number: mostly a small one, at times one at the edges of its type or of what the wire allows.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=0xe7 => u64::from(small) % 24,
            byte @ 0xe8..=0xef => 1 << (8 * u32::from(byte & 7)),
            0xf0..=0xf3 => (1 << 53) - 1,
            0xf4 | 0xf5 => 1 << 53,
            0xf6 | 0xf7 => u64::MAX,
            0xf8 | 0xf9 => u64::from(u32::MAX),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// A number that is cut to 32 bits.
    pub fn number32(&mut self) -> u32 {
        self.number() as u32
    }

    /// At most `max` bytes; their number comes first.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = self.below(max + 1).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

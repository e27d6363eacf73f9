//! The sending end of a transfer.

use super::BlobFault;

/// What of a blob may be sent next. Nothing before the receiver's first acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    size: u32,
    /// Next byte to send; `None` until the receiver said where it begins.
    next: Option<u32>,
    acked: u32,
    limit: u32,
}

impl Sender {
    /// Of a blob of `size` bytes.
    pub fn new(size: u32) -> Self {
        Self { size, next: None, acked: 0, limit: 0 }
    }

    /// The receiver's acknowledgement; the first one says where to begin.
    pub fn handle_ack(&mut self, offset: u32, limit: u32) -> Result<(), BlobFault> {
        let known = self.next.unwrap_or(self.size);
        if offset > known || offset < self.acked || limit < offset.max(self.limit) || limit > self.size {
            return Err(BlobFault::Ack { offset, limit });
        }
        self.next.get_or_insert(offset);
        self.acked = offset;
        self.limit = limit;
        Ok(())
    }

    /// What may be sent now: offset and most bytes, never none.
    pub fn sendable(&self) -> Option<(u32, usize)> {
        let next = self.next?;
        (next < self.limit).then_some((next, (self.limit - next) as usize))
    }

    /// So many bytes were sent.
    pub fn handle_sent(&mut self, len: usize) {
        if let Some(next) = &mut self.next {
            *next = next.saturating_add(u32::try_from(len).unwrap_or(u32::MAX)).min(self.limit);
        }
    }

    /// Next byte to send, once the receiver said where to begin.
    pub fn next(&self) -> Option<u32> {
        self.next
    }

    /// Bytes that the receiver keeps.
    pub fn acked(&self) -> u32 {
        self.acked
    }
}

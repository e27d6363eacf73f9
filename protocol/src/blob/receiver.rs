//! The receiving end of a transfer.

use super::{BlobFault, WINDOW_MAX, end_of_chunk};

/// What came of a blob, how far it is written, and how much more may come.
///
/// ```text
/// 0 ─── written ─── received ─── limit ─── size
///       done with   in the buffer  offered
/// ```
///
/// **Invariant:** written ≤ received ≤ limit ≤ size, and limit − written ≤ capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receiver {
    size: u32,
    written: u32,
    received: u32,
    limit: u32,
    capacity: u32,
    is_ack_due: bool,
}

impl Receiver {
    /// Of a blob of `size` bytes of which `written` are there, into a buffer of `capacity` bytes
    /// (1 … [`WINDOW_MAX`], more is not used).
    pub fn new(size: u32, written: u32, capacity: u32) -> Self {
        let written = written.min(size);
        let capacity = capacity.clamp(1, WINDOW_MAX);
        Self { size, written, received: written, limit: written, capacity, is_ack_due: true }
    }

    /// A chunk came: where in the buffer its bytes go.
    pub fn handle_chunk(&mut self, offset: u32, len: usize) -> Result<usize, BlobFault> {
        let end = end_of_chunk(offset, len, self.received, self.limit)?;
        let at = self.buffered();
        self.received = end;
        Ok(at)
    }

    /// The first `len` bytes of the buffer are done with.
    pub fn handle_written(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.written = self.written.saturating_add(len).min(self.received);
        // Not for every byte that is free: for half of the buffer, and for the end.
        let room = self.room();
        self.is_ack_due |= room - self.limit >= self.capacity.div_ceil(2) || self.written == self.size;
        self.is_ack_due |= room == self.size && self.limit < self.size;
    }

    /// The sender starts anew, behind what came.
    pub fn handle_resumed(&mut self) {
        self.is_ack_due = true;
    }

    /// The acknowledgement that is due: offset and limit.
    pub fn poll_ack(&mut self) -> Option<(u32, u32)> {
        if !core::mem::take(&mut self.is_ack_due) {
            return None;
        }
        self.limit = self.room();
        Some((self.received, self.limit))
    }

    /// Whether an acknowledgement is due.
    pub fn is_ack_due(&self) -> bool {
        self.is_ack_due
    }

    /// Bytes that wait in the buffer.
    pub fn buffered(&self) -> usize {
        (self.received - self.written) as usize
    }

    /// Whether the buffer should be written now: it is full, or holds the blob's end.
    pub fn is_write_due(&self) -> bool {
        self.received > self.written && (self.received == self.size || self.received - self.written == self.capacity)
    }

    /// Bytes written.
    pub fn written(&self) -> u32 {
        self.written
    }

    /// Bytes received.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// Whether everything is written.
    pub fn is_whole(&self) -> bool {
        self.written == self.size
    }

    fn room(&self) -> u32 {
        self.written.saturating_add(self.capacity).min(self.size)
    }
}

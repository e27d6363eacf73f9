//! The IM-server's end: between a device and the route that asked.

use super::{Ack, Action, BlobFault, BlobFrame, Chunk, Done, Open, Outcome, WINDOW_MAX, end_of_chunk};

/// The transfers of one session, one at a time. Numbers them and holds both ends to their rules, so that no more
/// than a window of bytes is ever on the way through the server.
#[derive(Debug, Default)]
pub struct Relay {
    /// Bytes that the device takes at once; 0 while it did not say that it takes part.
    window: u32,
    last: u32,
    open: Option<Transfer>,
}

#[derive(Clone, Copy, Debug)]
struct Transfer {
    /// Whether the device gets the blob.
    is_to_device: bool,
    /// Bytes sent by the blob's sender; `None` until its receiver said where to begin.
    sent: Option<u32>,
    limit: u32,
    is_answered: bool,
}

impl Relay {
    /// A route wants a transfer: the frame for the device, or why there is none.
    pub fn handle_open<'a>(&mut self, open: &Open<'a>) -> Result<Open<'a>, Outcome> {
        if self.window == 0 {
            return Err(Outcome::Unsupported);
        }
        if self.open.is_some() {
            return Err(Outcome::Busy);
        }
        self.last = self.last.wrapping_add(1).max(1);
        let is_to_device = open.action == Action::Give;
        self.open = Some(Transfer { is_to_device, sent: None, limit: 0, is_answered: false });
        Ok(Open { transfer: self.last, ..*open })
    }

    /// The route goes on with the transfer that is open. `Ok` holds what the device is told; a chunk within the
    /// device's room is.
    pub fn handle_route<'a>(&mut self, frame: BlobFrame<'a>) -> Result<BlobFrame<'a>, BlobFault> {
        let transfer = self.open.as_mut().ok_or(BlobFault::Order)?;
        match frame {
            BlobFrame::Chunk(chunk) if transfer.is_to_device => transfer.handle_chunk(&chunk)?,
            BlobFrame::Ack(ack) if !transfer.is_to_device => transfer.handle_ack(&ack)?,
            BlobFrame::Done(_) => self.open = None,
            BlobFrame::Open(_) | BlobFrame::Chunk(_) | BlobFrame::Ack(_) => return Err(BlobFault::Order),
        }
        Ok(frame.of(self.last))
    }

    /// A frame of the device; what the route is told. Frames of a transfer that ended are ignored: they were under way.
    pub fn handle_device<'a>(&mut self, frame: BlobFrame<'a>) -> Result<Option<BlobFrame<'a>>, BlobFault> {
        let number = match frame {
            BlobFrame::Ack(Ack { transfer: 0, limit, .. }) => {
                self.window = limit.min(WINDOW_MAX);
                return Ok(None);
            }
            BlobFrame::Open(Open { transfer, .. })
            | BlobFrame::Chunk(Chunk { transfer, .. })
            | BlobFrame::Ack(Ack { transfer, .. })
            | BlobFrame::Done(Done { transfer, .. }) => transfer,
        };
        let transfer = match &mut self.open {
            Some(transfer) if number == self.last => transfer,
            _ if number <= self.last && number > 0 => return Ok(None),
            _ => return Err(BlobFault::Order),
        };
        match frame {
            BlobFrame::Ack(ack) if transfer.is_to_device => transfer.handle_ack(&ack)?,
            BlobFrame::Chunk(chunk) if !transfer.is_to_device => transfer.handle_chunk(&chunk)?,
            BlobFrame::Open(_) if !transfer.is_to_device && !transfer.is_answered => transfer.is_answered = true,
            BlobFrame::Done(Done { outcome: Outcome::Disconnected, .. }) => return Err(BlobFault::Order),
            BlobFrame::Done(_) => self.open = None,
            BlobFrame::Open(_) | BlobFrame::Chunk(_) | BlobFrame::Ack(_) => return Err(BlobFault::Order),
        }
        Ok(Some(frame.of(0)))
    }

    /// Ends the transfer that is open, as when the route is gone: what the device is told.
    pub fn cancel(&mut self, outcome: Outcome) -> Option<Done> {
        self.open.take().map(|_| Done { transfer: self.last, outcome, detail: 0 })
    }

    /// Number of the last transfer that was opened, 0 before the first.
    pub fn number(&self) -> u32 {
        self.last
    }

    /// Whether a transfer is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the device takes part.
    pub fn is_supported(&self) -> bool {
        self.window > 0
    }
}

impl Transfer {
    fn handle_ack(&mut self, ack: &Ack) -> Result<(), BlobFault> {
        let Ack { offset, limit, .. } = *ack;
        let is_ahead = self.sent.is_some_and(|sent| offset > sent);
        if is_ahead || limit < offset.max(self.limit) || limit - offset > WINDOW_MAX {
            return Err(BlobFault::Ack { offset, limit });
        }
        self.sent.get_or_insert(offset);
        self.limit = limit;
        Ok(())
    }

    fn handle_chunk(&mut self, chunk: &Chunk<'_>) -> Result<(), BlobFault> {
        let sent = self.sent.ok_or(BlobFault::Order)?;
        self.sent = Some(end_of_chunk(chunk.offset, chunk.bytes.len(), sent, self.limit)?);
        Ok(())
    }
}

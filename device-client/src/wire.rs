//! What a frame looks like on this connection: plain, or a record of a sealed link.

use imlink_protocol::frame::{self, EncodeError, FrameError};
use imlink_protocol::seal::Opened;
#[cfg(feature = "seal")]
use imlink_protocol::seal::{Portable, Records};
use serde::Serialize;

/// Plain, or sealed by these keys.
#[derive(Default)]
pub(crate) struct Wire {
    #[cfg(feature = "seal")]
    records: Option<Records<Portable>>,
}

impl Wire {
    /// A link whose handshake is done.
    #[cfg(feature = "seal")]
    pub(crate) fn sealed(records: Records<Portable>) -> Self {
        Self { records: Some(records) }
    }

    /// Writes `message` at the start of `out` and returns the bytes written.
    pub(crate) fn encode<T: Serialize + ?Sized>(&mut self, message: &T, out: &mut [u8]) -> Result<usize, EncodeError> {
        #[cfg(feature = "seal")]
        if let Some(records) = &mut self.records {
            return records.sealer.encode(message, out);
        }
        frame::encode(message, out)
    }

    /// Finds the frame at the start of `bytes`; one of a sealed link is opened there, once.
    pub(crate) fn take(&mut self, bytes: &mut [u8], max: usize) -> Result<Option<Opened>, FrameError> {
        #[cfg(feature = "seal")]
        if let Some(records) = &mut self.records {
            return records.opener.open(bytes, max);
        }
        let Some(frame) = frame::split(bytes, max)? else { return Ok(None) };
        let end = frame.len - frame::CHECK_LEN;
        Ok(Some(Opened { start: end - frame.body.len(), end, len: frame.len }))
    }
}

//! What a connection knows of blobs: where their frames go and come from.

#[cfg(feature = "blob")]
use imlink_protocol::blob::BlobFrame;

use crate::wire::Wire;

/// The far side of `Runner::with_blobs`.
pub(crate) trait Port: Copy {
    /// A session is open.
    fn handle_attached(&self) {}

    /// The session is over.
    fn handle_detached(&self) {}

    /// A frame of a transfer came.
    #[cfg(feature = "blob")]
    fn handle_frame(&self, frame: &BlobFrame<'_>);

    /// Writes the next frame into `out`, when there is one that fits.
    fn fill(&self, _wire: &mut Wire, _out: &mut [u8]) -> Option<usize> {
        None
    }
}

/// A device that takes no part in transfers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBlobs;

impl Port for NoBlobs {
    #[cfg(feature = "blob")]
    fn handle_frame(&self, _: &BlobFrame<'_>) {}
}

//! Blobs: from a request of a backend straight to the device, or the other way; nothing is kept here.
//!
//! ```text
//! request body ─▶ give ─Chunk─▶ link of the device's IM-server ─▶ device
//! answer body ◀── take ◀─Chunk─                                ◀─
//! ```
//!
//! The receiver says from which byte on it wants the blob and how much it has room for, so a route holds a window of
//! bytes for each transfer and no file. Every IM-server has a link to every route: whichever route is asked reaches
//! the device, and a backend that goes on after a cut may ask another one. What came so far is the device's to keep.

mod give;
mod take;
mod transfer;

pub(crate) use give::give;
pub use give::{Give, Given};
pub(crate) use take::take;
pub use take::{Take, Taken};
pub(crate) use transfer::{Blobs, link_lost, said};

use imlink_protocol::blob::Outcome;

use crate::request::Failed;

/// Why a transfer went no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The request was refused, or the device is not to be reached: [`Failed::failure`] says whether to try again.
    #[error("{0}")]
    Failed(#[from] Failed),
    /// The device ended it.
    #[error("the device ended the transfer: {outcome}")]
    Device {
        /// Why.
        outcome: Outcome,
        /// With [`Outcome::TooLarge`] the largest size that it takes, in bytes.
        detail: u32,
    },
    /// The bytes given begin behind those that the device has.
    #[error("the device has {have} bytes of it: go on from there")]
    Offset {
        /// Bytes that it has.
        have: u32,
    },
}

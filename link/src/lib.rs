//! Links between nodes and backends: batches of frames over TCP, or within one process.
//!
//! ```text
//! Sender ──encode──▶ outbox ──(writer task, one write for all that waits)──▶ TCP ──▶ Receiver
//! Sender ──encode──▶ outbox ────────────────(same process)─────────────────────────▶ Receiver
//! ```
//!
//! A sender encodes straight into the link's outbox; whoever empties it takes all that gathered there
//! meanwhile, so a busy link makes few large writes and an idle one sends at once. Nothing waits for
//! company. A [`pair`] carries the very same bytes without a socket; [`seal`] carries them between nodes that
//! proved their keys, encrypted.
//!
//! The outbox is bounded: past its limit [`Sender::send`] refuses, and nothing that was taken is dropped
//! while the link lives.
#![forbid(unsafe_code)]

mod outbox;
mod receiver;
pub mod seal;
mod stream;

use std::io;
use std::sync::Arc;

use imlink_protocol::frame::FrameError;
use imlink_protocol::limits::LINK_FRAME_LEN_MAX;
use serde::Serialize;
use tokio::net::TcpStream;

use outbox::Outbox;
pub use receiver::{Batch, Receiver};
pub use stream::over_stream;

/// Bytes that may wait in one direction of a link unless configured otherwise.
pub const OUTBOX_LEN_DEFAULT: usize = 32 * 1024 * 1024;

/// Both ends of one side of a link.
pub struct Link {
    /// Where this side's frames go.
    pub sender: Sender,
    /// Where the other side's frames come from. Dropping it closes the link.
    pub receiver: Receiver,
}

/// The sending half of a link; cheap to clone.
#[derive(Clone)]
pub struct Sender {
    outbox: Arc<Outbox>,
}

/// Why a link takes no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
    /// Too many bytes wait for the peer.
    #[error("{waiting} bytes wait for a peer that does not take them, at most {max} may")]
    Full {
        /// Bytes waiting.
        waiting: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The message is longer than the largest frame.
    #[error("the message is longer than the largest frame of {LINK_FRAME_LEN_MAX} bytes")]
    TooLong,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer sent something that is not a frame.
    #[error("the peer sent {0}")]
    Frame(#[from] FrameError),
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// A sealed record was changed, cut, repeated or left out on the way.
    #[error("the peer sent a record whose seal does not fit")]
    Seal,
}

impl Sender {
    /// Puts `message` in the outbox as one frame.
    pub fn send<T: Serialize>(&self, message: &T) -> Result<(), SendError> {
        self.outbox.put(message)
    }

    /// Puts frames that are already encoded in the outbox.
    pub fn send_encoded(&self, frames: &[u8]) -> Result<(), SendError> {
        self.outbox.put_encoded(frames)
    }

    /// Closes the link: what is in the outbox still goes, nothing more is taken.
    pub fn close(&self) {
        self.outbox.close();
    }

    /// Whether the link is closed.
    pub fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Bytes that wait for the peer.
    pub fn waiting(&self) -> usize {
        self.outbox.waiting()
    }

    /// Ends when the link is closed.
    pub async fn closed(&self) {
        self.outbox.closed().await;
    }

    /// Whether both are the same link.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.outbox, &other.outbox)
    }
}

/// Encodes `message` as one frame at the end of `out`, for [`Sender::send_encoded`].
pub fn encode_onto<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), SendError> {
    outbox::encode_onto(message, out)
}

/// A link over a connected socket; spawns its writer on the current runtime. Sets `TCP_NODELAY`.
pub fn over_tcp(stream: TcpStream, outbox_len_max: usize) -> io::Result<Link> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let outbox = Arc::new(Outbox::new(outbox_len_max));
    tokio::spawn(outbox::write_to(outbox.clone(), write, None));
    Ok(Link { receiver: Receiver::over_tcp(read, outbox.clone()), sender: Sender { outbox } })
}

/// The same with every byte sealed, after a handshake.
fn sealed(stream: TcpStream, keys: snow::StatelessTransportState, outbox_len_max: usize) -> io::Result<Link> {
    let (read, write) = stream.into_split();
    let (sealer, opener) = seal::both(keys);
    let outbox = Arc::new(Outbox::new(outbox_len_max));
    tokio::spawn(outbox::write_to(outbox.clone(), write, Some(sealer)));
    Ok(Link { receiver: Receiver::sealed(read, opener, outbox.clone()), sender: Sender { outbox } })
}

/// Two sides of a link within this process.
pub fn pair(outbox_len_max: usize) -> (Link, Link) {
    let there = Arc::new(Outbox::new(outbox_len_max));
    let back = Arc::new(Outbox::new(outbox_len_max));
    let side = |out: &Arc<Outbox>, inbox: &Arc<Outbox>| Link {
        sender: Sender { outbox: out.clone() },
        receiver: Receiver::within(inbox.clone(), out.clone()),
    };
    (side(&there, &back), side(&back, &there))
}

#[cfg(test)]
mod tests;

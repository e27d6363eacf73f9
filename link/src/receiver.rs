//! The receiving half: whole frames, as many as one read brought.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use imlink_protocol::frame::{self, Frame};
use imlink_protocol::limits::LINK_FRAME_LEN_MAX;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

use crate::LinkError;
use crate::outbox::{Outbox, read_buffer};
use crate::seal::{Opened, Opener};

/// The receiving half of a link. Dropping it closes the link.
pub struct Receiver {
    source: Source,
    /// The other direction, closed with this one.
    outbox: Arc<Outbox>,
}

enum Source {
    Tcp { stream: OwnedReadHalf, buffer: BytesMut },
    Sealed { stream: OwnedReadHalf, opener: Opener, input: BytesMut, buffer: BytesMut, is_over: bool },
    Within(Arc<Outbox>),
}

/// Frames that arrived together.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
}

impl Receiver {
    pub(crate) fn over_tcp(stream: OwnedReadHalf, outbox: Arc<Outbox>) -> Self {
        Self { source: Source::Tcp { stream, buffer: read_buffer() }, outbox }
    }

    pub(crate) fn sealed(stream: OwnedReadHalf, opener: Opener, outbox: Arc<Outbox>) -> Self {
        let (input, buffer) = (read_buffer(), BytesMut::new());
        Self { source: Source::Sealed { stream, opener, input, buffer, is_over: false }, outbox }
    }

    pub(crate) fn within(inbox: Arc<Outbox>, outbox: Arc<Outbox>) -> Self {
        Self { source: Source::Within(inbox), outbox }
    }

    /// The frames that came since the last call, at least one; `None` when the peer closed in good order.
    /// May be dropped and called again without losing anything.
    pub async fn receive(&mut self) -> Result<Option<Batch>, LinkError> {
        match &mut self.source {
            Source::Within(inbox) => Ok(inbox.take().await.map(|bytes| Batch { bytes })),
            Source::Tcp { stream, buffer } => loop {
                let whole = whole_frames(buffer)?;
                if whole > 0 {
                    return Ok(Some(Batch { bytes: buffer.split_to(whole).freeze() }));
                }
                buffer.reserve(16 * 1024);
                if stream.read_buf(buffer).await? == 0 {
                    // Cut within a frame is not closed in good order: what was in it is lost.
                    return if buffer.is_empty() { Ok(None) } else { Err(cut()) };
                }
            },
            Source::Sealed { stream, opener, input, buffer, is_over } => loop {
                let whole = whole_frames(buffer)?;
                if whole > 0 {
                    return Ok(Some(Batch { bytes: buffer.split_to(whole).freeze() }));
                }
                if *is_over {
                    return if buffer.is_empty() { Ok(None) } else { Err(cut()) };
                }
                let before = buffer.len();
                while !*is_over {
                    match opener.open(input, buffer)? {
                        Opened::Nothing => break,
                        Opened::Bytes => {}
                        Opened::End => *is_over = true,
                    }
                }
                if buffer.len() > before || *is_over {
                    continue;
                }
                input.reserve(64 * 1024);
                // Whoever ends a sealed stream says so under seal; else something was cut off.
                if stream.read_buf(input).await? == 0 {
                    return Err(cut());
                }
            },
        }
    }
}

fn cut() -> LinkError {
    io::Error::from(io::ErrorKind::UnexpectedEof).into()
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.outbox.close();
        if let Source::Within(inbox) = &self.source {
            inbox.close();
        }
    }
}

/// Length of the whole frames at the start of `buffer`; their checks are read again by [`Batch::frames`],
/// which costs less than keeping a list of them.
fn whole_frames(buffer: &[u8]) -> Result<usize, LinkError> {
    let mut whole = 0;
    while let Some(len) = frame::whole_len(buffer.get(whole..).unwrap_or_default(), LINK_FRAME_LEN_MAX)? {
        whole += len;
    }
    Ok(whole)
}

impl Batch {
    /// The bodies of the frames, in order; ends after the first wrong one.
    pub fn frames(&self) -> impl Iterator<Item = Result<&[u8], LinkError>> {
        let mut rest: Option<&[u8]> = Some(&self.bytes);
        std::iter::from_fn(move || match frame::split(rest?, LINK_FRAME_LEN_MAX) {
            Ok(Some(Frame { body, len })) => {
                rest = rest.and_then(|bytes| bytes.get(len..));
                Some(Ok(body))
            }
            Ok(None) => None,
            Err(error) => {
                rest = None;
                Some(Err(error.into()))
            }
        })
    }

    /// The bytes of `part`, a slice of one of this batch's bodies, without copying them.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.bytes.slice_ref(part)
    }
}

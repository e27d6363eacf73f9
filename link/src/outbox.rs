//! The outbox: encoded frames that wait to be taken, all at once, by a writer or by the peer itself.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use imlink_protocol::frame;
use imlink_protocol::limits::LINK_FRAME_LEN_MAX;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::seal::Sealer;
use crate::{LinkError, SendError};

/// How long the peer of a closed link may take what is in the outbox.
const LINGER: Duration = Duration::from_secs(10);
/// Room asked for first; most frames fit.
const FRAME_GUESS: usize = 512;

pub(crate) struct Outbox {
    state: Mutex<State>,
    /// One permit when there is something to take or the link closed.
    ready: Notify,
    /// Told when the link closes.
    closed: Notify,
    len_max: usize,
}

struct State {
    frames: Vec<u8>,
    is_closed: bool,
}

impl Outbox {
    pub(crate) fn new(len_max: usize) -> Self {
        Self {
            state: Mutex::new(State { frames: Vec::new(), is_closed: false }),
            ready: Notify::new(),
            closed: Notify::new(),
            len_max,
        }
    }

    pub(crate) fn put<T: Serialize>(&self, message: &T) -> Result<(), SendError> {
        self.fill(|frames| encode_onto(message, frames))
    }

    pub(crate) fn put_encoded(&self, encoded: &[u8]) -> Result<(), SendError> {
        self.fill(|frames| {
            frames.extend_from_slice(encoded);
            Ok(())
        })
    }

    fn fill(&self, put: impl FnOnce(&mut Vec<u8>) -> Result<(), SendError>) -> Result<(), SendError> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(SendError::Closed);
        }
        let waiting = state.frames.len();
        if waiting >= self.len_max {
            return Err(SendError::Full { waiting, max: self.len_max });
        }
        put(&mut state.frames)?;
        drop(state);
        if waiting == 0 {
            self.ready.notify_one();
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.ready.notify_one();
        self.closed.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().frames.len()
    }

    pub(crate) async fn closed(&self) {
        loop {
            let told = self.closed.notified();
            if self.is_closed() {
                return;
            }
            told.await;
        }
    }

    /// Everything that waits; `None` when the link is closed and all was taken. For one taker only.
    pub(crate) async fn take(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.state.lock();
                if !state.frames.is_empty() {
                    return Some(Bytes::from(core::mem::take(&mut state.frames)));
                }
                if state.is_closed {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }
}

/// Empties `outbox` into `stream` until the link closes or the stream breaks. A peer that does not read
/// cannot hold a closed link's frames for ever.
pub(crate) async fn write_to(outbox: std::sync::Arc<Outbox>, mut stream: OwnedWriteHalf, mut sealer: Option<Sealer>) {
    tokio::select! {
        () = write_all(&outbox, &mut stream, sealer.as_mut()) => {}
        () = async {
            outbox.closed().await;
            tokio::time::sleep(LINGER).await;
        } => {}
    }
}

async fn write_all(outbox: &Outbox, stream: &mut OwnedWriteHalf, mut sealer: Option<&mut Sealer>) {
    while let Some(frames) = outbox.take().await {
        let written = match &mut sealer {
            None => stream.write_all(&frames).await.map_err(LinkError::from),
            Some(sealer) => write_sealed(&frames, sealer, stream).await,
        };
        if written.is_err() {
            outbox.close();
            return;
        }
    }
    if let Some(sealer) = sealer {
        // Says that nothing is missing; whether the peer still reads it does not matter.
        let _ = write_sealed(&[], sealer, stream).await;
    }
    // The peer reads the end of the stream; whether it is still there to do so does not matter.
    let _ = stream.shutdown().await;
}

async fn write_sealed(frames: &[u8], sealer: &mut Sealer, stream: &mut OwnedWriteHalf) -> Result<(), LinkError> {
    let (mut rest, mut records) = (frames, Vec::with_capacity(frames.len() + 64));
    loop {
        records.clear();
        rest = sealer.seal(rest, &mut records)?;
        stream.write_all(&records).await?;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

pub(crate) fn encode_onto<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), SendError> {
    let start = out.len();
    for room in [FRAME_GUESS, LINK_FRAME_LEN_MAX + frame::LENGTH_LEN_MAX] {
        out.resize(start + room, 0);
        if let Some(Ok(len)) = out.get_mut(start..).map(|area| frame::encode(message, area)) {
            out.truncate(start + len);
            return Ok(());
        }
    }
    out.truncate(start);
    Err(SendError::TooLong)
}

/// Room for what a socket gives at once.
pub(crate) fn read_buffer() -> BytesMut {
    BytesMut::with_capacity(64 * 1024)
}

//! The memory of transfers, and the task that works on them.

use core::cell::RefCell;
use core::convert::Infallible;
use core::future::poll_fn;
use core::task::Poll;

use embassy_sync::blocking_mutex::Mutex as BlockingMutex;
use embassy_sync::blocking_mutex::raw::RawMutex;
use embassy_sync::mutex::Mutex;
use embassy_sync::waitqueue::WakerRegistration;
use imlink_protocol::blob::{BlobFrame, CHUNK_OVERHEAD, Chunk, Outcome, Transfers, Transmit, Work};
use imlink_protocol::message::FromDevice;

use super::verify::{Checks, finish, found};
use super::{Blob, BlobSink, BlobSource, StorageError};
use crate::blob_port::Port;
use crate::state::Storage;
use crate::wire::Wire;

/// The memory of a device's transfers, placed by the user: a buffer of `N` bytes and at most 480 more on a 64-bit
/// host, less on a microcontroller.
///
/// `N` is what is written to flash at once, a page or a whole part of one: 4,096 by default, at most 65,536.
pub struct BlobState<M: RawMutex, const N: usize = 4096> {
    desk: BlockingMutex<M, RefCell<Desk>>,
    buffer: Mutex<M, [u8; N]>,
}

struct Desk {
    transfers: Transfers,
    task: WakerRegistration,
}

/// Works on transfers: [`Blobs::run`] has to run all the time.
pub struct Blobs<'a, S, M: RawMutex, const N: usize> {
    shared: &'a S,
    state: &'a BlobState<M, N>,
    keys: &'a [[u8; 32]],
}

/// Room that a frame other than a chunk takes at most.
const FRAME_MAX: usize = 136;

impl<M: RawMutex, const N: usize> BlobState<M, N> {
    const SIZE_FITS: () = assert!(N > 0 && N <= 65_536, "a blob's buffer has 1 … 65,536 bytes");

    /// Memory without a transfer.
    pub const fn new() -> Self {
        let () = Self::SIZE_FITS;
        let desk = Desk { transfers: Transfers::new(N), task: WakerRegistration::new() };
        Self { desk: BlockingMutex::new(RefCell::new(desk)), buffer: Mutex::new([0; N]) }
    }

    /// Bytes written of the blob that is being received or was received last, and its length.
    pub fn progress(&self) -> Option<(u32, u32)> {
        self.with(|desk| desk.transfers.receiving().map(|(blob, written)| (written, blob.size)))
    }

    /// How the last transfer to this device ended, once it did.
    pub fn outcome(&self) -> Option<Outcome> {
        self.with(|desk| desk.transfers.outcome())
    }

    fn with<R>(&self, work: impl FnOnce(&mut Desk) -> R) -> R {
        self.desk.lock(|desk| work(&mut desk.borrow_mut()))
    }
}

impl<M: RawMutex, const N: usize> Default for BlobState<M, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: RawMutex, const N: usize> Port for &BlobState<M, N> {
    fn handle_attached(&self) {
        self.with(|desk| desk.transfers.handle_attached());
    }

    fn handle_detached(&self) {
        self.with(|desk| desk.transfers.handle_detached());
    }

    fn handle_frame(&self, frame: &BlobFrame<'_>) {
        self.with(|desk| {
            if let (Some(at), BlobFrame::Chunk(chunk)) = (desk.transfers.handle_frame(frame), frame) {
                // The task holds the buffer only while there is no room in it.
                let is_put = self.buffer.try_lock().is_ok_and(|mut buffer| {
                    let place = buffer.get_mut(at..).and_then(|rest| rest.get_mut(..chunk.bytes.len()));
                    place.map(|place| place.copy_from_slice(chunk.bytes)).is_some()
                });
                if !is_put {
                    desk.transfers.refuse_chunk();
                }
            }
            desk.task.wake();
        });
    }

    fn fill(&self, wire: &mut Wire, out: &mut [u8]) -> Option<usize> {
        let room = out.len().checked_sub(FRAME_MAX).map(|rest| rest + FRAME_MAX - CHUNK_OVERHEAD)?;
        self.with(|desk| match desk.transfers.poll_transmit()? {
            Transmit::Frame(frame) => wire.encode(&FromDevice::from(frame), out).ok(),
            Transmit::Chunk { transfer, offset, at, len } => {
                let buffer = self.buffer.try_lock().ok()?;
                let bytes = buffer.get(at..)?.get(..len.min(room))?;
                let frame = FromDevice::BlobChunk(Chunk { transfer, offset, bytes });
                let written = wire.encode(&frame, out).ok()?;
                desk.transfers.handle_chunk_sent(bytes.len());
                // The buffer may be used up.
                desk.task.wake();
                Some(written)
            }
        })
    }
}

impl<'a, S: Storage, M: RawMutex, const N: usize> Blobs<'a, S, M, N> {
    pub(crate) fn new(shared: &'a S, state: &'a BlobState<M, N>) -> Self {
        Self { shared, state, keys: &[] }
    }

    /// Pins Ed25519 public keys: a firmware image has to be signed by one of them. Without any, none is taken.
    pub fn with_keys(self, keys: &'a [[u8; 32]]) -> Self {
        Self { keys, ..self }
    }

    /// Works on transfers for ever. Cancel safe: called again after it was dropped, it does once more what it was at, so
    /// the same bytes may be written a second time.
    pub async fn run(&mut self, sink: &mut impl BlobSink, source: &mut impl BlobSource) -> Infallible {
        self.state.with(|desk| desk.transfers.handle_restarted());
        loop {
            let (job, work) = poll_fn(|cx| {
                self.state.with(|desk| match desk.transfers.poll_work() {
                    Some(work) => Poll::Ready(work),
                    None => {
                        desk.task.register(cx.waker());
                        Poll::Pending
                    }
                })
            })
            .await;
            self.work(job, work, sink, source).await;
            self.shared.with(|_, core| core.notify_runner());
        }
    }

    async fn work(&self, job: u32, work: Work, sink: &mut impl BlobSink, source: &mut impl BlobSource) {
        match work {
            Work::Begin(blob) => {
                let begun = self.begin(&blob, sink).await;
                self.state.with(|desk| desk.transfers.handle_begun(job, begun));
            }
            Work::Write { offset, len } => {
                let buffer = self.state.buffer.lock().await;
                let written = match buffer.get(..len) {
                    Some(bytes) => sink.write(offset, bytes).await,
                    None => Err(StorageError),
                };
                drop(buffer);
                self.state.with(|desk| desk.transfers.handle_written(job, len, written.map_err(storage)));
            }
            Work::Verify(blob) => {
                let finished = finish(&blob, sink, &mut *self.state.buffer.lock().await).await;
                self.state.with(|desk| desk.transfers.handle_finished(job, finished));
            }
            Work::Find(blob) => {
                let found = found(&blob.name, source, &mut *self.state.buffer.lock().await).await;
                self.state.with(|desk| desk.transfers.handle_found(job, found));
            }
            Work::Read { offset, len } => {
                let mut buffer = self.state.buffer.lock().await;
                let read = match buffer.get_mut(..len) {
                    Some(bytes) => source.read(offset, bytes).await,
                    None => Err(StorageError),
                };
                drop(buffer);
                self.state.with(|desk| desk.transfers.handle_read(job, offset, len, read.map_err(storage)));
            }
        }
    }

    async fn begin(&self, blob: &Blob, sink: &mut impl BlobSink) -> Result<u32, (Outcome, u32)> {
        Checks { keys: self.keys }.check(blob)?;
        sink.begin(blob).await.map_err(|refusal| match refusal {
            super::Refusal::Unsupported => (Outcome::Unsupported, 0),
            super::Refusal::TooLarge { max } => (Outcome::TooLarge, max),
            super::Refusal::Storage => (Outcome::Storage, 0),
        })
    }
}

pub(super) fn storage(_: StorageError) -> (Outcome, u32) {
    (Outcome::Storage, 0)
}

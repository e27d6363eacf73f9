//! Blobs: passed on between a device and the route that asked, below everything else.
//!
//! ```text
//! route ──Open, Chunk, Done──▶ waiting ──one chunk when the socket took all else──▶ device
//!       ◀─Open, Chunk, Ack, Done───────────────────────────────────────────────────
//! ```
//!
//! Nothing is kept here but chunks that the device has room for: at most a window for each device, and one transfer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::blob::{BlobFrame, CHUNK_OVERHEAD, Chunk, Done, Outcome, Relay};
use imlink_protocol::link::node::{Blob, ToRoute};
use imlink_protocol::message::{GoAwayReason, ToDevice};
use imlink_protocol::serving::{Transmit, Violation};

use crate::conn::{ConnId, Device, Phase};
use crate::inbox::LinkId;
use crate::out::Out;
use crate::reactor::{End, Reactor};

/// So long after `Welcome` a device may not have said yet that it takes part: until then it counts as busy.
const ANNOUNCE_MAX: Duration = Duration::from_secs(10);

/// The transfers of a device that takes part in them.
#[derive(Default)]
pub(crate) struct Transfers {
    relay: Relay,
    /// Who asked for the transfer that is open.
    asker: Option<Asker>,
    /// Chunks for the device, in order: where each begins, and its bytes.
    waiting: VecDeque<(u32, Bytes)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Asker {
    link: LinkId,
    request: u64,
}

impl Transfers {
    /// Whether a transfer is open.
    pub(crate) fn is_open(&self) -> bool {
        self.relay.is_open()
    }

    /// The transfer is over: who is to be told.
    fn end(&mut self) -> Option<Asker> {
        self.waiting.clear();
        self.asker.take()
    }

    /// Puts the next chunk into `out`, as large as a device takes that takes frames of `receive_limit` bytes.
    fn put_chunk(&mut self, receive_limit: u32, out: &mut Out) -> bool {
        let len_max = (receive_limit as usize).saturating_sub(CHUNK_OVERHEAD);
        let Some((offset, bytes)) = self.waiting.front_mut() else { return false };
        let part = bytes.split_to(bytes.len().min(len_max));
        out.transmit(&ToDevice::BlobChunk(Chunk { transfer: self.relay.number(), offset: *offset, bytes: &part }));
        *offset = offset.saturating_add(u32::try_from(part.len()).unwrap_or(u32::MAX));
        if bytes.is_empty() {
            self.waiting.pop_front();
        }
        true
    }
}

impl Reactor {
    /// A route opens a transfer, or goes on with it.
    pub(crate) fn handle_blob(&mut self, link: LinkId, blob: &Blob<'_>) {
        let asker = Asker { link, request: blob.request };
        let found = self.find(blob.device);
        let Some(index) = found.filter(|index| self.is_session(*index, blob.epoch)) else {
            return self.tell_done(asker, Outcome::Disconnected);
        };
        self.lend_buffer(index);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let Phase::Attached(device) = &mut conn.phase else { return };
        let is_new = self.now.since(device.session.opened()) < ANNOUNCE_MAX;
        let unsupported = if is_new { Outcome::Busy } else { Outcome::Unsupported };
        let refused = match (&mut device.blob, blob.frame) {
            (None, BlobFrame::Open(_)) => Some(unsupported),
            (Some(transfers), BlobFrame::Open(open)) => match transfers.relay.handle_open(&open) {
                Ok(open) => {
                    transfers.asker = Some(asker);
                    conn.out.transmit(&ToDevice::BlobOpen(open));
                    None
                }
                Err(Outcome::Unsupported) => Some(unsupported),
                Err(outcome) => Some(outcome),
            },
            (Some(transfers), frame) if transfers.asker == Some(asker) => {
                match transfers.relay.handle_route(frame) {
                    Ok(BlobFrame::Chunk(Chunk { offset, bytes, .. })) => {
                        // Not to hold on to all that came with it.
                        transfers.waiting.push_back((offset, Bytes::copy_from_slice(bytes)));
                        None
                    }
                    Ok(frame) => {
                        if let BlobFrame::Done(_) = frame {
                            transfers.end();
                        }
                        conn.out.transmit(&frame.into());
                        None
                    }
                    Err(fault) => {
                        tracing::warn!(device = ?device.about.name, %fault, "a route broke the rules of a transfer");
                        if let Some(done) = transfers.relay.cancel(Outcome::Cancelled) {
                            conn.out.transmit(&ToDevice::BlobDone(done));
                        }
                        transfers.end();
                        Some(Outcome::Order)
                    }
                }
            }
            // It ended before that frame came.
            (_, _) => None,
        };
        if let Some(outcome) = refused {
            self.tell_done(asker, outcome);
        }
        self.mark(index);
    }

    /// A frame of a device about a transfer.
    pub(crate) fn handle_device_blob(&mut self, id: ConnId, frame: BlobFrame<'_>) {
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        let transfers = device.blob.get_or_insert_default();
        match transfers.relay.handle_device(frame) {
            Ok(None) => {}
            Ok(Some(frame)) => {
                let asker = match frame {
                    BlobFrame::Done(_) => transfers.end(),
                    _ => transfers.asker,
                };
                if let Some(Asker { link, request }) = asker {
                    self.tell(link, &ToRoute::Blob { request, frame });
                }
            }
            Err(fault) => {
                let violation = Violation::Blob(fault);
                tracing::info!(device = ?device.about.name, %violation, "connection closed");
                self.shared.metrics.count_closed(violation.name());
                self.close(id.index, End::GoAway(GoAwayReason::Order, 0));
            }
        }
    }

    /// Everything else is sent: the next chunk may go.
    pub(crate) fn put_chunk(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let Phase::Attached(device) = &mut conn.phase else { return };
        let receive_limit = device.about.receive_limit;
        if device.blob.as_mut().is_some_and(|transfers| transfers.put_chunk(receive_limit, &mut conn.out)) {
            self.mark(index);
        }
    }

    /// The session of `device` is over, and its transfer with it.
    pub(crate) fn fail_blob(&mut self, device: &mut Device) {
        if let Some(asker) = device.blob.take().and_then(|mut transfers| transfers.end()) {
            self.tell_done(asker, Outcome::Disconnected);
        }
    }

    /// A route is gone, and nobody waits for its transfers.
    pub(crate) fn cancel_blobs(&mut self, link: LinkId) {
        let mut cancelled = Vec::new();
        for (index, conn) in &mut self.conns {
            let Phase::Attached(device) = &mut conn.phase else { continue };
            let Some(transfers) = &mut device.blob else { continue };
            if transfers.asker.is_some_and(|asker| asker.link == link) {
                transfers.end();
                if let Some(done) = transfers.relay.cancel(Outcome::Cancelled) {
                    conn.out.transmit(&ToDevice::BlobDone(done));
                    cancelled.push(index as u32);
                }
            }
        }
        cancelled.into_iter().for_each(|index| self.mark(index));
    }

    fn is_session(&self, index: u32, epoch: u64) -> bool {
        let phase = self.conns.get(index as usize).map(|conn| &conn.phase);
        matches!(phase, Some(Phase::Attached(device)) if device.session.epoch() >= epoch)
    }

    fn tell_done(&mut self, asker: Asker, outcome: Outcome) {
        let frame = BlobFrame::Done(Done { transfer: 0, outcome, detail: 0 });
        self.tell(asker.link, &ToRoute::Blob { request: asker.request, frame });
    }
}

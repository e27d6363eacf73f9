//! One transfer, between a request and the link of the device's IM-server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use imlink_link::Batch;
use imlink_protocol::blob::{Ack, BlobFrame, Done, Kind, Open, Outcome};
use imlink_protocol::link::backend::Failure;
use imlink_protocol::link::node::{Blob, ToServer};
use imlink_store::DeviceKey;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::BlobError;
use crate::core::{Core, revoked};
use crate::devices::Seat;
use crate::node::ServerLink;
use crate::request::Failed;

/// What a device said of a transfer.
pub(super) enum Said {
    /// It has what is wanted.
    Open {
        kind: Kind,
        size: u32,
        sha256: [u8; 32],
    },
    Ack(Ack),
    Chunk(u32, Bytes),
    Done(Done),
}

/// The transfers of a route, by their number.
#[derive(Default)]
pub(crate) struct Blobs {
    open: Mutex<HashMap<u64, Entry>>,
}

struct Entry {
    incarnation: u64,
    said: mpsc::Sender<Said>,
}

/// One transfer; dropping it ends it.
pub(super) struct Transfer {
    core: Arc<Core>,
    number: u64,
    device: DeviceKey,
    seat: Seat,
    link: Arc<ServerLink>,
    said: mpsc::Receiver<Said>,
    is_over: bool,
}

impl Transfer {
    /// Opens it with the session that the store names.
    pub(super) async fn open(core: &Arc<Core>, device: DeviceKey, open: &Open<'_>) -> Result<Self, BlobError> {
        let (seat, link) = seat(core, &device).await?;
        let number = core.next_number();
        let said = core.blobs.enter(core, number, seat.incarnation)?;
        let transfer = Self { core: core.clone(), number, device, seat, link, said, is_over: false };
        transfer.say(BlobFrame::Open(*open))?;
        Ok(transfer)
    }

    /// Says something to the device.
    pub(super) fn say(&self, frame: BlobFrame<'_>) -> Result<(), BlobError> {
        let (device, epoch) = (self.device.as_str(), self.seat.epoch);
        let blob = ToServer::Blob(Blob { request: self.number, device, epoch, frame });
        self.link.sender.send(&blob).map_err(|_| disconnected(&self.device))
    }

    /// What the device says next, within `blob_idle_s`. An end that is no success is an error.
    pub(super) async fn hear(&mut self) -> Result<Said, BlobError> {
        self.hear_within(Duration::from_secs(self.core.config.limits.blob_idle_s.into())).await
    }

    pub(super) async fn hear_within(&mut self, idle: Duration) -> Result<Said, BlobError> {
        let said = tokio::select! {
            said = tokio::time::timeout(idle, self.said.recv()) => said,
            () = self.core.stopped.cancelled() => {
                let why = "the route leaves; what came is kept by the device: go on at another one";
                return Err(Failed::later(Failure::Draining, Duration::from_secs(1), why).into());
            }
        };
        match said {
            Ok(Some(Said::Done(done))) => {
                self.is_over = true;
                match done.outcome {
                    outcome if outcome.is_success() => Ok(Said::Done(done)),
                    Outcome::Disconnected => {
                        self.core.devices.forget(self.device.as_str());
                        Err(disconnected(&self.device))
                    }
                    outcome => Err(BlobError::Device { outcome, detail: done.detail }),
                }
            }
            Ok(Some(said)) => Ok(said),
            Ok(None) => {
                self.is_over = true;
                Err(disconnected(&self.device))
            }
            Err(_) => {
                let device = self.device.device();
                let why = format!("device {device} said nothing of the transfer for {} s", idle.as_secs());
                Err(Failed::new(Failure::Deadline, why).into())
            }
        }
    }

    /// The device broke a rule of the transfer.
    pub(super) fn broken(&self) -> BlobError {
        BlobError::Device { outcome: Outcome::Order, detail: 0 }
    }

    /// The blob arrived here.
    pub(super) fn finish(&mut self) -> Result<(), BlobError> {
        self.is_over = true;
        self.say(BlobFrame::Done(Done { transfer: 0, outcome: Outcome::Stored, detail: 0 }))
    }

    pub(super) fn count(&self, bytes: usize) {
        self.core.metrics.blob_bytes.inc_by(bytes as u64);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.core.blobs.leave(&self.core, self.number);
        if !self.is_over {
            // A link that takes nothing ends, and the server tells the device then.
            let _ = self.say(BlobFrame::Done(Done { transfer: 0, outcome: Outcome::Cancelled, detail: 0 }));
        }
    }
}

impl Blobs {
    fn enter(&self, core: &Core, number: u64, incarnation: u64) -> Result<mpsc::Receiver<Said>, Failed> {
        let max = core.config.limits.blobs_max;
        let mut open = self.open.lock();
        if open.len() >= max {
            let why = format!("{max} transfers are open, the most this route takes; come back later");
            return Err(Failed::later(Failure::Overloaded, Duration::from_secs(1), why));
        }
        let (said, heard) = mpsc::channel(SAID_MAX);
        open.insert(number, Entry { incarnation, said });
        core.metrics.blobs.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
        Ok(heard)
    }

    fn leave(&self, core: &Core, number: u64) {
        let mut open = self.open.lock();
        open.remove(&number);
        core.metrics.blobs.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
    }
}

/// The server at the other end of `link` passes on what a device said.
pub(crate) fn said(core: &Core, link: &ServerLink, number: u64, frame: &BlobFrame<'_>, batch: &Batch) {
    let mut open = core.blobs.open.lock();
    let Some(entry) = open.get(&number).filter(|entry| entry.incarnation == link.incarnation) else { return };
    let said = match *frame {
        BlobFrame::Open(Open { kind, size, sha256, .. }) => Said::Open { kind, size, sha256 },
        BlobFrame::Ack(ack) => Said::Ack(ack),
        BlobFrame::Chunk(chunk) => Said::Chunk(chunk.offset, batch.share(chunk.bytes)),
        BlobFrame::Done(done) => Said::Done(done),
    };
    // More than the window can hold: a device that acknowledges without end.
    if let Err(TrySendError::Full(_)) = entry.said.try_send(said) {
        open.remove(&number);
    }
}

/// The link to `incarnation` ended, and its transfers with it.
pub(crate) fn link_lost(core: &Core, incarnation: u64) {
    core.blobs.open.lock().retain(|_, entry| entry.incarnation != incarnation);
}

/// Where the device is attached.
async fn seat(core: &Core, device: &DeviceKey) -> Result<(Seat, Arc<ServerLink>), Failed> {
    let give_up = Instant::now() + LINK_WAIT;
    loop {
        let identity = core.identity(device).await?;
        if identity.revoked {
            return Err(revoked(device));
        }
        let Some(session) = &identity.session else { return Err(offline(device, "it has no session")) };
        let seat = core.seat(session);
        if let Some(link) = core.servers.seated(seat) {
            return Ok((seat, link));
        }
        if core.servers.is_gone(seat.incarnation) {
            return Err(offline(device, "its IM-server is gone"));
        }
        if Instant::now() >= give_up {
            return Err(offline(device, "its IM-server has no link to this route at the moment"));
        }
        tokio::time::sleep(LINK_POLL).await;
    }
}

fn offline(device: &DeviceKey, why: &str) -> Failed {
    let device = device.device();
    let why = format!("device {device} is not attached: {why}; try again when it is, what it has of the blob is kept");
    Failed::new(Failure::Offline, why)
}

fn disconnected(device: &DeviceKey) -> BlobError {
    let device = device.device();
    let why = format!("the session of device {device} ended; what it has of the blob is kept: go on when it is back");
    Failed::later(Failure::Disconnected, Duration::from_secs(1), why).into()
}

/// Frames of one transfer that wait to be worked on: a window of chunks of at least 64 bytes.
const SAID_MAX: usize = 1024;
/// Longest wait for a link to the server that holds the device.
const LINK_WAIT: Duration = Duration::from_secs(2);
const LINK_POLL: Duration = Duration::from_millis(100);

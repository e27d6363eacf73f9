//! A blob for a device.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream::{Stream, StreamExt};
use imlink_protocol::blob::{Action, BlobFrame, Chunk, Kind, Open, Outcome, Sender};
use imlink_protocol::link::backend::Failure;
use imlink_store::DeviceKey;

use super::BlobError;
use super::transfer::{Said, Transfer};
use crate::core::Core;
use crate::request::Failed;

/// A blob to be written by a device.
#[derive(Clone, Debug)]
pub struct Give {
    /// Tenant, `-` when there is only one.
    pub tenant: String,
    /// Device id.
    pub device: String,
    /// Name of the blob, of the form of a device id.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Its length in bytes, at most [`Limits::blob_len_max`](crate::Limits::blob_len_max).
    pub size: u32,
    /// Its hash.
    pub sha256: [u8; 32],
    /// Ed25519 signature over [`signed`](imlink_protocol::blob::signed), 64 bytes, or nothing.
    pub signature: Vec<u8>,
    /// Where the bytes that are given begin.
    pub offset: u32,
}

/// How far a blob came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Bytes that the device has.
    pub offset: u32,
    /// [`Outcome::Stored`] or [`Outcome::Marked`] once it has all of them and checked them.
    pub outcome: Option<Outcome>,
}

/// Gives `body`, the bytes from `give.offset` on. Those that the device has are passed over; when they end before
/// the blob does, so does the transfer, to be gone on with.
pub(crate) async fn give<E: std::fmt::Display>(
    core: &Arc<Core>,
    give: Give,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<Given, BlobError> {
    let device = crate::handle::key(&give.tenant, &give.device)?;
    check_size(core, &device, give.size)?;
    let open = Open {
        transfer: 0,
        action: Action::Give,
        kind: give.kind,
        name: &give.name,
        size: give.size,
        sha256: give.sha256,
        signature: &give.signature,
    };
    let mut body = pin!(body);
    let mut part = Part { at: give.offset, bytes: Bytes::new(), is_last: false };
    let mut sender = Sender::new(give.size);
    let mut transfer = Transfer::open(core, device, &open).await?;
    loop {
        if let Some(next) = sender.next() {
            part.pass(next)?;
        }
        while let Some((offset, most)) = sender.sendable() {
            let bytes = part.take(most.min(CHUNK_LEN));
            if bytes.is_empty() {
                break;
            }
            transfer.say(BlobFrame::Chunk(Chunk { transfer: 0, offset, bytes: &bytes }))?;
            transfer.count(bytes.len());
            sender.handle_sent(bytes.len());
        }
        let is_given = sender.next() == Some(give.size);
        if let (Some(next), true, true) = (sender.next(), part.is_last && part.bytes.is_empty(), !is_given) {
            // What the device has now; the rest of what was sent may be on its way.
            return Ok(Given { offset: sender.acked().min(next), outcome: None });
        }
        let is_hungry = sender.next().is_some() && part.bytes.is_empty() && !part.is_last && !is_given;
        let said = if is_hungry {
            tokio::select! {
                bytes = tokio::time::timeout(BODY_IDLE, body.next()) => {
                    part.put(bytes, give.size)?;
                    continue;
                }
                // The device has nothing to say while it waits for the body.
                said = transfer.hear_within(2 * BODY_IDLE) => said?,
            }
        } else {
            transfer.hear().await?
        };
        match said {
            Said::Ack(ack) => sender.handle_ack(ack.offset, ack.limit).map_err(|_| transfer.broken())?,
            Said::Done(done) => return Ok(Given { offset: give.size, outcome: Some(done.outcome) }),
            Said::Open { .. } | Said::Chunk(..) => return Err(transfer.broken()),
        }
    }
}

/// Refuses a blob that this route passes on for nobody.
pub(super) fn check_size(core: &Core, device: &DeviceKey, size: u32) -> Result<(), Failed> {
    let max = core.config.limits.blob_len_max;
    if size <= max {
        return Ok(());
    }
    let device = device.device();
    let why = format!("the blob for or of device {device} has {size} bytes, this route passes on at most {max}");
    Err(Failed::new(Failure::TooLarge, why))
}

/// What came of the body and was not sent.
struct Part {
    /// Where in the blob it begins.
    at: u32,
    bytes: Bytes,
    /// Nothing comes behind it.
    is_last: bool,
}

impl Part {
    /// Drops what lies before `next`.
    fn pass(&mut self, next: u32) -> Result<(), BlobError> {
        if self.at > next {
            return Err(BlobError::Offset { have: next });
        }
        let len = self.bytes.len().min((next - self.at) as usize);
        self.take(len);
        Ok(())
    }

    fn take(&mut self, most: usize) -> Bytes {
        let bytes = self.bytes.split_to(self.bytes.len().min(most));
        self.at = self.at.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        bytes
    }

    fn put<E: std::fmt::Display, T>(
        &mut self,
        came: Result<Option<Result<Bytes, E>>, T>,
        size: u32,
    ) -> Result<(), Failed> {
        match came {
            Ok(None) => self.is_last = true,
            Ok(Some(Ok(bytes))) if bytes.remaining() > size.saturating_sub(self.at) as usize => {
                let why = format!("the body goes on behind the {size} bytes that the blob has");
                return Err(Failed::new(Failure::BadRequest, why));
            }
            Ok(Some(Ok(bytes))) => self.bytes = bytes,
            Ok(Some(Err(error))) => {
                return Err(Failed::new(Failure::BadRequest, format!("the body broke off: {error}")));
            }
            Err(_) => {
                let why =
                    format!("nothing of the body came for {} s; go on from where the device is", BODY_IDLE.as_secs());
                return Err(Failed::new(Failure::Deadline, why));
            }
        }
        Ok(())
    }
}

/// Most bytes in one frame to an IM-server, which makes chunks for the device of them.
const CHUNK_LEN: usize = 16 * 1024;
/// Longest wait for bytes of the body.
const BODY_IDLE: Duration = Duration::from_secs(30);

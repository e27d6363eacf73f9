//! A blob of a device.

use std::sync::Arc;

use bytes::Bytes;
use imlink_protocol::blob::{Ack, Action, BlobFrame, Kind, Open, Receiver};

use super::BlobError;
use super::give::check_size;
use super::transfer::{Said, Transfer};
use crate::core::Core;

/// A blob that a device has.
#[derive(Clone, Debug)]
pub struct Take {
    /// Tenant, `-` when there is only one.
    pub tenant: String,
    /// Device id.
    pub device: String,
    /// Name of the blob, of the form of a device id.
    pub name: String,
    /// Hash of the version to go on with; `None` for whatever is there.
    pub sha256: Option<[u8; 32]>,
    /// First byte that is wanted.
    pub offset: u32,
}

/// A blob on its way from a device; dropping it ends the transfer.
pub struct Taken {
    kind: Kind,
    size: u32,
    sha256: [u8; 32],
    offset: u32,
    receiver: Receiver,
    /// Bytes handed out last.
    handed: usize,
    transfer: Transfer,
}

/// Asks for it.
pub(crate) async fn take(core: &Arc<Core>, take: &Take) -> Result<Taken, BlobError> {
    let device = crate::handle::key(&take.tenant, &take.device)?;
    let open = Open {
        transfer: 0,
        action: Action::Want,
        kind: Kind::File,
        name: &take.name,
        size: 0,
        sha256: take.sha256.unwrap_or_default(),
        signature: &[],
    };
    let mut transfer = Transfer::open(core, device.clone(), &open).await?;
    let Said::Open { kind, size, sha256 } = transfer.hear().await? else { return Err(transfer.broken()) };
    check_size(core, &device, size)?;
    if take.offset > size {
        return Err(BlobError::Offset { have: size });
    }
    let mut taken = Taken {
        kind,
        size,
        sha256,
        offset: take.offset,
        receiver: Receiver::new(size, take.offset, WINDOW),
        handed: 0,
        transfer,
    };
    taken.acknowledge()?;
    Ok(taken)
}

impl Taken {
    /// The next bytes, in order; `None` when all were given.
    pub async fn next(&mut self) -> Option<Result<Bytes, BlobError>> {
        self.receiver.handle_written(std::mem::take(&mut self.handed));
        if self.receiver.is_whole() {
            return self.transfer.finish().err().map(Err);
        }
        Some(self.chunk().await)
    }

    async fn chunk(&mut self) -> Result<Bytes, BlobError> {
        self.acknowledge()?;
        let Said::Chunk(offset, bytes) = self.transfer.hear().await? else { return Err(self.transfer.broken()) };
        self.receiver.handle_chunk(offset, bytes.len()).map_err(|_| self.transfer.broken())?;
        self.transfer.count(bytes.len());
        self.handed = bytes.len();
        Ok(bytes)
    }

    fn acknowledge(&mut self) -> Result<(), BlobError> {
        match self.receiver.poll_ack() {
            Some((offset, limit)) => self.transfer.say(BlobFrame::Ack(Ack { transfer: 0, offset, limit })),
            None => Ok(()),
        }
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its length in bytes.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Hash of all of it, as the device says.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// First byte that comes.
    pub fn offset(&self) -> u32 {
        self.offset
    }
}

/// Bytes of one transfer on their way, in bytes.
const WINDOW: u32 = 32 * 1024;

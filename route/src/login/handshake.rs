//! The handshake of a login, see the crate `imlink-seal`.

use std::time::Instant;

use imlink_protocol::Epoch;
use imlink_protocol::message::RejectCode;
use imlink_protocol::seal::{FromStranger, SealError};
use imlink_seal::{Answered, LoginBegun, Refused};
use imlink_store::DeviceKey;
use tokio::sync::oneshot;

use super::admission::Open;
use super::link::Link;
use super::{End, Logins};

/// A device that proved its key.
pub(super) struct Proved {
    pub(super) device: DeviceKey,
    pub(super) public_key: [u8; 32],
    /// Highest epoch ever given.
    pub(super) epoch: Epoch,
}

impl Logins {
    /// Shakes hands until the device has proved its key by its first record. Nothing is changed for it before.
    pub(super) async fn shake(&self, link: &mut Link) -> Result<Proved, End> {
        let begun = self.begin(link).await?;
        // Boxed: who waits before or behind it has no room for it.
        let (proved, answered, _open) = Box::pin(self.identify(begun)).await?;
        link.seal(*answered).await?;
        link.hear().await?;
        Ok(proved)
    }

    /// Finds out who comes, and answers. That proves nothing yet.
    async fn identify(&self, begun: Box<LoginBegun>) -> Result<(Proved, Box<Answered>, Open<'_>), End> {
        let read = self.compute(move || begun.read().map(Box::new)).await?.map_err(|refused| self.count(refused))?;
        let device = DeviceKey::new(&read.tenant, &read.device).map_err(|_| RejectCode::UnknownDevice)?;
        let Some(open) = self.admission.open(&device, read.claim) else {
            self.core.metrics.rejected("attempt-open");
            return Err(RejectCode::Overloaded.into());
        };
        // An unknown device and a known one with another key are told the same.
        let identity = self.identity(&device).await?.ok_or(RejectCode::UnknownDevice)?;
        if !self.believe(&device, identity.proof)?.fits(&read.public_key) {
            return Err(RejectCode::UnknownDevice.into());
        }
        if identity.revoked {
            return Err(RejectCode::Revoked.into());
        }
        let public_key = read.public_key;
        let answered = self.compute(move || read.answer().map(Box::new)).await?;
        let answered = answered.map_err(|refused| self.count(refused))?;
        Ok((Proved { device, public_key, epoch: identity.epoch }, answered, open))
    }

    /// Takes the first message as far as it costs no Diffie–Hellman.
    async fn begin(&self, link: &mut Link) -> Result<Box<LoginBegun>, End> {
        let body = link.greeting().await?;
        let greeting = match FromStranger::decode(&body) {
            Ok(FromStranger::Login(greeting)) => greeting,
            // A ticket is for an IM-server.
            Ok(FromStranger::Attach { .. }) => return Err(RejectCode::Ticket.into()),
            Err(error) => return Err(self.refuse(link, error)),
        };
        let keys = self.keys.as_ref().ok_or(End::Untold)?;
        let begun = keys.begin(&greeting).map_err(|refused| self.count(refused))?;
        if !self.admission.take(Instant::now()) {
            return Err(RejectCode::Overloaded.into());
        }
        Ok(Box::new(begun))
    }

    fn refuse(&self, link: &mut Link, error: SealError) -> End {
        self.core.metrics.rejected(error.name());
        match error {
            SealError::Plain => {
                link.speak_plain();
                RejectCode::Unsealed.into()
            }
            SealError::Version { .. } => RejectCode::Version.into(),
            _ => RejectCode::Malformed.into(),
        }
    }

    /// Whoever cannot write a handshake learns nothing.
    fn count(&self, refused: Refused) -> End {
        self.core.metrics.rejected(refused.name());
        End::Untold
    }

    /// Has a thread of the pool do what costs a Diffie–Hellman.
    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, End> {
        let (done, result) = oneshot::channel();
        let is_taken = self.pool.submit(move || {
            // Whether the connection is still there does not matter.
            let _ = done.send(work());
        });
        if !is_taken {
            return Err(RejectCode::Overloaded.into());
        }
        result.await.map_err(|_| End::Untold)
    }
}

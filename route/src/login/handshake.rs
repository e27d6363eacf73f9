//! The handshake of a login, see the crate `imlink-seal`.

use imlink_protocol::message::RejectCode;
use imlink_protocol::seal::{FromStranger, SealError};
use imlink_protocol::{Epoch, KeyMark};
use imlink_seal::Refused;
use imlink_store::DeviceKey;
use tokio::sync::oneshot;

use super::link::Link;
use super::{End, Logins};

/// Who logs in.
pub(super) struct Comes {
    pub(super) device: DeviceKey,
    /// Highest epoch ever given.
    pub(super) epoch: Epoch,
    /// The key that it proved; none on a plain link.
    pub(super) key: KeyMark,
}

impl Logins {
    /// Shakes hands until the device has proved its key by its first record.
    pub(super) async fn shake(&self, link: &mut Link) -> Result<Comes, End> {
        let body = link.greeting().await?;
        let greeting = match FromStranger::decode(&body) {
            Ok(FromStranger::Login(greeting)) => greeting,
            // A ticket is for an IM-server.
            Ok(FromStranger::Attach { .. }) => return Err(RejectCode::Ticket.into()),
            Err(error) => return Err(self.refuse(link, error)),
        };
        let keys = self.keys.as_ref().ok_or(End::Untold)?;
        let begun = keys.begin(&greeting).map_err(|refused| self.count(refused))?;
        let read = self.compute(move || begun.read()).await?.map_err(|refused| self.count(refused))?;
        let device = DeviceKey::new(&read.tenant, &read.device).map_err(|_| RejectCode::UnknownDevice)?;
        // An unknown device and a known one with another key are told the same.
        let identity = self.identity(&device).await?.ok_or(RejectCode::UnknownDevice)?;
        if !self.believe(&device, identity.proof)?.fits(&read.public_key) {
            return Err(RejectCode::UnknownDevice.into());
        }
        if identity.revoked {
            return Err(RejectCode::Revoked.into());
        }
        let public_key = read.public_key;
        let answered = self.compute(move || read.answer()).await?.map_err(|refused| self.count(refused))?;
        link.seal(answered).await?;
        link.hear().await?;
        self.promote(&device, &public_key).await?;
        Ok(Comes { device, epoch: identity.epoch, key: KeyMark::of(&public_key) })
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

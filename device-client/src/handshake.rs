//! The handshake in front of a sealed link.

use embassy_futures::select::{Either3, select3};
use embedded_io_async::{Error as _, Read, Write};
use imlink_protocol::Instant;
use imlink_protocol::device::Profile;
use imlink_protocol::limits::{GRANT_LEN_MAX, HELLO_FRAME_LEN_MAX};
use imlink_protocol::seal::{self, Attach, Claim, Finished, Initiator, KEY_LEN, Login};

use crate::config::Keys;
use crate::connection::write;
use crate::error::Error;
use crate::platform::Clock;
use crate::runner::changed;
use crate::state::Storage;
use crate::wire::Wire;

/// What the handshake needs beside the connection.
pub(crate) struct Handshake<'a> {
    pub(crate) keys: &'a Keys<'a>,
    pub(crate) profile: &'a Profile<'a>,
    /// Which of the pinned route keys a login is for; counts up with each login that is not answered.
    pub(crate) turn: &'a mut usize,
    /// Drawn at random for this connection alone.
    pub(crate) ephemeral: [u8; KEY_LEN],
}

/// A ticket and its key, out of the session, so that nothing is computed under its lock.
struct Grant {
    bytes: [u8; GRANT_LEN_MAX],
    len: usize,
}

impl Handshake<'_> {
    /// Shakes hands over `stream`, by way of `buffer`; `None` when the server refused or the device was stopped.
    pub(crate) async fn shake<S: Storage, T: Read + Write>(
        mut self,
        shared: &S,
        stream: &mut T,
        buffer: &mut [u8],
    ) -> Result<Option<Wire>, Error> {
        let (claim, until, grant) = shared.with(|now, core| {
            let session = &core.session;
            (session.claim(), session.poll_timeout().unwrap_or(now), session.ticket().and_then(Grant::new))
        });
        let is_login = grant.is_none();
        let (initiator, len) = self.begin(claim, grant.as_ref(), buffer)?;
        let first = buffer.get(..len).unwrap_or_default();
        write(shared, stream, first, until).await?;
        let Some(filled) = read_answer(shared, stream, buffer, until).await? else { return Ok(None) };
        let came = buffer.get(..filled).unwrap_or_default();
        let Some((body, _)) = seal::take(came, HELLO_FRAME_LEN_MAX).map_err(Error::Frame)? else {
            return Err(Error::Closed);
        };
        let finished = initiator.finish(body).map_err(Error::Seal)?;
        if is_login {
            // It was the right key after all.
            *self.turn = self.turn.wrapping_sub(1);
        }
        match finished {
            Finished::Sealed(records) => Ok(Some(Wire::sealed(records))),
            Finished::Refused { code, retry_after_s } => {
                shared.with(|now, core| core.session.handle_refused(now, code, retry_after_s));
                Ok(None)
            }
        }
    }

    /// Writes the first frame: with the ticket where there is one, else a login.
    fn begin(&mut self, claim: Claim, grant: Option<&Grant>, out: &mut [u8]) -> Result<(Initiator, usize), Error> {
        let begun = match grant.and_then(Grant::parts) {
            Some((key, ticket)) => Initiator::attach(&Attach { ticket, key, claim }, &mut self.ephemeral, out),
            None => {
                let pinned = self.turn.checked_rem(self.keys.route_keys.len()).unwrap_or_default();
                *self.turn = self.turn.wrapping_add(1);
                let login = Login {
                    tenant: self.profile.tenant,
                    device: self.profile.device,
                    claim,
                    private_key: self.keys.private_key,
                    // The configuration was checked to have one.
                    route_key: self.keys.route_keys.get(pinned).unwrap_or(&[0; KEY_LEN]),
                    psk: self.keys.psk.unwrap_or(&[0; KEY_LEN]),
                };
                Initiator::login(&login, &mut self.ephemeral, out)
            }
        };
        begun.map_err(Error::Seal)
    }
}

/// Reads until the answer is whole; `None` when the device was stopped.
async fn read_answer<S: Storage, T: Read>(
    shared: &S,
    stream: &mut T,
    buffer: &mut [u8],
    until: Instant,
) -> Result<Option<usize>, Error> {
    let mut filled = 0;
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        match select3(stream.read(room), changed(shared), shared.clock().sleep_until(until)).await {
            Either3::First(Ok(0)) => return Err(Error::Closed),
            Either3::First(Ok(len)) => filled += len,
            Either3::First(Err(error)) => return Err(Error::Transport(error.kind())),
            Either3::Second(()) if shared.with(|_, core| core.session.is_ended()) => return Ok(None),
            Either3::Second(()) => {}
            Either3::Third(()) => shared.with(|now, core| core.session.handle_timeout(now)).map_err(Error::Session)?,
        }
        let came = buffer.get(..filled).unwrap_or_default();
        // Nothing follows the answer before the device's first record.
        match seal::take(came, HELLO_FRAME_LEN_MAX).map_err(Error::Frame)? {
            Some((_, len)) if len == filled => return Ok(Some(filled)),
            Some(_) => return Err(Error::Frame(imlink_protocol::FrameError::Body)),
            None => {}
        }
    }
}

impl Grant {
    fn new((key, ticket): (&[u8; KEY_LEN], &[u8])) -> Option<Self> {
        let mut bytes = [0; GRANT_LEN_MAX];
        let (area, rest) = bytes.split_first_chunk_mut()?;
        *area = *key;
        rest.get_mut(..ticket.len())?.iter_mut().zip(ticket).for_each(|(to, from)| *to = *from);
        Some(Self { bytes, len: KEY_LEN + ticket.len() })
    }

    fn parts(&self) -> Option<(&[u8; KEY_LEN], &[u8])> {
        self.bytes.get(..self.len)?.split_first_chunk()
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.bytes);
    }
}

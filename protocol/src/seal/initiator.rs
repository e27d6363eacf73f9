//! The device's end of the handshake.

use noise_protocol::{HandshakeState, patterns};
use zeroize::Zeroize;

use super::message::{Claim, FromStranger, Greeting, LoginClaim, ToStranger};
use super::primitives::{ChaCha, Portable, Secret, Sha, X25519, hmac, sha256};
use super::record::Records;
use super::{ATTACH_PROLOGUE, KEY_LEN, LOGIN_PROLOGUE, MAC_LABEL, MAC_LEN, SealError, TAG_LEN};
use crate::VERSION;
use crate::limits::{DEVICE_ID_LEN_MAX, TENANT_LEN_MAX, TICKET_LEN_MAX};
use crate::message::RejectCode;

/// Bytes of a claim at most: incarnation 10, attempt 5.
const CLAIM_LEN_MAX: usize = 15;
/// Noise of a login at most: ephemeral key, sealed static key, sealed claim with the device's id.
const LOGIN_NOISE_MAX: usize = KEY_LEN + KEY_LEN + TAG_LEN + 1 + DEVICE_ID_LEN_MAX + CLAIM_LEN_MAX + TAG_LEN;
/// Noise of an attach at most: ephemeral key, sealed claim.
const ATTACH_NOISE_MAX: usize = KEY_LEN + CLAIM_LEN_MAX + TAG_LEN;
/// Longest first frame of a handshake, its length included.
pub const MESSAGE_LEN_MAX: usize = if LOGIN_LEN_MAX > ATTACH_LEN_MAX { LOGIN_LEN_MAX } else { ATTACH_LEN_MAX };
const LOGIN_LEN_MAX: usize = 2 + 2 + MAC_LEN + 1 + TENANT_LEN_MAX + 2 + LOGIN_NOISE_MAX;
const ATTACH_LEN_MAX: usize = 2 + 2 + 2 + TICKET_LEN_MAX + 1 + ATTACH_NOISE_MAX;
const _: () = assert!(MESSAGE_LEN_MAX <= crate::limits::HELLO_FRAME_LEN_MAX);

type Noise = HandshakeState<X25519, ChaCha, Sha>;

/// What a login is made of.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// Tenant.
    pub tenant: &'a str,
    /// Device id.
    pub device: &'a str,
    /// Which connection.
    pub claim: Claim,
    /// The device's private key.
    pub private_key: &'a [u8; KEY_LEN],
    /// The route's public key, pinned.
    pub route_key: &'a [u8; KEY_LEN],
    /// The secret of the fleet, zeros without.
    pub psk: &'a [u8; KEY_LEN],
}

/// What an attach is made of.
#[derive(Clone, Copy)]
pub struct Attach<'a> {
    /// What a route or server gave.
    pub ticket: &'a [u8],
    /// The key that came with it.
    pub key: &'a [u8; KEY_LEN],
    /// Which connection.
    pub claim: Claim,
}

/// A handshake whose first message is on its way. Its keys are overwritten when it ends, but for the psk (a
/// ticket's key or the fleet's secret), of which the crate `noise-protocol` keeps a copy that it does not overwrite.
pub struct Initiator {
    noise: Noise,
}

/// What came of a handshake.
pub enum Finished {
    /// The link is sealed.
    Sealed(Records<Portable>),
    /// The server does not go on, or somebody on the path says so.
    Refused {
        /// Why.
        code: RejectCode,
        /// When to come back, in seconds.
        retry_after_s: u32,
    },
}

impl Initiator {
    /// Writes the first frame of a login into `out` and returns its length. `ephemeral` is drawn at random for
    /// this connection alone, and forgotten.
    pub fn login(login: &Login<'_>, ephemeral: &mut [u8; KEY_LEN], out: &mut [u8]) -> Result<(Self, usize), SealError> {
        let (prologue, len) = prologue::<{ TENANT_LEN_MAX }>(LOGIN_PROLOGUE, login.tenant.as_bytes());
        let mut noise = Noise::new(
            patterns::noise_ik_psk2(),
            true,
            prologue.get(..len).unwrap_or_default(),
            Some(Secret::new(login.private_key)),
            Some(Secret::new(ephemeral)),
            Some(*login.route_key),
            None,
        );
        ephemeral.zeroize();
        noise.push_psk(login.psk);
        let claim = LoginClaim { device: login.device, claim: login.claim };
        let mut area = [0; LOGIN_NOISE_MAX];
        let first = write(&mut noise, &claim, &mut area)?;
        let mac_key = sha256(&[MAC_LABEL, login.route_key]);
        let full = hmac(&mac_key, &[login.tenant.as_bytes(), first]);
        let mut mac = [0; MAC_LEN];
        mac.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        let frame = FromStranger::Login(Greeting { version: VERSION, mac, tenant: login.tenant, noise: first });
        let len = frame.encode(out).map_err(|_| SealError::Buffer { needed: MESSAGE_LEN_MAX })?;
        Ok((Self { noise }, len))
    }

    /// Writes the first frame of an attach into `out` and returns its length. `ephemeral` as in
    /// [`login`](Self::login).
    pub fn attach(
        attach: &Attach<'_>,
        ephemeral: &mut [u8; KEY_LEN],
        out: &mut [u8],
    ) -> Result<(Self, usize), SealError> {
        let (prologue, len) = prologue::<32>(ATTACH_PROLOGUE, &sha256(&[attach.ticket]));
        let prologue = prologue.get(..len).unwrap_or_default();
        let mut noise =
            Noise::new(patterns::noise_nn_psk0(), true, prologue, None, Some(Secret::new(ephemeral)), None, None);
        ephemeral.zeroize();
        noise.push_psk(attach.key);
        let mut area = [0; ATTACH_NOISE_MAX];
        let first = write(&mut noise, &attach.claim, &mut area)?;
        let frame = FromStranger::Attach { version: VERSION, ticket: attach.ticket, noise: first };
        let len = frame.encode(out).map_err(|_| SealError::Buffer { needed: MESSAGE_LEN_MAX })?;
        Ok((Self { noise }, len))
    }

    /// Takes the body of the server's answer.
    pub fn finish(mut self, body: &[u8]) -> Result<Finished, SealError> {
        let noise = match ToStranger::decode(body)? {
            ToStranger::Answer { noise } => noise,
            ToStranger::Refuse { code, retry_after_s } => return Ok(Finished::Refused { code, retry_after_s }),
        };
        // The message has no payload; another length would not be a message of this handshake.
        if noise.len() != self.noise.get_next_message_overhead() {
            return Err(SealError::Handshake);
        }
        self.noise.read_message(noise, &mut []).map_err(|_| SealError::Handshake)?;
        let (to_server, to_device) = self.noise.get_ciphers();
        Ok(Finished::Sealed(Records::new(*to_server.extract().0.bytes(), *to_device.extract().0.bytes())))
    }
}

/// Writes the next handshake message with `payload` into `area`.
fn write<'a, T: serde::Serialize>(noise: &mut Noise, payload: &T, area: &'a mut [u8]) -> Result<&'a [u8], SealError> {
    let mut claim = [0; 1 + DEVICE_ID_LEN_MAX + CLAIM_LEN_MAX];
    let claim = postcard::to_slice(payload, &mut claim).map_err(|_| SealError::Handshake)?;
    let len = claim.len() + noise.get_next_message_overhead();
    let out = area.get_mut(..len).ok_or(SealError::Buffer { needed: len })?;
    noise.write_message(claim, out).map_err(|_| SealError::Handshake)?;
    Ok(out)
}

/// Label, version and what the peer said in clear.
fn prologue<const MAX: usize>(label: &[u8], said: &[u8]) -> ([u8; 48], usize) {
    const { assert!(MAX + 14 <= 48) };
    let mut prologue = [0; 48];
    let bytes = label.iter().chain([&VERSION]).chain(said);
    let len = prologue.iter_mut().zip(bytes).map(|(to, from)| *to = *from).count();
    (prologue, len)
}

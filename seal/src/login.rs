//! Logins: a device that shows its key.

use std::collections::HashMap;

use imlink_protocol::VERSION;
use imlink_protocol::key_pair::{LoginKeys, Psk};
use imlink_protocol::seal::{Claim, Greeting, KEY_LEN, LOGIN_PATTERN, LOGIN_PROLOGUE, LoginClaim, MAC_LABEL};
use imlink_protocol::ticket::mac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::crypto::{Resolver, public_key};
use crate::{Answered, Refused};

/// Bytes of a login's claim at most.
const CLAIM_LEN_MAX: usize = 128;

/// A key under which a route or gateway is known to devices.
struct RouteKey {
    private: Zeroizing<[u8; KEY_LEN]>,
    mac_key: [u8; 32],
}

impl RouteKey {
    /// The key pair of an X25519 private key; `None` when it is none.
    fn new(private: [u8; KEY_LEN]) -> Option<Self> {
        let public = public_key(&private)?;
        let mac_key = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[MAC_LABEL, &public].concat());
        Some(Self { private: Zeroizing::new(private), mac_key: mac_key.as_ref().try_into().ok()? })
    }
}

/// The keys of a route: a device is let in that pins any of them.
pub struct RouteKeys {
    keys: Vec<RouteKey>,
    psks: HashMap<String, Psk>,
}

impl RouteKeys {
    /// The key pairs `keys`, and the secrets of fleets by tenant; a tenant without one uses zeros.
    pub fn new(keys: &LoginKeys, psks: HashMap<String, Psk>) -> Option<Self> {
        let keys = [&keys.current, &keys.next].into_iter().map(|key| RouteKey::new(*key.bytes()));
        Some(Self { keys: keys.collect::<Option<_>>()?, psks })
    }
}

impl std::fmt::Debug for RouteKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteKeys").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// A login whose mac fits.
pub struct LoginBegun {
    noise: snow::HandshakeState,
    message: Vec<u8>,
    tenant: String,
}

/// A login that was read: whoever sent it held the device's private key, now or once.
pub struct LoginRead {
    /// Tenant, as sent in clear and bound by the handshake.
    pub tenant: String,
    /// Device id, not checked for its form yet.
    pub device: String,
    /// Which connection it claims to be.
    pub claim: Claim,
    /// The key that it showed, to be compared with the device's.
    pub public_key: [u8; KEY_LEN],
    noise: snow::HandshakeState,
}

impl RouteKeys {
    /// Checks what is cheap to check: that the sender knows one of the keys.
    pub fn begin(&self, greeting: &Greeting<'_>) -> Result<LoginBegun, Refused> {
        let fits = |key: &&RouteKey| {
            let full = mac(&key.mac_key, &[greeting.tenant.as_bytes(), greeting.noise]);
            full.get(..greeting.mac.len()).is_some_and(|half| bool::from(half.ct_eq(&greeting.mac)))
        };
        let key = self.keys.iter().find(fits).ok_or(Refused::Mac)?;
        let prologue = [LOGIN_PROLOGUE, &[VERSION], greeting.tenant.as_bytes()].concat();
        let pattern = LOGIN_PATTERN.parse().map_err(|_| Refused::Handshake)?;
        let psk = self.psks.get(greeting.tenant).map_or(&[0; KEY_LEN], Psk::bytes);
        let builder = snow::Builder::with_resolver(pattern, Box::new(Resolver))
            .prologue(&prologue)
            .and_then(|builder| builder.local_private_key(key.private.as_slice()))
            .and_then(|builder| builder.psk(2, psk));
        let noise = builder.and_then(|builder| builder.build_responder()).map_err(|_| Refused::Handshake)?;
        Ok(LoginBegun { noise, message: greeting.noise.to_vec(), tenant: greeting.tenant.to_owned() })
    }
}

impl LoginBegun {
    /// Reads who comes; two Diffie–Hellman.
    pub fn read(mut self) -> Result<LoginRead, Refused> {
        let mut claim = [0; CLAIM_LEN_MAX];
        // A message with a longer claim does not fit.
        let len = self.noise.read_message(&self.message, &mut claim).map_err(|_| Refused::Handshake)?;
        let claim = claim.get(..len).unwrap_or_default();
        let (claim, rest) = postcard::take_from_bytes::<LoginClaim<'_>>(claim).map_err(|_| Refused::Handshake)?;
        let public_key = self.noise.get_remote_static().and_then(|key| key.try_into().ok());
        let public_key = public_key.filter(|_| rest.is_empty()).ok_or(Refused::Handshake)?;
        let device = claim.device.to_owned();
        Ok(LoginRead { tenant: self.tenant, device, claim: claim.claim, public_key, noise: self.noise })
    }
}

impl LoginRead {
    /// Answers it; three Diffie–Hellman. Nothing is proved before the first record opens.
    pub fn answer(self) -> Result<Answered, Refused> {
        crate::answer(self.noise)
    }
}

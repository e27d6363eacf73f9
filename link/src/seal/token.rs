//! Join tokens, as they are handed from a route to a newcomer.
//!
//! ```text
//! imj_ · id, 16 hexadecimal digits · _ · secret, 64 hexadecimal digits
//! secret = HMAC-SHA256 under the cluster secret over "imlink join" · 0 · id
//! ```
//!
//! Routes derive the secret from the id; it is kept nowhere.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use imlink_protocol::hex::{self, Hex};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A join token with its secret. Only [`JoinSecret::reveal`] shows it.
#[derive(Clone)]
pub struct JoinSecret {
    /// Names the token; public.
    pub id: [u8; 8],
    psk: Zeroizing<[u8; 32]>,
}

/// A text that is no join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a join token is imj_ID_SECRET, as `imlink node token` prints it")]
pub struct TokenError;

impl JoinSecret {
    /// The token `id` of the cluster that has `cluster_secret`.
    pub fn derive(cluster_secret: &[u8], id: [u8; 8]) -> Self {
        // HMAC takes keys of any length, so there always is one.
        let mac = Hmac::<Sha256>::new_from_slice(cluster_secret).ok();
        let psk = mac.map(|mut mac| {
            mac.update(b"imlink join\0");
            mac.update(&id);
            mac.finalize().into_bytes().into()
        });
        Self { id, psk: Zeroizing::new(psk.unwrap_or_default()) }
    }

    /// The token as a newcomer is given it.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("imj_{}_{}", Hex(&self.id), Hex(&*self.psk)))
    }

    pub(super) fn psk(&self) -> &[u8; 32] {
        &self.psk
    }
}

impl FromStr for JoinSecret {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (id, secret) = text.trim().strip_prefix("imj_").and_then(|rest| rest.split_once('_')).ok_or(TokenError)?;
        let (Ok(id), Ok(psk)) = (hex::read(id), hex::read(secret)) else { return Err(TokenError) };
        Ok(Self { id, psk: Zeroizing::new(psk) })
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSecret").field("id", &Hex(&self.id).to_string()).finish_non_exhaustive()
    }
}

//! The cryptography of hosts: AWS-LC. Measured against RustCrypto, dalek and ring (docs/decisions): the fastest
//! X25519, and as fast as ring in sealing small records.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::digest::{Context, SHA256};
use imlink_protocol::seal::{self, Aead, KEY_LEN, TAG_LEN};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroize;

/// ChaCha20-Poly1305 of AWS-LC.
pub struct Fast;

impl Aead for Fast {
    fn seal(key: &[u8; KEY_LEN], nonce: &[u8; 12], ad: &[u8], bytes: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = key_of(key).and_then(|key| key.seal_in_place_separate_tag(nonce, Aad::from(ad), bytes).ok());
        // Fails for more than 256 GiB only; zeros do not open.
        tag.and_then(|tag| tag.as_ref().try_into().ok()).unwrap_or_default()
    }

    fn open(key: &[u8; KEY_LEN], nonce: &[u8; 12], ad: &[u8], bytes: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let Some(key) = key_of(key) else { return false };
        // It opens from one slice into another; the sealed bytes are few.
        let mut sealed = [0; IN_PLACE_LEN];
        match sealed.get_mut(..bytes.len()) {
            Some(area) => {
                area.copy_from_slice(bytes);
                key.open_separate_gather(nonce, Aad::from(ad), area, tag, bytes).is_ok()
            }
            None => {
                let copy = bytes.to_vec();
                key.open_separate_gather(nonce, Aad::from(ad), &copy, tag, bytes).is_ok()
            }
        }
    }
}

/// Longest body that is opened without asking for memory.
const IN_PLACE_LEN: usize = 512;

fn key_of(key: &[u8; KEY_LEN]) -> Option<LessSafeKey> {
    // Fails for a key of another length only.
    UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(LessSafeKey::new)
}

/// What `snow` gets its primitives from, for the links of devices and of nodes: X25519, ChaCha20-Poly1305, SHA-256.
pub struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(System))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(Curve::default()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::SHA256).then(|| Box::new(Sha(Context::new(&SHA256))) as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly).then(|| Box::new(ChaChaPoly([0; KEY_LEN])) as Box<dyn Cipher>)
    }
}

struct System;

impl Random for System {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        #[cfg(test)]
        if let Some(fixed) = crate::golden::fixed() {
            dest.copy_from_slice(&fixed);
            return Ok(());
        }
        getrandom::fill(dest).map_err(|_| snow::Error::Rng)
    }
}

/// An X25519 key pair.
#[derive(Default)]
struct Curve {
    private: [u8; KEY_LEN],
    public: [u8; KEY_LEN],
    key: Option<PrivateKey>,
}

impl Drop for Curve {
    fn drop(&mut self) {
        self.private.zeroize();
    }
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, private: &[u8]) {
        let Ok(private) = private.try_into() else { return };
        self.private = private;
        self.key = PrivateKey::from_private_key(&X25519, private.as_slice()).ok();
        self.public = self.key.as_ref().and_then(public_of).unwrap_or_default();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut private = [0; KEY_LEN];
        rng.try_fill_bytes(&mut private)?;
        self.set(&private);
        private.zeroize();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.private
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let (Some(key), Some(public)) = (&self.key, public.get(..KEY_LEN)) else { return Err(snow::Error::Dh) };
        // A point that gives nothing but zeros is refused by the library.
        agreement::agree(key, UnparsedPublicKey::new(&X25519, public), snow::Error::Dh, |shared| {
            out.get_mut(..KEY_LEN)
                .filter(|out| out.len() == shared.len())
                .ok_or(snow::Error::Dh)?
                .copy_from_slice(shared);
            Ok(())
        })
    }
}

/// The public key of the X25519 private key `private`; `None` only if the library refuses it.
pub fn public_key(private: &[u8; KEY_LEN]) -> Option<[u8; KEY_LEN]> {
    public_of(&PrivateKey::from_private_key(&X25519, private.as_slice()).ok()?)
}

fn public_of(private: &PrivateKey) -> Option<[u8; KEY_LEN]> {
    private.compute_public_key().ok()?.as_ref().try_into().ok()
}

struct Sha(Context);

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Context::new(&SHA256);
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let digest = self.0.clone().finish();
        if let Some(out) = out.get_mut(..32) {
            out.copy_from_slice(digest.as_ref());
        }
    }
}

struct ChaChaPoly([u8; KEY_LEN]);

impl Drop for ChaChaPoly {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        self.0 = *key;
    }

    fn encrypt(&self, nonce: u64, ad: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        let Some((bytes, rest)) = out.split_at_mut_checked(plain.len()) else { return 0 };
        bytes.copy_from_slice(plain);
        let tag = Fast::seal(&self.0, &seal::nonce(nonce), ad, bytes);
        match rest.get_mut(..TAG_LEN) {
            Some(area) => area.copy_from_slice(&tag),
            None => return 0,
        }
        plain.len() + TAG_LEN
    }

    fn decrypt(&self, nonce: u64, ad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, snow::Error> {
        let (bytes, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..bytes.len()).ok_or(snow::Error::Decrypt)?;
        let nonce = Nonce::assume_unique_for_key(seal::nonce(nonce));
        let key = key_of(&self.0).ok_or(snow::Error::Decrypt)?;
        key.open_separate_gather(nonce, Aad::from(ad), bytes, tag, out).map_err(|_| snow::Error::Decrypt)?;
        Ok(bytes.len())
    }
}

//! The cryptography of the device's end: RustCrypto and dalek, for any target, without heap.

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use noise_protocol::{Cipher, DH, Hash};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};

use super::KEY_LEN;
use super::record::{self, Aead, TAG_LEN};

/// ChaCha20-Poly1305, X25519 and SHA-256 in Rust alone.
pub struct Portable;

impl Aead for Portable {
    fn seal(key: &[u8; KEY_LEN], nonce: &[u8; 12], ad: &[u8], bytes: &mut [u8]) -> [u8; TAG_LEN] {
        let sealed = ChaCha20Poly1305::new(key.into()).encrypt_inout_detached(nonce.into(), ad, bytes.into());
        // Fails for more than 256 GiB only; zeros do not open.
        sealed.map_or([0; TAG_LEN], Into::into)
    }

    fn open(key: &[u8; KEY_LEN], nonce: &[u8; 12], ad: &[u8], bytes: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        let cipher = ChaCha20Poly1305::new(key.into());
        cipher.decrypt_inout_detached(nonce.into(), ad, bytes.into(), tag.into()).is_ok()
    }
}

/// X25519 for the handshake.
pub(super) enum X25519 {}

impl DH for X25519 {
    type Key = [u8; KEY_LEN];
    type Pubkey = [u8; KEY_LEN];
    type Output = [u8; KEY_LEN];

    fn name() -> &'static str {
        "25519"
    }

    fn genkey() -> [u8; KEY_LEN] {
        // The initiator brings its ephemeral key, drawn by the board: there is nothing to draw from here. An
        // all-zero key is refused by `dh`.
        [0; KEY_LEN]
    }

    fn pubkey(key: &[u8; KEY_LEN]) -> [u8; KEY_LEN] {
        PublicKey::from(&StaticSecret::from(*key)).to_bytes()
    }

    fn dh(key: &[u8; KEY_LEN], public: &[u8; KEY_LEN]) -> Result<[u8; KEY_LEN], ()> {
        if key == &[0; KEY_LEN] {
            return Err(());
        }
        let shared = StaticSecret::from(*key).diffie_hellman(&PublicKey::from(*public));
        if shared.was_contributory() { Ok(shared.to_bytes()) } else { Err(()) }
    }
}

impl Cipher for Portable {
    type Key = [u8; KEY_LEN];

    fn name() -> &'static str {
        "ChaChaPoly"
    }

    fn encrypt(key: &[u8; KEY_LEN], nonce: u64, ad: &[u8], plain: &[u8], out: &mut [u8]) {
        if let Some(area) = out.get_mut(..plain.len()) {
            area.copy_from_slice(plain);
            Self::encrypt_in_place(key, nonce, ad, out, plain.len());
        }
    }

    fn encrypt_in_place(key: &[u8; KEY_LEN], nonce: u64, ad: &[u8], in_out: &mut [u8], plain_len: usize) -> usize {
        let Some((bytes, rest)) = in_out.split_at_mut_checked(plain_len) else { return 0 };
        let tag = Self::seal(key, &record::nonce(nonce), ad, bytes);
        match rest.get_mut(..TAG_LEN) {
            Some(area) => area.copy_from_slice(&tag),
            None => return 0,
        }
        plain_len + TAG_LEN
    }

    fn decrypt(key: &[u8; KEY_LEN], nonce: u64, ad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), ()> {
        let (bytes, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(())?;
        let out = out.get_mut(..bytes.len()).ok_or(())?;
        out.copy_from_slice(bytes);
        if Self::open(key, &record::nonce(nonce), ad, out, tag) { Ok(()) } else { Err(()) }
    }

    fn decrypt_in_place(
        key: &[u8; KEY_LEN],
        nonce: u64,
        ad: &[u8],
        in_out: &mut [u8],
        sealed_len: usize,
    ) -> Result<usize, ()> {
        let sealed = in_out.get_mut(..sealed_len).ok_or(())?;
        let (bytes, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(())?;
        if Self::open(key, &record::nonce(nonce), ad, bytes, tag) { Ok(bytes.len()) } else { Err(()) }
    }
}

/// SHA-256 for the handshake.
#[derive(Default)]
pub(super) struct Sha(Sha256);

impl Hash for Sha {
    type Block = [u8; 64];
    type Output = [u8; 32];

    fn name() -> &'static str {
        "SHA256"
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self) -> [u8; 32] {
        self.0.finalize_reset().into()
    }
}

/// SHA-256 over `parts`.
pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha::default();
    parts.iter().for_each(|part| hash.input(part));
    hash.result()
}

/// HMAC-SHA256 over `parts`.
pub(super) fn hmac(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> [u8; 32] {
    Sha::hmac_many(key.as_slice(), parts)
}

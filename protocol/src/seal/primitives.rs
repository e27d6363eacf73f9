//! The cryptography of the device's end: RustCrypto and dalek, for any target, without heap.

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use noise_protocol::{Cipher, DH, Hash, U8Array};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize;

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

/// Bytes that are overwritten when they are dropped: every key that a handshake holds, makes or passes through.
pub(super) struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    pub(super) const fn new(bytes: &[u8; N]) -> Self {
        Self(*bytes)
    }

    pub(super) const fn bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> U8Array for Secret<N> {
    fn new() -> Self {
        Self([0; N])
    }

    fn new_with(byte: u8) -> Self {
        Self([byte; N])
    }

    fn from_slice(bytes: &[u8]) -> Self {
        // Always of this length: the handshake cuts them so.
        let mut secret = Self([0; N]);
        secret.0.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        secret
    }

    fn len() -> usize {
        N
    }

    fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// X25519 for the handshake.
pub(super) enum X25519 {}

impl DH for X25519 {
    type Key = Secret<KEY_LEN>;
    type Pubkey = [u8; KEY_LEN];
    type Output = Secret<KEY_LEN>;

    fn name() -> &'static str {
        "25519"
    }

    fn genkey() -> Self::Key {
        // The initiator brings its ephemeral key, drawn by the board: there is nothing to draw from here. An
        // all-zero key is refused by `dh`.
        U8Array::new()
    }

    fn pubkey(key: &Self::Key) -> [u8; KEY_LEN] {
        PublicKey::from(&StaticSecret::from(key.0)).to_bytes()
    }

    fn dh(key: &Self::Key, public: &[u8; KEY_LEN]) -> Result<Self::Output, ()> {
        if key.0 == [0; KEY_LEN] {
            return Err(());
        }
        let shared = StaticSecret::from(key.0).diffie_hellman(&PublicKey::from(*public));
        if shared.was_contributory() { Ok(Secret::new(shared.as_bytes())) } else { Err(()) }
    }
}

/// ChaCha20-Poly1305 for the handshake.
pub(super) enum ChaCha {}

impl Cipher for ChaCha {
    type Key = Secret<KEY_LEN>;

    fn name() -> &'static str {
        "ChaChaPoly"
    }

    fn encrypt(key: &Self::Key, nonce: u64, ad: &[u8], plain: &[u8], out: &mut [u8]) {
        if let Some(area) = out.get_mut(..plain.len()) {
            area.copy_from_slice(plain);
            Self::encrypt_in_place(key, nonce, ad, out, plain.len());
        }
    }

    fn encrypt_in_place(key: &Self::Key, nonce: u64, ad: &[u8], in_out: &mut [u8], plain_len: usize) -> usize {
        let Some((bytes, rest)) = in_out.split_at_mut_checked(plain_len) else { return 0 };
        let tag = Portable::seal(&key.0, &record::nonce(nonce), ad, bytes);
        match rest.get_mut(..TAG_LEN) {
            Some(area) => area.copy_from_slice(&tag),
            None => return 0,
        }
        plain_len + TAG_LEN
    }

    fn decrypt(key: &Self::Key, nonce: u64, ad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), ()> {
        let (bytes, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(())?;
        let out = out.get_mut(..bytes.len()).ok_or(())?;
        out.copy_from_slice(bytes);
        if Portable::open(&key.0, &record::nonce(nonce), ad, out, tag) { Ok(()) } else { Err(()) }
    }

    fn decrypt_in_place(
        key: &Self::Key,
        nonce: u64,
        ad: &[u8],
        in_out: &mut [u8],
        sealed_len: usize,
    ) -> Result<usize, ()> {
        let sealed = in_out.get_mut(..sealed_len).ok_or(())?;
        let (bytes, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(())?;
        if Portable::open(&key.0, &record::nonce(nonce), ad, bytes, tag) { Ok(bytes.len()) } else { Err(()) }
    }
}

/// SHA-256 for the handshake.
#[derive(Default)]
pub(super) struct Sha(Sha256);

impl Hash for Sha {
    type Block = Secret<64>;
    type Output = Secret<32>;

    fn name() -> &'static str {
        "SHA256"
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self) -> Self::Output {
        Secret(self.0.finalize_reset().into())
    }
}

/// SHA-256 over `parts`.
pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha::default();
    parts.iter().for_each(|part| hash.input(part));
    hash.result().0
}

/// HMAC-SHA256 over `parts`.
pub(super) fn hmac(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> [u8; 32] {
    Sha::hmac_many(key.as_slice(), parts).0
}

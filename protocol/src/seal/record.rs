//! Records: frames whose check is the tag of an AEAD.

use core::marker::PhantomData;

use serde::Serialize;
use zeroize::Zeroize;

use super::KEY_LEN;
use crate::frame::{self, EncodeError, FrameError, Laid};

/// Bytes of a tag.
pub const TAG_LEN: usize = 16;
/// A direction changes its key after this many records.
pub const REKEY_AFTER: u64 = 1 << 20;

/// ChaCha20-Poly1305 of some library.
pub trait Aead {
    /// Seals `bytes` in place and returns the tag.
    fn seal(key: &[u8; KEY_LEN], nonce: &[u8; 12], ad: &[u8], bytes: &mut [u8]) -> [u8; TAG_LEN];

    /// Opens `bytes` in place; `false` when the tag is another's, and then `bytes` mean nothing.
    #[must_use]
    fn open(key: &[u8; KEY_LEN], nonce: &[u8; 12], ad: &[u8], bytes: &mut [u8], tag: &[u8; TAG_LEN]) -> bool;
}

/// Both directions of a link after its handshake.
pub struct Records<A> {
    /// What is sent.
    pub sealer: Sealer<A>,
    /// What comes.
    pub opener: Opener<A>,
}

impl<A: Aead> Records<A> {
    /// Records sealed under `send` and opened under `receive`.
    pub fn new(send: [u8; KEY_LEN], receive: [u8; KEY_LEN]) -> Self {
        Self { sealer: Sealer(Direction::new(send)), opener: Opener(Direction::new(receive)) }
    }
}

impl<A> Records<A> {
    /// The keys of both directions, what is sent first, for another library's records.
    pub fn into_keys(self) -> ([u8; KEY_LEN], [u8; KEY_LEN]) {
        (self.sealer.0.key, self.opener.0.key)
    }
}

/// The sending direction; 40 bytes.
pub struct Sealer<A>(Direction<A>);

/// The receiving direction; 40 bytes.
pub struct Opener<A>(Direction<A>);

/// An opened record at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where the body begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Bytes of the buffer that the record took.
    pub len: usize,
}

impl<A: Aead> Sealer<A> {
    /// Writes `message` as a record at the start of `out` and returns the bytes written.
    ///
    /// `out` should have [`LENGTH_LEN_MAX`](frame::LENGTH_LEN_MAX) + [`TAG_LEN`] bytes more than the message needs.
    pub fn encode<T: Serialize + ?Sized>(&mut self, message: &T, out: &mut [u8]) -> Result<usize, EncodeError> {
        let Laid { head, body } = frame::lay_out(message, TAG_LEN, out)?;
        let (ad, rest) = out.split_at_mut_checked(head).ok_or(EncodeError)?;
        let (body, rest) = rest.split_at_mut_checked(body).ok_or(EncodeError)?;
        let tag = rest.get_mut(..TAG_LEN).ok_or(EncodeError)?;
        let nonce = self.0.next();
        tag.copy_from_slice(&A::seal(&self.0.key, &nonce, ad, body));
        Ok(ad.len() + body.len() + TAG_LEN)
    }
}

impl<A: Aead> Opener<A> {
    /// Opens the record at the start of `bytes` in place: `None` while it is not whole yet. `max` is the limit
    /// for sealed body and tag together.
    ///
    /// A record is opened once: what was opened must be taken before the next call.
    pub fn open(&mut self, bytes: &mut [u8], max: usize) -> Result<Option<Opened>, FrameError> {
        let Some((len, head)) = frame::length_within(bytes, TAG_LEN, max)? else {
            return Ok(None);
        };
        let Some(record) = bytes.get_mut(..head + len) else {
            return Ok(None);
        };
        let end = head + len - TAG_LEN;
        let (ad, rest) = record.split_at_mut_checked(head).ok_or(FrameError::Length)?;
        let (body, tag) = rest.split_at_mut_checked(len - TAG_LEN).ok_or(FrameError::Length)?;
        let tag: [u8; TAG_LEN] = (&*tag).try_into().map_err(|_| FrameError::Length)?;
        let nonce = self.0.next();
        if A::open(&self.0.key, &nonce, ad, body, &tag) {
            Ok(Some(Opened { start: head, end, len: head + len }))
        } else {
            Err(FrameError::Check)
        }
    }
}

/// One direction: its key, and how many records it had.
struct Direction<A> {
    key: [u8; KEY_LEN],
    counter: u64,
    aead: PhantomData<fn() -> A>,
}

impl<A: Aead> Direction<A> {
    fn new(key: [u8; KEY_LEN]) -> Self {
        Self { key, counter: 0, aead: PhantomData }
    }

    /// The nonce of the next record, under a new key when it is due.
    fn next(&mut self) -> [u8; 12] {
        if self.counter > 0 && self.counter.is_multiple_of(REKEY_AFTER) {
            // Noise: REKEY(k) = the first 32 bytes of ENCRYPT(k, 2^64 - 1, "", 32 zero bytes).
            let mut key = [0; KEY_LEN];
            A::seal(&self.key, &nonce(u64::MAX), &[], &mut key);
            self.key.zeroize();
            self.key = key;
            key.zeroize();
        }
        let nonce = nonce(self.counter);
        // A session ends after days; at a record a nanosecond this takes centuries.
        self.counter = self.counter.saturating_add(1);
        nonce
    }
}

impl<A> Drop for Direction<A> {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The nonce of Noise for a counter: 4 zero bytes, then the counter in 8 bytes, little-endian.
pub fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    if let Some(area) = nonce.get_mut(4..) {
        area.copy_from_slice(&counter.to_le_bytes());
    }
    nonce
}

#[cfg(all(test, feature = "seal"))]
mod tests {
    use super::*;
    use crate::seal::Portable;
    use crate::{FromDevice, frame::decode};
    use std::vec::Vec;

    type Pair = (Sealer<Portable>, Opener<Portable>);

    fn pair() -> Pair {
        let sealing = Records::<Portable>::new([1; 32], [2; 32]).sealer;
        let opening = Records::<Portable>::new([2; 32], [1; 32]).opener;
        (sealing, opening)
    }

    fn sealed(sealer: &mut Sealer<Portable>, message: &FromDevice<'_>) -> Vec<u8> {
        let mut out = [0; 4096];
        let len = sealer.encode(message, &mut out).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn what_was_sealed_opens_in_order_and_only_once() {
        let (mut sealer, mut opener) = pair();
        let mut first = sealed(&mut sealer, &FromDevice::Ack { sequence: 7 });
        let mut second = sealed(&mut sealer, &FromDevice::Busy);
        let replayed = first.clone();
        assert_eq!(first.len(), 1 + 2 + TAG_LEN);
        assert_eq!(opener.open(&mut first[..10], 4096), Ok(None), "not whole");
        let opened = opener.open(&mut first, 4096).unwrap().unwrap();
        assert_eq!(decode::<FromDevice<'_>>(&first[opened.start..opened.end]), Ok(FromDevice::Ack { sequence: 7 }));
        assert!(opener.open(&mut second, 4096).unwrap().is_some());
        assert_eq!(opener.open(&mut replayed.clone(), 4096), Err(FrameError::Check));
    }

    #[test]
    fn a_record_out_of_order_or_of_the_other_direction_does_not_open() {
        let (mut sealer, mut opener) = pair();
        let _first = sealed(&mut sealer, &FromDevice::Busy);
        let mut second = sealed(&mut sealer, &FromDevice::Busy);
        assert_eq!(opener.open(&mut second, 4096), Err(FrameError::Check));
        let (mut sealer, _) = pair();
        let mut reflected = sealed(&mut sealer, &FromDevice::Busy);
        let mut own = Records::<Portable>::new([1; 32], [2; 32]).opener;
        assert_eq!(own.open(&mut reflected, 4096), Err(FrameError::Check));
    }

    #[test]
    fn no_changed_bit_opens() {
        let payload = [9; 100];
        let event = FromDevice::Event { sequence: 1, key: crate::Key([1, 2, 3, 4]), payload: &payload };
        let bytes = sealed(&mut pair().0, &event);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let opened = pair().1.open(&mut bad, 4096);
            assert!(!matches!(opened, Ok(Some(_))), "bit {bit} was taken");
        }
    }

    #[test]
    fn both_ends_change_their_keys_after_the_same_record() {
        let (mut sealer, mut opener) = pair();
        sealer.0.counter = REKEY_AFTER - 1;
        opener.0.counter = REKEY_AFTER - 1;
        let before = sealer.0.key;
        for _ in 0..3 {
            let mut bytes = sealed(&mut sealer, &FromDevice::Busy);
            assert!(opener.open(&mut bytes, 4096).unwrap().is_some());
        }
        assert_ne!(sealer.0.key, before);
        // A peer that did not change its key is not understood.
        let mut late = pair().1;
        late.0.counter = REKEY_AFTER + 3;
        let mut bytes = sealed(&mut sealer, &FromDevice::Busy);
        assert_eq!(late.open(&mut bytes, 4096), Err(FrameError::Check));
    }

    #[test]
    fn the_first_record_under_a_changed_key_is_that_of_the_vectors() {
        let text = include_str!("../../vectors/sealed.txt");
        let entry = text.split("\n\n").find(|entry| entry.contains("key-before:")).unwrap();
        let bytes = |name: &str| -> Vec<u8> {
            let line = entry.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
        };
        let before = bytes("key-before:").try_into().unwrap();
        let mut sealer = Records::<Portable>::new(before, [0; 32]).sealer;
        sealer.0.counter = REKEY_AFTER;
        assert_eq!(sealed(&mut sealer, &FromDevice::Busy), bytes("record:"));
        assert_eq!(sealer.0.key[..], bytes("key-after:"));
    }

    #[test]
    fn a_direction_takes_40_bytes() {
        assert_eq!(size_of::<Sealer<Portable>>(), 40);
    }
}

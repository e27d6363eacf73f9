//! Hashes and signatures.

use ed25519_dalek::{Signature, VerifyingKey};
use embassy_futures::yield_now;
use imlink_protocol::blob::{Kind, Outcome, SIGNATURE_LEN, signed};
use sha2::{Digest, Sha256};

use super::state::storage;
use super::{Blob, BlobSink, BlobSource, Kept, StorageError};

/// The keys that a device believes.
pub(super) struct Checks<'a> {
    pub(super) keys: &'a [[u8; 32]],
}

impl Checks<'_> {
    /// Whether `blob` may be taken: a firmware image is signed by one of the keys.
    pub(super) fn check(&self, blob: &Blob) -> Result<(), (Outcome, u32)> {
        if blob.kind != Kind::Firmware {
            return Ok(());
        }
        if self.keys.is_empty() {
            return Err((Outcome::Unsupported, 0));
        }
        let text = signed(blob.kind, blob.size, &blob.sha256);
        let signature: Result<&[u8; SIGNATURE_LEN], _> = blob.signature.as_slice().try_into();
        let is_signed = signature.is_ok_and(|signature| {
            let signature = Signature::from_bytes(signature);
            let by = |key: &[u8; 32]| VerifyingKey::from_bytes(key).ok();
            self.keys.iter().filter_map(by).any(|key| key.verify_strict(&text, &signature).is_ok())
        });
        if is_signed { Ok(()) } else { Err((Outcome::Signature, 0)) }
    }
}

/// Reads back what was written, compares its hash, and has it kept.
pub(super) async fn finish(
    blob: &Blob,
    sink: &mut impl BlobSink,
    buffer: &mut [u8],
) -> Result<Outcome, (Outcome, u32)> {
    let mut hash = Sha256::new();
    let mut offset = 0;
    while let Some(part) = next_part(buffer, offset, blob.size) {
        sink.read(offset, part).await.map_err(storage)?;
        hash.update(&*part);
        offset = after(offset, part);
        yield_now().await;
    }
    if <[u8; 32]>::from(hash.finalize()) != blob.sha256 {
        sink.abort(blob).await;
        return Err((Outcome::Hash, 0));
    }
    match sink.finish(blob).await {
        Ok(Kept::Stored) => Ok(Outcome::Stored),
        Ok(Kept::Marked) => Ok(Outcome::Marked),
        Err(StorageError) => Err((Outcome::Storage, 0)),
    }
}

/// Finds what has this name, and its hash.
pub(super) async fn found(
    name: &str,
    source: &mut impl BlobSource,
    buffer: &mut [u8],
) -> Result<(Kind, u32, [u8; 32]), (Outcome, u32)> {
    let (kind, size) = source.find(name).await.ok_or((Outcome::NotFound, 0))?;
    let mut hash = Sha256::new();
    let mut offset = 0;
    while let Some(part) = next_part(buffer, offset, size) {
        source.read(offset, part).await.map_err(storage)?;
        hash.update(&*part);
        offset = after(offset, part);
        yield_now().await;
    }
    Ok((kind, size, hash.finalize().into()))
}

fn next_part(buffer: &mut [u8], offset: u32, size: u32) -> Option<&mut [u8]> {
    let rest = size.checked_sub(offset).filter(|rest| *rest > 0)?;
    let len = buffer.len().min(rest as usize);
    buffer.get_mut(..len)
}

fn after(offset: u32, part: &[u8]) -> u32 {
    offset.saturating_add(u32::try_from(part.len()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    fn image(kind: Kind, signature: &[u8]) -> Blob {
        let name = heapless::String::try_from("app").unwrap();
        let signature = heapless::Vec::from_slice(signature).unwrap();
        Blob { kind, name, size: 9, sha256: [7; 32], signature }
    }

    #[test]
    fn an_image_is_taken_only_with_the_signature_of_a_pinned_key() {
        let [mine, other] = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
        let pinned = [[9; 32], mine.verifying_key().to_bytes()];
        let checks = Checks { keys: &pinned };
        let text = signed(Kind::Firmware, 9, &[7; 32]);
        let good = mine.sign(&text).to_bytes();
        assert_eq!(checks.check(&image(Kind::Firmware, &good)), Ok(()));
        let larger = Blob { size: 10, ..image(Kind::Firmware, &good) };
        let another = Blob { sha256: [8; 32], ..image(Kind::Firmware, &good) };
        let of_a_file = mine.sign(&signed(Kind::File, 9, &[7; 32])).to_bytes();
        let refused = [
            image(Kind::Firmware, &other.sign(&text).to_bytes()),
            image(Kind::Firmware, &of_a_file),
            image(Kind::Firmware, &[]),
            larger,
            another,
        ];
        for blob in refused {
            assert_eq!(checks.check(&blob), Err((Outcome::Signature, 0)));
        }
        assert_eq!(checks.check(&image(Kind::File, &[])), Ok(()));
        assert_eq!(Checks { keys: &[] }.check(&image(Kind::Firmware, &good)), Err((Outcome::Unsupported, 0)));
    }
}

//! Random numbers from a source whose bits are noise, but not even ones.

use imlink_device_client::RngError;
use sha2::{Digest, Sha256};

/// Bytes of noise for each block of 32: 8,192 bits, about a millisecond of a ring oscillator's.
const READ_FOR_BLOCK: usize = 1024;
/// Read at a time.
const PIECE: usize = 64;

/// Fills `bytes` with what `read` gives, hashed: 1,024 bytes of it for each 32. For a source whose bits lean to one side, or
/// are read faster than they change. An error when it shows the same byte all the time.
pub fn hashed(mut read: impl FnMut(&mut [u8]), bytes: &mut [u8]) -> Result<(), RngError> {
    for block in bytes.chunks_mut(32) {
        let mut hash = Sha256::new();
        let mut is_alive = false;
        for _ in 0..READ_FOR_BLOCK / PIECE {
            let mut piece = [0; PIECE];
            read(&mut piece);
            is_alive |= piece.iter().any(|byte| *byte != piece[0]);
            hash.update(piece);
        }
        if !is_alive {
            return Err(RngError);
        }
        for (byte, noise) in block.iter_mut().zip(hash.finalize()) {
            *byte = noise;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_of_noise_of_its_own() {
        let (mut reads, mut bytes) = (0u32, [0; 70]);
        let counting = |piece: &mut [u8]| {
            reads += 1;
            piece.iter_mut().zip(reads.to_le_bytes()).for_each(|(byte, count)| *byte = count);
        };
        hashed(counting, &mut bytes).expect("noise that changes");
        assert_eq!(reads, 3 * 16);
        assert!(bytes[..32] != bytes[32..64] && bytes[64..] != bytes[32..38]);
    }

    #[test]
    fn a_source_that_stands_still_is_an_error() {
        for stuck in [0, 0xff] {
            assert!(hashed(|piece| piece.fill(stuck), &mut [0; 32]).is_err());
        }
    }
}

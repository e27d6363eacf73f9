//! Random numbers from the RP2040's ring oscillator.

use embassy_rp::clocks::RoscRng;
use imlink_device_client::{Rng, RngError};
use sha2::{Digest, Sha256};

/// The ring oscillator's noise, hashed: its bits lean to one side, and are read faster than they change (RP2040 datasheet
/// 2.17.5). The RP2040 has no better source; where keys are worth an attack, make them on a host.
pub(crate) struct Noise;

/// Bytes of noise for each block of 32: 8,192 readings, about a millisecond.
const READ_FOR_BLOCK: usize = 1024;
/// Read at a time.
const PIECE: usize = 64;

impl Rng for Noise {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        for block in bytes.chunks_mut(32) {
            let mut hash = Sha256::new();
            let mut is_alive = false;
            for _ in 0..READ_FOR_BLOCK / PIECE {
                let mut piece = [0; PIECE];
                RoscRng.fill_bytes(&mut piece);
                is_alive |= piece.iter().any(|byte| *byte != piece[0]);
                hash.update(piece);
            }
            // An oscillator that stands still shows one bit for ever.
            if !is_alive {
                return Err(RngError);
            }
            for (byte, noise) in block.iter_mut().zip(hash.finalize()) {
                *byte = noise;
            }
        }
        Ok(())
    }
}

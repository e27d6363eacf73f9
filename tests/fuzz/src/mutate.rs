//! Changes of an input where no fuzzer with coverage makes them.

use fastrand::Rng;

/// Longest input, in bytes.
const LEN_MAX: usize = 4096;

/// One of `seeds`, changed here and there; now and then bytes of nobody.
pub fn mutate(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let any = |rng: &mut Rng| rng.choice(seeds).cloned().unwrap_or_default();
    if rng.u8(..16) == 0 || seeds.is_empty() {
        let mut bytes = vec![0; rng.usize(..400)];
        rng.fill(&mut bytes);
        return bytes;
    }
    let mut bytes = any(rng);
    for _ in 0..1 << rng.u32(..5) {
        change(rng, &mut bytes, &any);
    }
    bytes.truncate(LEN_MAX);
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, any: &impl Fn(&mut Rng) -> Vec<u8>) {
    let at = rng.usize(..=bytes.len());
    let end = (at + rng.usize(..=16)).min(bytes.len());
    match rng.u8(..9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
        1 if at < bytes.len() => bytes[at] = rng.u8(..),
        2 if at < bytes.len() => bytes[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap_or(&0),
        3 => bytes.insert(at, rng.u8(..)),
        4 => drop(bytes.drain(at..end)),
        5 => bytes.truncate(at),
        6 => {
            let part = bytes[at..end].to_vec();
            let to = rng.usize(..=bytes.len());
            bytes.splice(to..to, part);
        }
        // The end of another one, or another one within.
        7 => {
            let other = any(rng);
            let from = rng.usize(..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(end - at).collect();
            bytes.splice(at..end, noise);
        }
    }
}

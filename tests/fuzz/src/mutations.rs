//! What somebody on the path can do to recorded bytes.

use crate::input::Input;

/// `pieces`, one after the other, with up to seven changes: none of them may be a change at all.
pub(crate) fn mutated(input: &mut Input<'_>, pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut pieces = pieces.to_vec();
    for _ in 0..input.byte() % 8 {
        let how = input.byte();
        if pieces.is_empty() {
            break;
        }
        let which = input.below(pieces.len());
        let len = pieces[which].len();
        match how % 9 {
            // A bit, a byte, a cut, something more.
            0 if len > 0 => {
                let at = input.below(len);
                pieces[which][at] ^= 1 << (how / 9 % 8);
            }
            1 if len > 0 => {
                let at = input.below(len);
                pieces[which][at] = input.byte();
            }
            2 => pieces[which].truncate(input.below(len + 1)),
            3 => {
                let at = input.below(len + 1);
                pieces[which].splice(at..at, input.bytes(16).iter().copied());
            }
            // Left out, repeated, exchanged, pasted together.
            4 => drop(pieces.remove(which)),
            5 => pieces.insert(input.below(pieces.len() + 1), pieces[which].clone()),
            6 => {
                let other = input.below(pieces.len());
                pieces.swap(which, other);
            }
            7 if len > 0 => {
                let other = input.below(pieces.len());
                let tail: Vec<_> = pieces[other].iter().copied().skip(input.below(len)).collect();
                pieces[which].truncate(input.below(len));
                pieces[which].extend(tail);
            }
            _ => {}
        }
    }
    pieces.concat()
}

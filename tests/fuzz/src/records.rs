//! A sealed conversation that somebody on the path changes: what is accepted is its beginning, unchanged, or nothing.

use imlink_protocol::frame::{self, FrameError};
use imlink_protocol::key::Key;
use imlink_protocol::limits::FRAME_LEN_DEFAULT;
use imlink_protocol::message::{Code, Flags, FromDevice, ToDevice};
use imlink_protocol::seal::{Aead, KEY_LEN, Opener, Portable, Records, TAG_LEN};
use imlink_seal::Fast;

use crate::frames::Raw;
use crate::input::Input;
use crate::mutations::mutated;
use crate::vectors;

const UP: [u8; KEY_LEN] = [1; KEY_LEN];
const DOWN: [u8; KEY_LEN] = [2; KEY_LEN];

/// Records of both directions, changed and cut into pieces.
pub(crate) fn records(data: &[u8]) {
    let mut input = Input::new(data);
    let mut device = Records::<Portable>::new(UP, DOWN);
    let mut server = Records::<Fast>::new(DOWN, UP);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..input.byte() % 9 {
        let payload = input.bytes(300);
        let key = Key([1, 2, 3, 4]);
        let event = FromDevice::Event { sequence: input.number(), key, payload };
        up.push(sealed(|out| device.sealer.encode(&event, out)));
        let message = ToDevice::Message { sequence: input.number(), key, expiry_ms: 0, flags: Flags::NONE, payload };
        down.push(sealed(|out| server.sealer.encode(&message, out)));
    }
    let is_reply = input.byte().is_multiple_of(2);
    let reply = FromDevice::Reply { request: 1, status: Code::OK, payload: &[3; 40] };
    if is_reply {
        up.push(sealed(|out| device.sealer.encode(&reply, out)));
    }
    // Either direction is written to the other end of its own, or reflected, or both are mixed.
    let (own, other) = if input.byte().is_multiple_of(2) { (&up, &down) } else { (&down, &up) };
    let mut pieces = own.clone();
    if input.byte().is_multiple_of(4) {
        pieces.extend_from_slice(other);
    }
    let bytes = mutated(&mut input, &pieces);
    let chunk = 1 + usize::from(input.byte());
    let is_up = std::ptr::eq(own, &up);
    let whole = own.concat();
    // The same keys, opened by either library.
    let (by_host, error) =
        opened(if is_up { server.opener } else { Records::<Fast>::new(UP, DOWN).opener }, &bytes, chunk);
    let (by_device, device_error) =
        opened(if is_up { Records::<Portable>::new(DOWN, UP).opener } else { device.opener }, &bytes, chunk);
    assert_eq!((&by_host, error), (&by_device, device_error), "the two ends do not agree");
    let expected = untouched(own, &bytes);
    assert_eq!(by_host.len(), expected, "records were accepted that were not written, or the other way round");
    let mut again = Records::<Portable>::new(if is_up { DOWN } else { UP }, if is_up { UP } else { DOWN });
    let (plain, _) = opened_all(&mut again.opener, &whole);
    assert_eq!(by_host, plain[..expected], "what opens is what was sealed, in order");
}

/// Records at the beginning of `bytes` that are the first ones of `own`.
fn untouched(own: &[Vec<u8>], mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(rest) = own.get(count).and_then(|record| bytes.strip_prefix(record.as_slice())) {
        (bytes, count) = (rest, count + 1);
    }
    count
}

fn sealed(encode: impl FnOnce(&mut [u8]) -> Result<usize, frame::EncodeError>) -> Vec<u8> {
    let mut out = [0; 512];
    let len = encode(&mut out).expect("it fits");
    out[..len].to_vec()
}

type Opened = (Vec<Vec<u8>>, Option<FrameError>);

/// Feeds `bytes` in pieces and keeps no more than a record.
fn opened<A: Aead>(mut opener: Opener<A>, bytes: &[u8], chunk: usize) -> Opened {
    let (mut buffer, mut plain) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(chunk) {
        buffer.extend_from_slice(piece);
        loop {
            match opener.open(&mut buffer, FRAME_LEN_DEFAULT) {
                Ok(Some(found)) => {
                    assert!(found.start < found.end && found.end + TAG_LEN == found.len && found.len <= buffer.len());
                    plain.push(buffer[found.start..found.end].to_vec());
                    buffer.drain(..found.len);
                }
                Ok(None) => {
                    assert!(buffer.len() < FRAME_LEN_DEFAULT + frame::LENGTH_LEN_MAX);
                    break;
                }
                // Nothing behind it is read.
                Err(error) => return (plain, Some(error)),
            }
        }
    }
    (plain, None)
}

fn opened_all<A: Aead>(opener: &mut Opener<A>, bytes: &[u8]) -> Opened {
    let (mut bytes, mut plain) = (bytes.to_vec(), Vec::new());
    while let Ok(Some(found)) = opener.open(&mut bytes, FRAME_LEN_DEFAULT) {
        plain.push(bytes[found.start..found.end].to_vec());
        bytes.drain(..found.len);
    }
    (plain, None)
}

/// Bytes that are not sealed by anybody, to each opener, at each limit.
pub(crate) fn garbage_records(data: &[u8]) {
    let mut input = Input::new(data);
    let max = [17, 64, 512, FRAME_LEN_DEFAULT, 65_536][input.below(5)];
    let (mut bytes, is_sealed) = (input.bytes(600).to_vec(), input.byte().is_multiple_of(2));
    if is_sealed && !bytes.is_empty() {
        // Whoever has the keys may seal any body, also one that is no message.
        let mut out = vec![0; bytes.len() + 32];
        let len = Records::<Fast>::new(UP, DOWN).sealer.encode(&Raw(&bytes), &mut out).expect("it fits");
        let opened = Records::<Portable>::new(DOWN, UP).opener.open(&mut out[..len], max);
        match opened {
            Ok(Some(opened)) => {
                assert_eq!(out[opened.start..opened.end], bytes);
                let _ = frame::decode::<FromDevice<'_>>(&bytes);
                let _ = frame::decode::<ToDevice<'_>>(&bytes);
            }
            Ok(None) => panic!("it is whole"),
            Err(error) => assert_eq!(error, FrameError::TooLong { len: bytes.len() + TAG_LEN, max }),
        }
        return;
    }
    let opened = Records::<Fast>::new(UP, DOWN).opener.open(&mut bytes, max);
    assert!(!matches!(opened, Ok(Some(_))), "nobody sealed it");
}

/// Conversations of some length; changes at their end.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let one = [0, 4, 1, 2, 3, 4, 7, 9];
    let of = |count: u8, end: &[u8]| [vec![count], one.repeat(count.into()), end.to_vec()].concat();
    let mut seeds = vec![
        of(3, &[0, 0, 1, 0, 200]),
        of(3, &[1, 1, 1, 0, 0]),
        of(4, &[0, 0, 0, 0, 40]),
        of(4, &[0, 1, 1, 1, 5, 1, 2, 3]),
        of(5, &[0, 0, 1, 2, 4, 1, 6, 0, 2, 9]),
        of(2, &[0, 0, 1, 1, 0, 0, 9, 30]),
    ];
    seeds.extend(vectors::all("sealed", "record").into_iter().map(|record| [&[6][..], &record].concat()));
    seeds
}

pub(crate) fn garbage_seeds() -> Vec<Vec<u8>> {
    let all = vectors::all("sealed", "record").into_iter().chain(vectors::all("sealed", "plain"));
    let with = |record: Vec<u8>, last| [&[3][..], &(record.len() as u16).to_be_bytes(), &record, &[last]].concat();
    all.flat_map(|record| [with(record.clone(), 0), with(record, 1)]).collect()
}

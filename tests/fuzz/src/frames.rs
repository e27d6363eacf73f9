//! Frames and bodies of every link, as a stream cut anywhere.

use std::fmt::Debug;

use imlink_protocol::frame::{self, FrameError, LENGTH_LEN_MAX};
use imlink_protocol::limits::{FRAME_LEN_DEFAULT, LINK_FRAME_LEN_MAX};
use imlink_protocol::link::backend::{FromBackend, ToBackend};
use imlink_protocol::link::node::{ToRoute, ToServer};
use imlink_protocol::link::opening::{JoinAnswer, Opening};
use imlink_protocol::{FromDevice, ToDevice};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};

use crate::input::Input;
use crate::vectors;

/// A body as it is, to be framed.
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

/// `body` as a frame with its check.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; body.len() + 16];
    let len = frame::encode(&Raw(body), &mut out).expect("it fits");
    out.truncate(len);
    out
}

/// What a device sends to its server.
pub(crate) fn from_device(data: &[u8]) {
    stream(data, FRAME_LEN_DEFAULT, |body| round_trip::<FromDevice<'_>>(body));
}

/// What a server sends to its device.
pub(crate) fn to_device(data: &[u8]) {
    stream(data, FRAME_LEN_DEFAULT, |body| round_trip::<ToDevice<'_>>(body));
}

/// What nodes and backends send; the first byte says which.
pub(crate) fn links(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    stream(data, LINK_FRAME_LEN_MAX, |body| match which % 6 {
        0 => round_trip::<ToRoute<'_>>(body),
        1 => round_trip::<ToServer<'_>>(body),
        2 => round_trip::<FromBackend<'_>>(body),
        3 => round_trip::<ToBackend<'_>>(body),
        4 => round_trip::<Opening<'_>>(body),
        _ => round_trip::<JoinAnswer<'_>>(body),
    });
}

/// The first byte: raw bytes of a stream, or bodies that are framed properly.
fn stream(data: &[u8], max: usize, check: impl Fn(&[u8])) {
    let Some((how, data)) = data.split_first() else { return };
    let mut input = Input::new(data);
    let bytes = if how.is_multiple_of(2) {
        input.rest().to_vec()
    } else {
        let mut bytes = Vec::new();
        while !input.is_empty() {
            let body = input.bytes(1024);
            if body.is_empty() {
                break;
            }
            bytes.extend(framed(body));
        }
        bytes
    };
    let whole = taken_whole(&bytes, max);
    assert_eq!(taken_in_pieces(&bytes, max, usize::from(*how) / 2 + 1), whole, "cut, the stream means something else");
    whole.0.iter().for_each(|body| check(body));
}

/// The bodies of a stream, and what is wrong with it behind them.
type Taken = (Vec<Vec<u8>>, Option<FrameError>);

fn taken_whole(mut bytes: &[u8], max: usize) -> Taken {
    let mut bodies = Vec::new();
    loop {
        let whole = frame::whole_len(bytes, max);
        assert_eq!(whole, length_by_the_book(bytes, max));
        match frame::split(bytes, max) {
            Ok(Some(found)) => {
                assert_eq!(whole, Ok(Some(found.len)));
                assert!(found.len <= max + LENGTH_LEN_MAX && !found.body.is_empty());
                assert_eq!(framed(found.body), bytes[..found.len], "one body has one frame");
                bodies.push(found.body.to_vec());
                bytes = &bytes[found.len..];
            }
            Ok(None) => {
                assert_eq!(whole, Ok(None));
                assert!(bytes.len() < max + LENGTH_LEN_MAX, "{} bytes wait for the end of a frame", bytes.len());
                return (bodies, None);
            }
            Err(error) => {
                assert!(!error.to_string().is_empty() && !error.name().is_empty());
                return (bodies, Some(error));
            }
        }
    }
}

/// What `docs/PROTOCOL.md` says of the length of a frame [IML-1-3], [IML-1-4].
fn length_by_the_book(bytes: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
    let (head, len) = match *bytes {
        [a @ 0..=0x7f, ..] => (1, usize::from(a)),
        [_, 0, ..] | [_, 0x80..=0xff, 0 | 0x80..=0xff, ..] => return Err(FrameError::Length),
        [a, b @ 0..=0x7f, ..] => (2, usize::from(a & 0x7f) | usize::from(b) << 7),
        [a, b, c, ..] => (3, usize::from(a & 0x7f) | usize::from(b & 0x7f) << 7 | usize::from(c) << 14),
        _ => return Ok(None),
    };
    match len {
        len if len > max => Err(FrameError::TooLong { len, max }),
        0..=4 => Err(FrameError::TooShort { len, min: 5 }),
        len => Ok(Some(head + len).filter(|whole| *whole <= bytes.len())),
    }
}

fn taken_in_pieces(bytes: &[u8], max: usize, piece: usize) -> Taken {
    let (mut buffer, mut bodies) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match frame::split(&buffer, max) {
                Ok(Some(found)) => {
                    bodies.push(found.body.to_vec());
                    let len = found.len;
                    buffer.drain(..len);
                }
                Ok(None) => break,
                Err(error) => return (bodies, Some(error)),
            }
        }
    }
    (bodies, None)
}

/// A body that is a message is so in one way: what is written of it reads as the same, and is no longer.
fn round_trip<'a, T: Again<'a>>(body: &'a [u8]) {
    let Ok(message) = frame::decode::<T>(body) else { return };
    let mut out = vec![0; body.len() + 8];
    let len = frame::encode_body(&message, &mut out).expect("what was read can be written");
    assert!(len <= body.len(), "{message:?} grew from {} to {len} bytes", body.len());
    message.is_again(&out[..len]);
    let framed = framed(&out[..len]);
    let mut direct = vec![0; framed.len() + 8];
    let direct_len = frame::encode(&message, &mut direct).expect("it fits");
    assert_eq!(direct[..direct_len], framed);
}

/// A message that is read once more from bytes that live less long.
trait Again<'a>: Deserialize<'a> + Serialize + Debug + PartialEq {
    fn is_again(&self, body: &[u8]);
}

macro_rules! again {
    ($($message:ident),*) => {
        $(impl<'a> Again<'a> for $message<'a> {
            fn is_again(&self, body: &[u8]) {
                let again = frame::decode::<$message<'_>>(body);
                assert!(again.as_ref() == Ok(self), "{again:?} was {self:?}");
            }
        })*
    };
}

again!(FromDevice, ToDevice, ToRoute, ToServer, FromBackend, ToBackend, Opening, JoinAnswer);

/// Frames of `file`: each as raw bytes, and all bodies to be framed.
pub(crate) fn seeds(file: &str) -> Vec<Vec<u8>> {
    let frames = vectors::all(file, "hex");
    let mut seeds: Vec<_> = frames.iter().map(|frame| [&[0][..], frame].concat()).collect();
    seeds.push([vec![0], frames.concat()].concat());
    let mut bodies = vec![1];
    for body in vectors::bodies(file).into_iter().filter(|body| body.len() <= 1024) {
        bodies.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
        bodies.extend(body);
    }
    seeds.push(bodies);
    seeds
}

/// The same for every kind of link.
pub(crate) fn link_seeds() -> Vec<Vec<u8>> {
    let files = ["to-route", "to-server", "from-backend", "to-backend"];
    let of = |(which, file): (u8, &&str)| seeds(file).into_iter().map(move |seed| [vec![which], seed].concat());
    let mut seeds: Vec<_> = (0..).zip(&files).flat_map(of).collect();
    let opening = Opening::Link { version: 1, server: "im-1", route: "route-1" };
    let join = Opening::Join { version: 1, token: [7; 8], role: "server", name: "im-1" };
    for (which, body) in [
        (4, postcard::to_slice(&opening, &mut [0; 64]).map(|body| body.to_vec())),
        (4, postcard::to_slice(&join, &mut [0; 64]).map(|body| body.to_vec())),
        (5, postcard::to_slice(&JoinAnswer::Refused { why: "no" }, &mut [0; 64]).map(|body| body.to_vec())),
    ] {
        let body = body.expect("it fits");
        seeds.push([vec![which, 1, 0, body.len() as u8], body].concat());
    }
    seeds
}

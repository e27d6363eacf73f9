//! A link's receiver, and the handshake between nodes, against whatever comes over a stream.

use imlink_link::{LinkError, OUTBOX_LEN_DEFAULT, over_stream};
use imlink_protocol::frame;
use imlink_protocol::limits::LINK_FRAME_LEN_MAX;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;

use crate::frames::framed;
use crate::input::Input;
use crate::vectors;

thread_local! {
    static RUNTIME: Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// A stream of frames of a peer, some of them wrong, in pieces.
pub(crate) fn stream(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut bytes, mut pieces) = (Vec::new(), Vec::new());
    while !input.is_empty() && bytes.len() < 100_000 {
        let from = bytes.len();
        match input.byte() % 4 {
            0 => bytes.extend_from_slice(input.bytes(300)),
            1 => {
                let (len, byte) = ([1, 100, 16_000, 60_000][input.below(4)], input.byte());
                bytes.extend(framed(&vec![byte; len]));
            }
            _ => {
                let body = input.bytes(300);
                if !body.is_empty() {
                    bytes.extend(framed(body));
                }
            }
        }
        let cut = from + input.below(bytes.len() - from + 1);
        pieces.push(bytes[from..cut].to_vec());
        pieces.push(bytes[cut..].to_vec());
    }
    let (expected, is_bad) = read_whole(&bytes);
    let (bodies, error) = RUNTIME.with(|runtime| runtime.block_on(received(pieces)));
    assert_eq!(bodies, expected, "the link gives other frames than the stream has");
    assert_eq!(error, is_bad);
}

/// Bodies of the frames of a stream, and whether something wrong follows them.
fn read_whole(mut bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut bodies = Vec::new();
    loop {
        match frame::split(bytes, LINK_FRAME_LEN_MAX) {
            Ok(Some(found)) => {
                bodies.push(found.body.to_vec());
                bytes = bytes.get(found.len..).unwrap_or_default();
            }
            Ok(None) => return (bodies, false),
            Err(_) => return (bodies, true),
        }
    }
}

async fn received(pieces: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, bool) {
    let (here, mut there) = tokio::io::duplex(1024);
    let mut link = over_stream(here, OUTBOX_LEN_DEFAULT);
    let write = async move {
        for piece in pieces {
            // The link is closed at the first wrong frame.
            if there.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    // Closes the link when it is done, as everybody does after an error.
    let read = async move {
        let mut bodies = Vec::new();
        while let Ok(Some(batch)) = link.receiver.receive().await {
            for body in batch.frames() {
                match body {
                    Ok(body) => {
                        assert_eq!(batch.share(body), body);
                        bodies.push(body.to_vec());
                    }
                    Err(LinkError::Frame(_)) => return (bodies, true),
                    Err(other) => panic!("{other}"),
                }
            }
        }
        (bodies, false)
    };
    tokio::join!(write, read).1
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let frames = vectors::all("to-route", "hex").into_iter().chain(vectors::all("from-backend", "hex"));
    let raw = frames
        .clone()
        .filter(|frame| frame.len() <= 256)
        .map(|frame| [&[0][..], &(frame.len() as u16).to_be_bytes(), &frame, &[3]].concat());
    let mut seeds: Vec<_> = raw.collect();
    seeds.push(seeds.concat());
    seeds.extend([vec![1, 3, 7, 100, 1, 2, 9, 0, 0, 0, 2, 0xff, 0xff, 0], vec![2, 0, 3, 1, 2, 3, 2, 0, 0, 1, 9]]);
    seeds
}

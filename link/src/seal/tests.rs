use std::time::Duration;

use imlink_protocol::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{Link, LinkError, OUTBOX_LEN_DEFAULT as MAX};

fn key(seed: u8) -> NodeKey {
    NodeKey::from_bytes([seed; 32]).unwrap()
}

/// Two connected sockets: of the node that dials, of the one that listens.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (there, listener.accept().await.unwrap().0)
}

/// A sealed link whose bytes all pass through `tamper`, with the offset of the first; both directions.
struct Recorded {
    dialled: Result<Link, SealError>,
    accepted: Result<Link, SealError>,
}

/// Links server `s` with key 1 to route `r` with key 2, each believing what it is told of the other.
async fn link(
    there: TcpStream,
    here: TcpStream,
    said: (&str, &str),
    keys: (&NodeKey, &NodeKey),
    believed: u8,
) -> Recorded {
    let peer = keys.1.public();
    let dial = connect(there, said.0, said.1, keys.0, &peer, MAX);
    let accept = async {
        let incoming = Incoming::read(here).await?;
        incoming.link(keys.1, &key(believed).public(), MAX).await
    };
    let (dialled, accepted) = tokio::join!(dial, accept);
    Recorded { dialled, accepted }
}

async fn sealed_pair() -> (Link, Link) {
    let (there, here) = sockets().await;
    let linked = link(there, here, ("s", "r"), (&key(1), &key(2)), 1).await;
    (linked.dialled.unwrap(), linked.accepted.unwrap())
}

async fn numbers(link: &mut Link, count: u32) -> Result<Vec<u32>, LinkError> {
    let mut seen = Vec::new();
    while seen.len() < count as usize {
        let Some(batch) = link.receiver.receive().await? else { break };
        for body in batch.frames() {
            seen.push(frame::decode::<u32>(body?)?);
        }
    }
    Ok(seen)
}

#[tokio::test]
async fn frames_arrive_in_order_both_ways_and_the_end_is_seen() {
    let (mut there, mut here) = sealed_pair().await;
    for number in 0..100_000u32 {
        there.sender.send(&number).unwrap();
        here.sender.send(&(number + 7)).unwrap();
    }
    assert_eq!(numbers(&mut here, 100_000).await.unwrap(), (0..100_000).collect::<Vec<_>>());
    assert_eq!(numbers(&mut there, 100_000).await.unwrap(), (7..100_007).collect::<Vec<_>>());
    drop(there);
    assert!(here.receiver.receive().await.unwrap().is_none());
}

#[tokio::test]
async fn nothing_of_a_link_is_readable_on_the_wire() {
    let (there, here, wire) = through(|_, _| {}).await;
    let linked = link(there, here, ("s", "r"), (&key(1), &key(2)), 1).await;
    let (dialled, mut accepted) = (linked.dialled.unwrap(), linked.accepted.unwrap());
    dialled.sender.send(&"the door is open".as_bytes()).unwrap();
    accepted.receiver.receive().await.unwrap().unwrap();
    let wire = wire.await_bytes(64).await;
    assert!(!wire.windows(8).any(|bytes| bytes == b"the door"));
}

#[tokio::test]
async fn a_node_without_the_key_that_is_believed_is_no_peer() {
    // The dialling node has key 1, the route believes key 3.
    let (there, here) = sockets().await;
    let linked = link(there, here, ("s", "r"), (&key(1), &key(2)), 3).await;
    assert!(matches!(linked.accepted, Err(SealError::Proof)));
    assert!(matches!(linked.dialled, Err(SealError::Closed)));
}

#[tokio::test]
async fn a_route_without_the_key_that_is_believed_is_no_peer() {
    let (there, here) = sockets().await;
    let answer = async {
        let incoming = Incoming::read(here).await?;
        incoming.link(&key(2), &key(1).public(), MAX).await
    };
    let route_key = key(9).public();
    let (dialled, accepted) = tokio::join!(async { connect(there, "s", "r", &key(1), &route_key, MAX).await }, answer);
    assert!(dialled.is_err() && accepted.is_err());
}

#[test]
fn an_unknown_version_is_named_and_a_private_key_and_a_token_never_show() {
    assert!(SealError::Version(9).to_string().contains('9'));
    let shown = format!("{:?} {:?}", key(0xab), JoinSecret::derive(b"secret", [0xcd; 8]));
    assert!(!shown.contains("abab") && shown.contains("cdcd"), "{shown}");
    let token = JoinSecret::derive(b"secret", [1; 8]);
    assert_eq!(token.reveal().parse::<JoinSecret>().unwrap().psk(), token.psk());
    assert_ne!(JoinSecret::derive(b"other", [1; 8]).psk(), token.psk());
    for wrong in ["", "imj_", "imj_00_11", &token.reveal()[1..], &format!("{}0", *token.reveal())] {
        assert_eq!(wrong.parse::<JoinSecret>().unwrap_err(), TokenError);
    }
    assert_eq!(NodeKey::from_hex(&key(7).to_hex()).unwrap().public(), key(7).public());
    assert_eq!(NodeKey::from_hex("07").unwrap_err(), KeyError::Form);
}

#[test]
fn a_public_key_is_that_of_its_private_one() {
    // Calculated with the ladder of RFC 7748, section 5.
    let counting: [u8; 32] = std::array::from_fn(|at| at as u8);
    let public = NodeKey::from_bytes(counting).unwrap().public().to_string();
    assert_eq!(public, "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f");
}

// --- joining --------------------------------------------------------------------------------------

async fn joined(
    theirs: &JoinSecret,
    ours: &JoinSecret,
    refusal: Option<&str>,
) -> (Result<(), SealError>, Option<PublicKey>) {
    let (there, here) = sockets().await;
    let newcomer = async { join(there, "server", "s", &key(1), theirs).await };
    let route = async {
        let joining = Incoming::read(here).await.ok()?.join(&key(2), ours).await.ok()?;
        let key = joining.key;
        joining.answer(refusal).await.ok()?;
        Some(key)
    };
    tokio::join!(newcomer, route)
}

#[tokio::test]
async fn a_newcomer_with_the_token_proves_its_key_and_hears_the_answer() {
    let token = JoinSecret::derive(b"secret", [1; 8]);
    let (answer, proven) = joined(&token, &token, None).await;
    assert!(answer.is_ok());
    assert_eq!(proven, Some(key(1).public()));
    let (answer, _) = joined(&token, &token, Some("the name is taken")).await;
    assert!(matches!(answer, Err(SealError::Refused(why)) if why == "the name is taken"));
}

#[tokio::test]
async fn a_newcomer_with_another_token_proves_nothing() {
    let (theirs, ours) = (JoinSecret::derive(b"other", [1; 8]), JoinSecret::derive(b"secret", [1; 8]));
    let (answer, proven) = joined(&theirs, &ours, None).await;
    assert!(matches!(answer, Err(SealError::Closed)));
    assert_eq!(proven, None);
}

// --- somebody in the middle -----------------------------------------------------------------------

/// What passed from the node that dials.
struct Wire(tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>);

impl Wire {
    /// What passed, at least `len` bytes.
    async fn await_bytes(mut self, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            all.extend(tokio::time::timeout(SOON, self.0.recv()).await.unwrap().unwrap());
        }
        all
    }
}

/// Bytes of the opening from `s` to `r`, of the first message, and of a sealed frame with a small number.
const OPENING: usize = 2 + 6;
const MESSAGE: usize = 2 + 48;
const FRAME: usize = 2 + 6 + 16;
const SOON: Duration = Duration::from_secs(10);

/// Two sockets with somebody between them who changes what the dialling node sends: each record, by its number.
async fn through(mut tamper: impl FnMut(usize, &mut Vec<u8>) + Send + 'static) -> (TcpStream, TcpStream, Wire) {
    let ((there, near), (far, here)) = (sockets().await, sockets().await);
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut from_there, mut to_there) = near.into_split();
        let (mut from_here, mut to_here) = far.into_split();
        let back = async {
            let _ = tokio::io::copy(&mut from_here, &mut to_there).await;
            to_there.shutdown().await
        };
        let forth = async {
            let mut number = 0;
            loop {
                let mut head = [0; 2];
                if from_there.read_exact(&mut head).await.is_err() {
                    return to_here.shutdown().await;
                }
                let mut record = vec![0; usize::from(u16::from_be_bytes(head))];
                from_there.read_exact(&mut record).await?;
                let mut whole = head.to_vec();
                whole.append(&mut record);
                tamper(number, &mut whole);
                number += 1;
                let _ = tell.send(whole.clone());
                to_here.write_all(&whole).await?;
            }
        };
        let _ = tokio::join!(back, forth);
    });
    (there, here, Wire(told))
}

/// How a conversation of 3 frames in 3 records ends when somebody changes the bytes.
async fn tampered(tamper: impl FnMut(usize, &mut Vec<u8>) + Send + 'static) -> Result<Vec<u32>, String> {
    let (there, here, _wire) = through(tamper).await;
    let linked = tokio::time::timeout(SOON, link(there, here, ("s", "r"), (&key(1), &key(2)), 1)).await;
    let linked = linked.map_err(|_| "no end")?;
    let dialled = linked.dialled.map_err(|error| error.to_string())?;
    let mut accepted = linked.accepted.map_err(|error| error.to_string())?;
    for number in 1..=3u32 {
        dialled.sender.send(&number).unwrap();
        // Each in a record of its own.
        while dialled.sender.waiting() > 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(dialled);
    let mut seen = Vec::new();
    loop {
        match tokio::time::timeout(SOON, accepted.receiver.receive()).await.map_err(|_| "no end")? {
            Ok(Some(batch)) => seen.extend(batch.frames().map(|body| frame::decode::<u32>(body.unwrap()).unwrap())),
            Ok(None) => return Ok(seen),
            Err(error) => return Err(format!("{seen:?}, then {error}")),
        }
    }
}

#[tokio::test]
async fn an_untouched_conversation_comes_whole() {
    assert_eq!(tampered(|_, _| {}).await.unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn no_flipped_bit_is_accepted() {
    // Every bit of the opening and the first message, then every byte of the sealed records.
    for record in 0..5usize {
        let len = match record {
            0 => OPENING,
            1 => MESSAGE,
            _ => FRAME,
        };
        for bit in (0..len * 8).step_by(if record < 2 { 3 } else { 11 }) {
            let ended = tampered(move |number, bytes| {
                if number == record
                    && let Some(byte) = bytes.get_mut(bit / 8)
                {
                    *byte ^= 1 << (bit % 8);
                }
            });
            // A longer record waits for bytes that never come.
            let ended = tokio::time::timeout(Duration::from_millis(100), ended).await;
            assert!(!matches!(ended, Ok(Ok(_))), "record {record} bit {bit}: {ended:?}");
        }
    }
}

#[tokio::test]
async fn a_record_left_out_repeated_or_moved_is_not_accepted() {
    let dropped = tampered(|number, bytes| {
        if number == 3 {
            bytes.clear();
        }
    });
    assert!(dropped.await.unwrap_err().starts_with("[1], then"));
    let repeated = tampered(|number, bytes| {
        if number == 3 {
            bytes.extend_from_within(..);
        }
    });
    let ended = repeated.await.unwrap_err();
    assert!(ended == format!("[1], then {}", LinkError::Seal) || ended == format!("[1, 2], then {}", LinkError::Seal));
    let mut kept = Vec::new();
    let swapped = tampered(move |number, bytes| match number {
        3 => kept = std::mem::take(bytes),
        4 => bytes.append(&mut kept),
        _ => {}
    });
    assert!(swapped.await.unwrap_err().starts_with("[1], then"));
}

#[tokio::test]
async fn a_stream_cut_behind_a_whole_record_is_not_closed_in_good_order() {
    let ended = tampered(|number, bytes| {
        if number > 3 {
            bytes.clear();
        }
    });
    assert!(ended.await.unwrap_err().starts_with("[1, 2], then"));
}

#[tokio::test]
async fn a_recorded_conversation_played_again_is_answered_and_believed_in_nothing() {
    let (there, here, wire) = through(|_, _| {}).await;
    let linked = link(there, here, ("s", "r"), (&key(1), &key(2)), 1).await;
    let (dialled, mut accepted) = (linked.dialled.unwrap(), linked.accepted.unwrap());
    dialled.sender.send(&7u32).unwrap();
    assert_eq!(numbers(&mut accepted, 1).await.unwrap(), [7]);
    let recorded = wire.await_bytes(OPENING + MESSAGE + FRAME).await;
    let (mut stranger, here) = sockets().await;
    stranger.write_all(&recorded).await.unwrap();
    let incoming = Incoming::read(here).await.unwrap();
    // The first message is replayable by nature; what follows it is sealed for another answer.
    let mut again = incoming.link(&key(2), &key(1).public(), MAX).await.unwrap();
    assert!(matches!(again.receiver.receive().await, Err(LinkError::Seal)));
}

#[tokio::test]
async fn what_was_sealed_for_one_link_is_not_accepted_on_another() {
    // The same nodes link twice; records of the first are pasted into the second.
    let (there, here, wire) = through(|_, _| {}).await;
    let first = link(there, here, ("s", "r"), (&key(1), &key(2)), 1).await;
    let (dialled, _accepted) = (first.dialled.unwrap(), first.accepted.unwrap());
    dialled.sender.send(&1u32).unwrap();
    let sealed = wire.await_bytes(OPENING + MESSAGE + FRAME).await.split_off(OPENING + MESSAGE);
    let ended = tampered(move |number, bytes| {
        if number == 2 {
            *bytes = sealed.clone();
        }
    });
    assert_eq!(ended.await.unwrap_err(), "[], then the peer sent a record whose seal does not fit");
}

#[tokio::test]
async fn a_handshake_for_another_name_is_not_accepted() {
    // The same keys, but somebody changes the names in clear.
    for at in [5, 7] {
        let ended = tampered(move |number, bytes| {
            if number == 0 {
                bytes[at] ^= 1;
            }
        });
        assert!(ended.await.is_err());
    }
}

#[tokio::test]
async fn garbage_and_long_openings_are_refused_by_their_length() {
    for (bytes, what) in [
        (vec![0xff; 64], "256"),
        (vec![0x01, 0x01], "256"),
        ([&[0u8, 64][..], &[0xff; 64]].concat(), "no opening"),
        (vec![0, 0], "no opening"),
        (vec![0, 5, 0, 9, 1, b's', 1], "no opening"),
        (vec![0, 6, 0, 9, 1, b's', 1, b'r'], "version 9"),
        (vec![0, 6, 0, 1, 1], "closed"),
    ] {
        let (mut there, here) = sockets().await;
        there.write_all(&bytes).await.unwrap();
        there.shutdown().await.unwrap();
        let error = Incoming::read(here).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(what), "{bytes:02x?}: {error}");
    }
}

#[test]
fn a_direction_rekeys_after_its_own_records_and_both_sides_agree() {
    use imlink_protocol::link::opening::REKEY_AFTER;
    let (mut near, mut far) = states();
    let mut out = Vec::new();
    let (mut input, mut plain) = (bytes::BytesMut::new(), bytes::BytesMut::new());
    for number in 0..REKEY_AFTER + 2 {
        near.0.record(&number.to_le_bytes(), &mut out).unwrap();
        input.extend_from_slice(&out);
        out.clear();
        plain.clear();
        assert_eq!(far.1.open(&mut input, &mut plain).unwrap(), Opened::Bytes);
        assert_eq!(plain, number.to_le_bytes()[..]);
    }
    // The other direction has its own count.
    far.0.record(b"back", &mut out).unwrap();
    input.extend_from_slice(&out);
    plain.clear();
    assert_eq!(near.1.open(&mut input, &mut plain).unwrap(), Opened::Bytes);
}

fn states() -> ((Sealer, Opener), (Sealer, Opener)) {
    let (one, two) = (key(1), key(2));
    let build = |mine: &NodeKey, peer: &NodeKey, is_first: bool| {
        let builder = handshake::builder(imlink_protocol::link::opening::LINK_PATTERN, b"").unwrap();
        let theirs = peer.public();
        let builder = builder.local_private_key(mine.private()).unwrap().remote_public_key(&theirs.0).unwrap();
        if is_first { builder.build_initiator().unwrap() } else { builder.build_responder().unwrap() }
    };
    let (mut first, mut second) = (build(&one, &two, true), build(&two, &one, false));
    let hello = handshake::message(&mut first, &[]).unwrap();
    handshake::accept(&mut second, &hello).unwrap();
    let answer = handshake::message(&mut second, &[]).unwrap();
    handshake::accept(&mut first, &answer).unwrap();
    (both(first.into_stateless_transport_mode().unwrap()), both(second.into_stateless_transport_mode().unwrap()))
}

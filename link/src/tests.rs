use imlink_protocol::frame;
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn tcp_pair() -> (Link, Link) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (here, _) = listener.accept().await.unwrap();
    (over_tcp(there, OUTBOX_LEN_DEFAULT).unwrap(), over_tcp(here, OUTBOX_LEN_DEFAULT).unwrap())
}

async fn numbers(link: &mut Link, count: u32) -> Vec<u32> {
    let mut seen = Vec::new();
    while seen.len() < count as usize {
        let batch = link.receiver.receive().await.unwrap().expect("the peer closed early");
        for body in batch.frames() {
            seen.push(frame::decode::<u32>(body.unwrap()).unwrap());
        }
    }
    seen
}

#[tokio::test]
async fn frames_arrive_in_order_over_tcp_and_within_a_process() {
    for (there, mut here) in [tcp_pair().await, pair(OUTBOX_LEN_DEFAULT)] {
        for number in 0..1000u32 {
            there.sender.send(&number).unwrap();
        }
        assert_eq!(numbers(&mut here, 1000).await, (0..1000).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn dropping_the_receiver_closes_both_directions_after_what_was_sent() {
    for (there, mut here) in [tcp_pair().await, pair(OUTBOX_LEN_DEFAULT)] {
        there.sender.send(&7u32).unwrap();
        let sender = there.sender.clone();
        drop(there);
        assert_eq!(sender.send(&8u32), Err(SendError::Closed));
        assert_eq!(numbers(&mut here, 1).await, [7]);
        assert!(here.receiver.receive().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_full_outbox_refuses_and_keeps_what_it_has() {
    let (there, mut here) = pair(64);
    let mut taken = 0;
    let refused = loop {
        match there.sender.send(&1u32) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SendError::Full { waiting: 64.., max: 64 }));
    assert_eq!(numbers(&mut here, taken).await.len(), taken as usize);
    there.sender.send(&1u32).unwrap();
}

#[tokio::test]
async fn garbage_ends_the_link_with_its_name() {
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut link = over_tcp(stream, OUTBOX_LEN_DEFAULT).unwrap();
    peer.write_all(&[0xff; 64]).await.unwrap();
    let error = link.receiver.receive().await.unwrap_err();
    assert_eq!(error.to_string(), "the peer sent frame length is not a minimal varint of at most 3 bytes");
}

#[tokio::test]
async fn a_stream_cut_within_a_frame_is_not_closed_in_good_order() {
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut link = over_tcp(stream, OUTBOX_LEN_DEFAULT).unwrap();
    let mut frames = Vec::new();
    encode_onto(&7u32, &mut frames).unwrap();
    encode_onto(&8u32, &mut frames).unwrap();
    peer.write_all(&frames[..frames.len() - 1]).await.unwrap();
    drop(peer);
    assert_eq!(numbers(&mut link, 1).await, [7]);
    assert!(matches!(link.receiver.receive().await, Err(LinkError::Io(_))));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_cannot_hold_a_closed_link() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (silent, _) = listener.accept().await.unwrap();
    let link = over_tcp(there, OUTBOX_LEN_DEFAULT).unwrap();
    let outbox = std::sync::Arc::downgrade(&link.sender.outbox);
    for _ in 0..400 {
        link.sender.send(&[0u8; 60_000].as_slice()).unwrap();
    }
    drop(link);
    while outbox.strong_count() > 0 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    drop(silent);
}

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

//! Peers that break the rules: closed with a reason, and nobody else notices.

#[allow(dead_code, unreachable_pub, reason = "each test program uses its own part of it")]
mod support;

use imlink_protocol::message::{FromDevice, Hello};
use imlink_server::Limits;
use support::{Peer, Rig, hello};
use tokio::io::AsyncWriteExt;

/// What a connection that sends `bytes` first hears before it is closed.
async fn refusal(rig: &Rig, bytes: &[u8]) -> Vec<String> {
    let mut peer = Peer::connect(rig.address).await;
    peer.stream.write_all(bytes).await.unwrap();
    peer.last_words().await
}

fn frame(message: &FromDevice<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    imlink_link::encode_onto(message, &mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_hello_is_refused_with_its_reason_while_others_go_on() {
    let mut rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let (mut good, _) = Peer::attach(rig.address, "lamp", 9, 1).await;
    let right = frame(&FromDevice::Hello(hello("lamp2", 1, 1)));
    let mut wrong_check = right.clone();
    *wrong_check.last_mut().unwrap() ^= 1;
    let cases: [(&[u8], &str); 7] = [
        (
            b"GET /v1/devices HTTP/1.1\r\nHost: gateway.example\r\nAccept: */*\r\nUser-Agent: lost/1.0\r\n\r\n",
            "Malformed",
        ),
        (&[0xff; 100], "Malformed"),
        (&[0x80, 0x80, 0x01, 0], "Malformed"),
        (&wrong_check, "Malformed"),
        (&frame(&FromDevice::Ping { next_ms: 1000 }), "Order"),
        (&frame(&FromDevice::Hello(Hello { version: 9, ..hello("lamp", 1, 1) })), "Version"),
        (&right, "UnknownDevice"),
    ];
    for (bytes, reason) in cases {
        let words = refusal(&rig, bytes).await;
        assert_eq!(words.len(), 1, "{words:?}");
        assert!(words[0].contains(reason), "{words:?}, expected {reason}");
    }
    rig.send(&lamp, b"on").await;
    assert_eq!(good.message().await.2, b"on");
    good.write(&FromDevice::Ack { sequence: 1 }).await;
    rig.acked().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_breaks_the_order_is_sent_away() {
    let rig = Rig::new(Limits::default()).await;
    rig.provision("lamp").await;
    for (attempt, wrong) in [
        FromDevice::Ack { sequence: 5 },
        FromDevice::Hello(hello("lamp", 9, 1)),
        FromDevice::Ping { next_ms: 10 },
        FromDevice::Generation { generation: 3 },
    ]
    .iter()
    .enumerate()
    {
        let (mut peer, _) = Peer::attach(rig.address, "lamp", 9, attempt as u32 + 1).await;
        peer.write(wrong).await;
        let words = peer.last_words().await;
        assert!(words.iter().any(|word| word.contains("Order")), "{wrong:?}: {words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_byte_by_byte_is_as_good_as_one_at_once() {
    let rig = Rig::new(Limits::default()).await;
    rig.provision("lamp").await;
    let mut peer = Peer::connect(rig.address).await;
    peer.stream.set_nodelay(true).unwrap();
    for byte in frame(&FromDevice::Hello(hello("lamp", 9, 1))) {
        peer.stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(peer.read(|message| format!("{message:?}").starts_with("Welcome")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_in_drops_and_a_silent_stranger_are_closed_in_time() {
    let limits = Limits {
        hello_deadline: std::time::Duration::from_millis(600),
        partial_frame: std::time::Duration::from_millis(600),
        ..Limits::default()
    };
    let rig = Rig::new(limits).await;
    rig.provision("lamp").await;
    let (mut dripping, _) = Peer::attach(rig.address, "lamp", 9, 1).await;
    dripping.stream.write_all(&[50, 1, 2]).await.unwrap();
    let mut silent = Peer::connect(rig.address).await;
    assert!(silent.last_words().await[0].contains("Malformed"));
    assert!(dripping.last_words().await[0].contains("Malformed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_comes_with_the_last_bytes_is_seen_at_once() {
    let rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    for attempt in 1..=50 {
        let (mut peer, _) = Peer::attach(rig.address, "lamp", 9, attempt).await;
        // Held back until the end comes, so that both are one segment and one event.
        socket2::SockRef::from(&peer.stream).set_tcp_cork(true).unwrap();
        peer.write(&FromDevice::Ping { next_ms: 60_000 }).await;
        peer.stream.shutdown().await.unwrap();
        let gone = async {
            while rig.store.identity(&lamp).await.unwrap().unwrap().session.is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), gone).await.expect("still attached");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_crowd_out_one_another_and_devices_get_in() {
    let rig = Rig::new(Limits { half_open_max: 8, ..Limits::default() }).await;
    rig.provision("lamp").await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(Peer::connect(rig.address).await);
    }
    let (_, epoch) = Peer::attach(rig.address, "lamp", 9, 1).await;
    assert!(epoch > 0);
    assert!(silent[0].last_words().await[0].contains("Overloaded"), "the oldest goes first");
}

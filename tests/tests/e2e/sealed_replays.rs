//! What went over a sealed link, said again or spoiled: nothing of it is taken twice.

use std::time::Duration;

use imlink_protocol::Key;
use imlink_protocol::limits::HELLO_FRAME_LEN_MAX;
use imlink_protocol::message::{FromDevice, GoAwayReason, RejectCode, ToDevice};
use imlink_protocol::seal::take;
use imlink_tests::node::Node;
use imlink_tests::proxy::Proxy;
use imlink_tests::sealed::{Flashed, Sealed, attach, claim, knock};
use imlink_tests::wait::eventually;
use imlink_tests::wire::{Body, Wire, framed};

use crate::bystander::Bystander;
use crate::sealed::{Heard, closed, handshakes, heard, spent, view};

const SOON: Duration = Duration::from_secs(5);

/// A link with one of its records spoiled, and what was said about it.
async fn told_after(link: &mut Sealed, bytes: &[u8]) -> Option<GoAwayReason> {
    link.write(bytes).await;
    let words: Vec<Body> = link.last_words(SOON).await;
    words.iter().rev().find_map(|word| match word.read() {
        ToDevice::GoAway { reason, .. } => Some(reason),
        _ => None,
    })
}

#[tokio::test]
async fn replayed_reordered_reflected_pasted_and_changed_records_end_the_link() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    let bystander = Bystander::attach(&api, node.devices(), node.backends()).await;
    let flashed = Flashed::provision(&api, "lamp").await;
    let other = Flashed::provision(&api, "other").await;
    let ping = FromDevice::Ping { next_ms: 60_000 };
    let event = |sequence| FromDevice::Event { sequence, key: Key::raw("button"), payload: b"x" };
    for (attempt, what) in (1..).zip(["replayed", "reordered", "reflected", "pasted", "changed", "cut short", "plain"])
    {
        let mut link = flashed.attach(node.devices(), claim(1, attempt)).await.link;
        let events = api.metric("imlink_server_events_total", "").await;
        let said = link.seal(&ping);
        link.write(&said).await;
        while !matches!(link.next().await.expect("a Pong").read(), ToDevice::Pong { .. }) {}
        let bytes = match what {
            "replayed" => said,
            "reordered" => {
                let _first = link.seal(&ping);
                link.seal(&event(1))
            }
            "reflected" => link.heard.clone(),
            "pasted" => {
                let mut stranger = other.attach(node.devices(), claim(1, attempt)).await.link;
                let _as_many = stranger.seal(&ping);
                stranger.seal(&event(1))
            }
            "changed" => {
                let mut bytes = link.seal(&event(1));
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                bytes
            }
            "cut short" => {
                let mut bytes = link.seal(&event(1));
                bytes[0] -= 1;
                bytes.pop();
                bytes
            }
            // As long as a record at least, or it would wait for more.
            _ => framed(&FromDevice::Event { sequence: 1, key: Key::raw("button"), payload: &[1; 40] }),
        };
        let count = closed(&api, "bad-check").await;
        assert_eq!(told_after(&mut link, &bytes).await, Some(GoAwayReason::Malformed), "{what}");
        assert!(closed(&api, "bad-check").await > count, "{what} is not counted");
        assert_eq!(api.metric("imlink_server_events_total", "").await, events, "{what}: an event was taken");
    }
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_recorded_conversation_said_again_changes_nothing() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    let flashed = Flashed::provision(&api, "lamp").await;
    let proxy = Proxy::start(node.devices()).await;
    let converse = async |mut link: Sealed, events: [u64; 2]| {
        for sequence in events {
            link.send(&FromDevice::Event { sequence, key: Key::raw("button"), payload: b"pressed" }).await;
        }
        assert_eq!(api.send("lamp", "led/set", "", *b"1").await.status, 202);
        loop {
            if let ToDevice::Message { sequence, .. } = link.next().await.expect("a message").read() {
                link.send(&FromDevice::Ack { sequence }).await;
                link.send(&FromDevice::Bye).await;
                link.last_words(SOON).await;
                return;
            }
        }
    };
    let session = flashed.attach(proxy.address(), claim(1, 1)).await;
    let grant = session.grant.clone();
    converse(session.link, [1, 2]).await;
    let again = attach(&grant, claim(1, 2)).shake(proxy.address()).await.sealed().open().await;
    converse(again.link, [3, 4]).await;
    eventually("all is settled", SOON, async || {
        let view = view(&api, "lamp").await;
        (view["online"] == false && view["mailbox"]["waiting"] == 0).then_some(())
    })
    .await;
    let recorded = proxy.recorded();
    assert_eq!(recorded.len(), 2);
    let acked = async || api.metric("imlink_server_acked_total", "").await;
    let before = (view(&api, "lamp").await, spent(&api).await, acked().await);
    // A waiting message shows that no replay takes it.
    let sent = api.send("lamp", "led/set", "", *b"2").await;
    let waiting = view(&api, "lamp").await;
    for said in &recorded {
        let first = take(said, HELLO_FRAME_LEN_MAX).unwrap().unwrap().1;
        for _ in 0..3 {
            // All at once, and as the device said it: the rest after the answer.
            let came = knock(node.devices(), said, SOON).await.expect("the link is ended");
            assert!(!came.is_empty());
            let mut wire = Wire::connect(node.devices()).await;
            wire.write(&said[..first]).await;
            tokio::time::timeout(SOON, wire.readable()).await.expect("an answer");
            wire.write(&said[first..]).await;
            wire.write(&[0; 600]).await;
            wire.drained(SOON).await;
            assert!(knock(node.plain(), said, SOON).await.is_some());
        }
    }
    // The first message alone holds nothing but its own connection.
    assert_eq!(view(&api, "lamp").await, waiting);
    assert_eq!((spent(&api).await, acked().await), (before.1, before.2));
    assert_eq!(before.0["session"], waiting["session"]);
    let session = flashed.attach(node.devices(), claim(1, 3)).await;
    let epoch = session.epoch;
    // While it is attached, its own past is over before a Diffie–Hellman.
    let over = handshakes(&api, "attempt-over").await;
    for said in &recorded {
        let first = take(said, HELLO_FRAME_LEN_MAX).unwrap().unwrap().1;
        assert_eq!(heard(node.devices(), &said[..first]).await, Heard::Refused(RejectCode::Stale));
    }
    assert_eq!(handshakes(&api, "attempt-over").await, over + 2.0);
    assert_eq!(view(&api, "lamp").await["session"]["epoch"], epoch);
    let served = tokio::spawn(session.link.acknowledge());
    eventually("the waiting message is done", SOON, async || {
        (api.state("lamp", &sent.text("id")).await == "acked").then_some(())
    })
    .await;
    served.abort();
}

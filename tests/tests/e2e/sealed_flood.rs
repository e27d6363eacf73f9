//! Twenty thousand hostile connections at the sealed port, while devices do their work.

use std::time::{Duration, Instant};

use imlink_backend_client::{Client, Message, State};
use imlink_tests::node::{Node, TOKEN};
use imlink_tests::sealed::{Flashed, claim};

use crate::hostile::{Attack, Effect};

/// Devices that do their work meanwhile.
const DEVICES: usize = 16;

/// Latencies of pushes to all devices in turn, one every 3 ms, until `is_over`.
async fn push_until(backend: &Client, mut is_over: impl FnMut(usize) -> bool) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(3));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !is_over(latencies.len()) {
        tick.tick().await;
        let device = format!("lamp-{}", latencies.len() % DEVICES);
        let began = Instant::now();
        let sent = backend.send(&Message::new(&device, "led/set", b"0123456789abcdef").acked()).await;
        assert_eq!(sent.expect("an ack").state, State::Acked);
        latencies.push(began.elapsed());
    }
    latencies
}

#[tokio::test]
async fn twenty_thousand_hostile_connections_disturb_no_attached_device() {
    let node = Node::gateway(&["io_threads=1"]).await;
    let api = node.api();
    let mut served = Vec::new();
    let mut logins = Vec::new();
    for number in 0..DEVICES {
        let flashed = Flashed::provision(&api, &format!("lamp-{number}")).await;
        let session = flashed.attach(node.devices(), claim(7, 1)).await;
        served.push(tokio::spawn(session.link.acknowledge()));
        // Of another boot: nothing speaks against them before they are answered.
        logins.extend((2..=64).map(|attempt| flashed.login(claim(8, attempt)).frame));
    }
    let backend = Client::connect(&node.backends().to_string(), TOKEN, "tests").await.expect("a link");
    push_until(&backend, |count| count >= 200).await;
    let quiet = push_until(&backend, |count| count >= 1_500).await;
    let before = node.process().memory();
    let attack = Attack::start(node.devices(), logins);
    let mut peak = before;
    let flooded = push_until(&backend, |count| {
        if count % 50 == 0 {
            peak = peak.max(node.process().memory());
        }
        attack.is_done()
    })
    .await;
    let effect = Effect { made: attack.end(), quiet, flooded, grown: peak.saturating_sub(before) };
    for reason in ["answered", "attempt-open", "attempt-over", "pool-full"] {
        println!("{reason}: {}", api.metric("imlink_server_handshakes_total", &format!("reason=\"{reason}\"")).await);
    }
    println!("crowded out: {}", api.metric("imlink_server_closed_total", "reason=\"crowded-out\"").await);
    effect.judge("push", 500);
    assert!(served.iter().all(|device| !device.is_finished()), "a device lost its link");
    assert_eq!(api.metric("imlink_server_attached", "").await, DEVICES as f64);
    assert_eq!(api.metric("imlink_server_attaches_total", "").await, DEVICES as f64);
    assert!(!node.log().contains("panicked"));
}

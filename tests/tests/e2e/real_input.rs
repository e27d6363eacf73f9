//! Real input: thousands of devices, tens of thousands of messages from many backends at once, and parts of imlink killed
//! meanwhile. The ledger must balance every time.

use std::time::Duration;

use imlink_tests::cluster::Cluster;
use imlink_tests::fleet::Fleet;
use imlink_tests::ledger::{Ledger, Sent};
use imlink_tests::node::Node;
use imlink_tests::pushers::{Load, Pushers, now_ms, states};
use imlink_tests::wait::eventually;

const DEVICES: u32 = 2000;
/// From start to all attached, on a small machine.
const ATTACH: Duration = Duration::from_secs(60);
/// From the last answer to everything handled and acknowledged.
const SETTLE: Duration = Duration::from_secs(60);
/// DESIGN: a message stored before a loss arrives within 5 s of the loss being seen; seeing it may take a moment.
const ARRIVE: Duration = Duration::from_millis(5500);

fn load(messages: usize, first: u32) -> Load {
    Load { messages, devices: DEVICES as usize, pushers: 64, first }
}

/// Waits until every stored message is acked, ends the fleet and compares everything.
async fn settle(route: &Node, fleet: Fleet, sent: Vec<Sent>) -> Ledger {
    let states = states(route, &sent, SETTLE).await;
    let ledger = Ledger { sent, handled: fleet.end().await, states: states.into_iter().collect() };
    let report = ledger.judge();
    println!("{report}");
    report.check();
    ledger
}

async fn answered(pushers: &Pushers, count: usize) {
    eventually(&format!("{count} messages answered"), Duration::from_secs(60), async || {
        (pushers.answered() >= count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_routes_and_three_servers_carry_20_000_messages_to_2_000_devices() {
    let cluster = Cluster::start(2, 3, &[]).await;
    let fleet = Fleet::start(&cluster.routes[0], &cluster.logins(), DEVICES);
    cluster.attached(DEVICES, ATTACH).await;
    for server in &cluster.servers {
        let attached = server.api().gauge("imlink_server_attached").await;
        assert!((300.0..1200.0).contains(&attached), "{} has {attached} of {DEVICES} devices", server.name());
    }
    let sent = Pushers::start(load(20_000, 0), &cluster.routes).await.end().await;
    assert_eq!(sent.iter().filter(|sent| sent.told.id().is_none()).count(), 0, "a message was refused without a fault");
    settle(&cluster.routes[1], fleet, sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_midway_loses_nothing_and_its_devices_move() {
    let mut cluster = Cluster::start(2, 3, &[]).await;
    let fleet = Fleet::start(&cluster.routes[0], &cluster.logins(), DEVICES);
    cluster.attached(DEVICES, ATTACH).await;
    let pushers = Pushers::start(load(8000, 0), &cluster.routes).await;
    answered(&pushers, 3000).await;
    let killed_ms = now_ms();
    cluster.servers[1].kill();
    let sent = pushers.end().await;
    cluster.is_known(2).await;
    eventually("the killed server is out of Redis", ARRIVE, async || {
        let leases = cluster.redis.command(&["KEYS", "*server-2*"]).await.ok()?;
        leases.starts_with("*0").then_some(())
    })
    .await;
    cluster.attached(DEVICES, ATTACH).await;
    let ledger = settle(&cluster.routes[1], fleet, sent).await;
    let last = ledger.last_handled_after(killed_ms);
    println!("last of what was stored before the kill: {last:?}");
    assert!(last.as_ref().is_none_or(|(after, _)| *after <= ARRIVE), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_killed_midway_loses_nothing() {
    let mut cluster = Cluster::start(2, 3, &[]).await;
    let fleet = Fleet::start(&cluster.routes[0], &cluster.logins(), DEVICES);
    cluster.attached(DEVICES, ATTACH).await;
    let pushers = Pushers::start(load(8000, 0), &cluster.routes).await;
    answered(&pushers, 3000).await;
    let killed_ms = now_ms();
    cluster.routes[0].kill();
    let sent = pushers.end().await;
    cluster.attached(DEVICES, Duration::from_secs(1)).await;
    let ledger = settle(&cluster.routes[1], fleet, sent).await;
    let last = ledger.last_handled_after(killed_ms);
    println!("last of what was stored before the kill: {last:?}");
    assert!(last.as_ref().is_none_or(|(after, _)| *after <= ARRIVE), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_restarted_midway_loses_nothing() {
    let mut cluster = Cluster::start(2, 3, &[]).await;
    let fleet = Fleet::start(&cluster.routes[0], &cluster.logins(), DEVICES);
    cluster.attached(DEVICES, ATTACH).await;
    let pushers = Pushers::start(load(6000, 0), &cluster.routes).await;
    answered(&pushers, 2000).await;
    cluster.redis.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.attached(DEVICES, Duration::from_secs(1)).await;
    cluster.redis.restart().await;
    let sent = pushers.end().await;
    cluster.attached(DEVICES, Duration::from_secs(20)).await;
    settle(&cluster.routes[0], fleet, sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_redis_carries_20_000_messages_to_2_000_devices() {
    let node = Node::gateway(&[]).await;
    let fleet = Fleet::start(&node, &[node.devices()], DEVICES);
    let api = node.api();
    eventually("all attached", ATTACH, async || {
        (api.metric("imlink_server_attached", "").await >= f64::from(DEVICES)).then_some(())
    })
    .await;
    let nodes = [node];
    let sent = Pushers::start(load(20_000, 0), &nodes).await.end().await;
    assert_eq!(sent.iter().filter(|sent| sent.told.id().is_none()).count(), 0, "a message was refused without a fault");
    settle(&nodes[0], fleet, sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_nothing_and_shows_backends_no_error() {
    let mut cluster = Cluster::start(2, 3, &["server.drain_s=4"]).await;
    let fleet = Fleet::start(&cluster.routes[0], &cluster.logins(), DEVICES);
    cluster.attached(DEVICES, ATTACH).await;
    let pushers = Pushers::start(load(12_000, 0), &cluster.routes).await;
    answered(&pushers, 1000).await;
    for server in &mut cluster.servers {
        let status = server.leave(Duration::from_secs(15)).await;
        assert!(status.success(), "{} ended with {status}", server.name());
        server.restart().await;
    }
    let sent = pushers.end().await;
    assert_eq!(sent.iter().filter(|sent| sent.told.id().is_none()).count(), 0, "a backend was shown an error");
    cluster.is_known(3).await;
    cluster.attached(DEVICES, ATTACH).await;
    settle(&cluster.routes[0], fleet, sent).await;
}

//! Keys and tickets through their life: revoked, renewed, rotated, and what they cost on the wire.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use imlink_protocol::key_pair::PrivateKey;
use imlink_protocol::message::{GoAwayReason, RejectCode, ToDevice};
use imlink_protocol::seal::Claim;
use imlink_tests::api::Api;
use imlink_tests::cluster::Cluster;
use imlink_tests::device::Device;
use imlink_tests::node::{Node, ROUTE_KEYS};
use imlink_tests::proxy::Proxy;
use imlink_tests::sealed::{Flashed, Session, attach, claim, random};
use imlink_tests::wait::eventually;

/// Goals of the project for an id of 8 characters: bytes both ways up to and including `Welcome`.
const LOGIN_BYTES_MAX: u64 = 900;
const RECONNECT_BYTES_MAX: u64 = 400;
/// A change of who may be a device is in force this long after it was asked for.
const ENDED_WITHIN: Duration = Duration::from_secs(2);

/// Logs in at a route: the grant, and where it is good.
pub(crate) async fn redirected(flashed: &Flashed, route: SocketAddr, claim: Claim) -> (Vec<u8>, SocketAddr) {
    let mut link = flashed.login(claim).shake(route).await.sealed();
    let answer = link.ask_hello().await;
    let ToDevice::Redirect { address, grant } = answer.read() else { panic!("no Redirect: {answer:?}") };
    (grant.to_vec(), address.parse().expect("an address"))
}

pub(crate) async fn attached(grant: &[u8], server: SocketAddr, claim: Claim) -> Session {
    attach(grant, claim).shake(server).await.sealed().open().await
}

/// The session is closed within 2 s of `since`, with a word why; its grant.
pub(crate) async fn is_cut(mut session: Session, since: Instant) -> Vec<u8> {
    let words = session.link.last_words(ENDED_WITHIN).await;
    println!("cut after {:?}", since.elapsed());
    assert!(since.elapsed() < ENDED_WITHIN);
    let is_told =
        words.iter().any(|word| matches!(word.read(), ToDevice::GoAway { reason: GoAwayReason::Revoked, .. }));
    assert!(is_told, "{words:?}");
    session.grant
}

/// Logins that routes had, whatever came of them.
async fn logins(cluster: &Cluster) -> f64 {
    cluster.routes[0].api().metric("imlink_route_logins_total", "").await
}

#[tokio::test]
async fn a_full_login_and_a_reconnect_take_few_bytes_and_a_reconnect_touches_no_route() {
    let mut cluster = Cluster::start(1, 1, &[]).await;
    let api = cluster.routes[0].api();
    let flashed = Flashed::provision(&api, "lamp-017").await;
    let route = Proxy::start(cluster.routes[0].devices()).await;
    let server = Proxy::start(cluster.servers[0].devices()).await;
    let (grant, address) = redirected(&flashed, route.address(), claim(u64::MAX, 1)).await;
    assert_eq!(address, cluster.servers[0].devices());
    let session = attached(&grant, server.address(), claim(u64::MAX, 2)).await;
    let (at_route, at_server) = (settled(&route).await, settled(&server).await);
    let login = at_route + at_server;
    println!("full login: {login} bytes, {at_route} with the route and {at_server} with the server");
    assert!(login <= LOGIN_BYTES_MAX, "{login} bytes");
    let before = logins(&cluster).await;
    assert!(before > 0.0);
    let again = attached(&session.grant, server.address(), claim(u64::MAX, 3)).await;
    let reconnect = settled(&server).await - at_server - farewell(session).await;
    println!("reconnect with a ticket: {reconnect} bytes");
    assert!(reconnect <= RECONNECT_BYTES_MAX, "{reconnect} bytes");
    assert!(again.epoch > 0);
    assert_eq!(logins(&cluster).await, before, "a reconnect came by the route");
    cluster.routes[0].kill();
    let alone = attached(&again.grant, cluster.servers[0].devices(), claim(u64::MAX, 4)).await;
    assert!(alone.epoch > again.epoch, "no session while the route is down");
}

/// Bytes that passed a proxy, once nothing is on its way.
async fn settled(proxy: &Proxy) -> u64 {
    let mut last = 0;
    eventually("nothing is on its way", Duration::from_secs(5), async || {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let passed = proxy.passed();
        let is_settled = passed == last;
        last = passed;
        is_settled.then_some(passed)
    })
    .await
}

/// Bytes that the replaced session heard after its `Welcome`.
async fn farewell(mut session: Session) -> u64 {
    let mut bytes = 0;
    while session.link.next().await.is_some() {
        bytes += session.link.heard.len() as u64;
    }
    bytes
}

#[tokio::test]
async fn a_revoked_device_is_cut_within_two_seconds_and_its_ticket_is_refused_from_then_on() {
    let cluster = Cluster::start(2, 1, &[]).await;
    let (first, second) = (cluster.routes[0].api(), cluster.routes[1].api());
    let flashed = Flashed::provision(&first, "lamp").await;
    let (grant, server) = redirected(&flashed, cluster.routes[0].devices(), claim(1, 1)).await;
    let session = attached(&grant, server, claim(1, 2)).await;
    let epoch = session.epoch;
    let began = Instant::now();
    assert_eq!(second.revoke("lamp").await.status, 200);
    let renewed = is_cut(session, began).await;
    let refused = async |grant: &[u8], attempt| {
        let mut link = attach(grant, claim(1, attempt)).shake(server).await.sealed();
        let answer = link.ask_hello().await;
        assert!(matches!(answer.read(), ToDevice::Reject { code: RejectCode::Revoked, .. }), "{answer:?}");
    };
    // The ticket of the login and the one of the session.
    refused(&grant, 3).await;
    refused(&renewed, 4).await;
    for route in &cluster.routes {
        assert_eq!(flashed.login(claim(1, 5)).shake(route.devices()).await.told(), "revoked");
    }
    assert!(!first.is_online("lamp").await);
    assert_eq!(first.restore("lamp").await.status, 200);
    assert!(attached(&renewed, server, claim(1, 6)).await.epoch > epoch);
}

async fn give_next_key(api: &Api, device: &str, key: &PrivateKey) {
    let request = api.request(reqwest::Method::PUT, &format!("/v1/devices/{device}/next-key"));
    let answer = api.ask(request.json(&serde_json::json!({ "public_key": key.public().to_string() }))).await;
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
}

#[tokio::test]
async fn both_keys_of_a_device_are_good_until_the_next_one_was_used_once() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    let old = Flashed::provision(&api, "lamp").await;
    let next = Flashed { private: PrivateKey::new(random()), ..old.clone() };
    assert_eq!(next.login(claim(1, 1)).shake(node.devices()).await.told(), "unknown-device");
    give_next_key(&api, "lamp", &next.private).await;
    old.attach(node.devices(), claim(1, 2)).await;
    old.attach(node.devices(), claim(1, 3)).await;
    // A login that proves nothing by its first record does not count.
    drop(next.login(claim(1, 4)).shake(node.devices()).await.sealed());
    old.attach(node.devices(), claim(1, 5)).await;
    next.attach(node.devices(), claim(1, 6)).await;
    assert_eq!(old.login(claim(1, 7)).shake(node.devices()).await.told(), "unknown-device");
    let view = api.get("/v1/devices/lamp").await;
    assert_eq!(view.text("public_key"), next.private.public().to_string());
    assert_eq!(view.json()["next_public_key"], serde_json::Value::Null);
    next.attach(node.devices(), claim(1, 8)).await;
}

#[tokio::test]
async fn a_device_that_pinned_current_and_next_still_logs_in_after_a_rotation_of_the_route_keys() {
    let node = Node::gateway(&[]).await;
    let flashed = Flashed::provision(&node.api(), "lamp").await;
    // Before it the route takes logins to either.
    for (attempt, key) in (1..).zip(&flashed.route_keys) {
        flashed.login_to(key, claim(1, attempt)).shake(node.devices()).await.sealed().open().await;
    }
    let [old, kept] = &flashed.route_keys;
    // What `imlink keys rotate` does: the next key is the current one, and a new one follows.
    let current = format!("route_key={}", PrivateKey::new(ROUTE_KEYS[1]).reveal());
    let next = format!("route_key_next={}", PrivateKey::new(random()).reveal());
    let rotated = Node::gateway(&[&current, &next]).await;
    let api = rotated.api();
    let shown = Flashed::provision(&api, "other").await.route_keys;
    assert!(shown[0] == *kept && shown[1] != *old, "{shown:?}");
    assert_eq!(flashed.login_to(old, claim(2, 1)).shake(rotated.devices()).await.told(), "silence");
    // The real client: it pins the old two, and finds the second by itself.
    api.provision("lamp").await;
    let device = Device::start("lamp", &[rotated.devices()]);
    device.attached(1).await;
    assert_eq!(api.send("lamp", "led/set", "?wait=acked", *b"x").await.text("state"), "acked");
}

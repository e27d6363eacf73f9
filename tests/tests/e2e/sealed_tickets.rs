//! Tickets: what ends them, what renews them, and who cannot take them away.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use imlink_protocol::message::{FromDevice, RejectCode, ToDevice};
use imlink_protocol::seal::{Claim, ToStranger};
use imlink_tests::api::Api;
use imlink_tests::node::Node;
use imlink_tests::proxy::{Fault, Proxy};
use imlink_tests::redis::{Keep, Redis};
use imlink_tests::sealed::{Flashed, attach, claim, connect};
use imlink_tests::wait::eventually;

use crate::main_job::lamp_behind_proxy;
use crate::sealed_keys::{attached, is_cut};

const SOON: Duration = Duration::from_secs(5);

/// The server takes the handshake, and refuses the device once it is proved which key its ticket was given for.
async fn is_refused(grant: &[u8], server: SocketAddr, claim: Claim) {
    let mut link = attach(grant, claim).shake(server).await.sealed();
    let answer = link.ask_hello().await;
    assert!(matches!(answer.read(), ToDevice::Reject { code: RejectCode::Ticket, retry_after_s: 0 }), "{answer:?}");
}

/// A ticket ends with the key that it was given for, as does the session.
async fn ends_with_its_key(node: &Node) {
    let (api, devices) = (node.api(), node.devices());
    let former = Flashed::provision(&api, "lamp").await;
    let session = former.attach(devices, claim(1, 1)).await;
    let epoch = session.epoch;
    let began = Instant::now();
    let second = Flashed::provision(&api, "lamp").await;
    let grant = is_cut(session, began).await;
    // The same boot with the next number, and another boot.
    is_refused(&grant, devices, claim(1, 2)).await;
    is_refused(&grant, devices, claim(2, 1)).await;
    assert_eq!(former.login(claim(1, 3)).shake(devices).await.told(), "unknown-device");
    let session = second.attach(devices, claim(3, 1)).await;
    assert!(session.epoch > epoch);

    let began = Instant::now();
    assert_eq!(api.ask(api.request(reqwest::Method::DELETE, "/v1/devices/lamp")).await.status, 204);
    let grant = is_cut(session, began).await;
    let third = Flashed::provision(&api, "lamp").await;
    is_refused(&grant, devices, claim(3, 2)).await;
    is_refused(&grant, devices, claim(4, 1)).await;
    let session = third.attach(devices, claim(5, 1)).await;
    // The same key once more changes nothing.
    let request = api.request(reqwest::Method::PUT, "/v1/devices/lamp");
    let body = serde_json::json!({ "public_key": third.private.public().to_string() });
    assert_eq!(api.ask(request.json(&body)).await.status, 200);
    let again = attached(&session.grant, devices, claim(5, 2)).await;
    assert!(again.epoch > session.epoch && api.is_online("lamp").await);
}

#[tokio::test]
async fn a_ticket_ends_with_its_key_in_memory() {
    ends_with_its_key(&Node::gateway(&[]).await).await;
}

#[tokio::test]
async fn a_ticket_ends_with_its_key_in_redis() {
    let redis = Redis::start(Keep::Nothing).await;
    let [store, _] = redis.settings();
    ends_with_its_key(&Node::gateway(&[&store]).await).await;
}

#[tokio::test]
async fn a_device_that_stays_attached_is_given_a_newer_ticket_before_the_first_one_ends() {
    let node = Node::gateway(&["server.ticket_life_s=10"]).await;
    let (api, devices) = (node.api(), node.devices());
    let flashed = Flashed::provision(&api, "lamp").await;
    let mut session = flashed.attach(devices, claim(1, 1)).await;
    let began = Instant::now();
    let body = session.link.next().await.expect("the session goes on");
    let ToDevice::Grant { grant } = body.read() else { panic!("no Grant: {body:?}") };
    println!("renewed after {:?}", began.elapsed());
    assert!((Duration::from_secs(4)..Duration::from_secs(9)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(api.metric("imlink_server_tickets_renewed_total", "").await, 1.0);
    assert_ne!(grant, session.grant);
    let mut attempt = 1;
    eventually("the first ticket is over", Duration::from_secs(10), async || {
        attempt += 1;
        (attach(&session.grant, claim(1, attempt)).shake(devices).await.told() == "ticket").then_some(())
    })
    .await;
    let again = attached(grant, devices, claim(1, attempt + 1)).await;
    assert!(again.epoch > session.epoch);
}

/// What a device began each of its connections with: `true` for a ticket.
fn tickets(proxy: &Proxy) -> Vec<bool> {
    // Behind two bytes of length.
    proxy.recorded().iter().filter_map(|said| said.get(2).map(|kind| *kind == 0x41)).collect()
}

#[tokio::test]
async fn a_forged_refusal_costs_one_try_and_takes_no_ticket_away() {
    let node = Node::gateway(&[]).await;
    let (api, proxy, device) = lamp_behind_proxy(&node).await;
    let mut refuse = [0; 16];
    let said = ToStranger::Refuse { code: RejectCode::Ticket, retry_after_s: 0 };
    let len = said.encode(&mut refuse).expect("a refusal is short");

    proxy.answer_next(&refuse[..len]);
    proxy.cut();
    device.attached(2).await;
    assert_eq!(tickets(&proxy), [false, true, false], "refused, then a login");

    // Nor does it let the device log in: then the ticket is what is left.
    proxy.answer_next(&refuse[..len]);
    proxy.answer_next(&refuse[..len]);
    proxy.cut();
    device.attached(3).await;
    assert_eq!(tickets(&proxy)[3..], [true, false, true]);
    assert_eq!(api.send("lamp", "led/set", "?wait=acked", *b"x").await.text("state"), "acked");
}

async fn connections(api: &Api, count: f64) {
    eventually(&format!("{count} connections"), SOON, async || {
        (api.metric("imlink_server_connections", "").await == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_late_answer_about_a_login_never_meets_the_connection_that_took_its_place() {
    let redis = Redis::start(Keep::Nothing).await;
    let proxy = Proxy::start(redis.address()).await;
    let store = format!("store=redis://{}", proxy.address());
    let slow = ["store_limits.response_timeout_ms=20000", "store_limits.silence_max_ms=20000"];
    let node = Node::gateway(&[&store, "io_threads=1", slow[0], slow[1]]).await;
    let (api, devices) = (node.api(), node.devices());
    let flashed = Flashed::provision(&api, "lamp").await;
    let nobody = Flashed { device: "nobody".into(), ..flashed.clone() };

    proxy.set(Fault::HoldAnswers);
    let mut gone = connect(devices).await;
    tokio::io::AsyncWriteExt::write_all(&mut gone, &nobody.login(claim(1, 1)).frame).await.expect("it is open");
    let asked = b"im:{-/nobody}";
    eventually("the store is asked who that is", SOON, async || {
        let recorded = proxy.recorded();
        recorded.iter().any(|said| said.windows(asked.len()).any(|part| part == asked)).then_some(())
    })
    .await;
    drop(gone);
    connections(&api, 0.0).await;
    let stays = connect(devices).await;
    connections(&api, 1.0).await;

    let begun = flashed.login(claim(1, 1));
    proxy.set(Fault::None);
    let mut session = begun.shake_over(stays, usize::MAX).await.sealed().open().await;
    session.link.send(&FromDevice::Ping { next_ms: 60_000 }).await;
    let pong = session.link.next().await.expect("the session goes on");
    assert!(matches!(pong.read(), ToDevice::Pong { .. }), "{pong:?}");
    assert_eq!(api.metric("imlink_server_handshakes_total", "reason=\"unknown-key\"").await, 0.0);
}

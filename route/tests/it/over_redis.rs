//! The same over Redis, whose answers take a round trip and sometimes do not come.

#[path = "../../../store/tests/redis_server/mod.rs"]
pub(crate) mod redis_server;

use std::time::{Duration, Instant};

use imlink_backend_client::{Message, Outcome, Pipeline};
use imlink_protocol::link::backend::{Failure, State, Wait};
use imlink_route::Limits;
use imlink_store::Store;
use redis_server::RedisServer;

use crate::support::{Got, Manner, Node, Setup, TOKEN, call, send, until};

async fn start() -> (RedisServer, Setup) {
    let redis = RedisServer::start();
    let store = Store::redis(&redis.url(), imlink_store::Config::default()).await.unwrap();
    (redis, Setup::over(store, Limits::default()).await)
}

#[tokio::test]
async fn pipelined_sends_are_stored_in_the_order_in_which_they_were_sent() {
    let (_redis, setup) = start().await;
    let mut node = Node::start(&setup, "im-1").await;
    for device in 0..10 {
        setup.attached(&format!("d{device}"), &node).await;
    }
    let address = setup.running.backend.unwrap().to_string();
    let mut pipeline = Pipeline::connect(&address, TOKEN, "bulk").await.unwrap();
    let mut done = Vec::new();
    for tag in 0..500u64 {
        let (device, payload) = (format!("d{}", tag % 10), tag.to_le_bytes());
        pipeline.send(tag, &Message::new(&device, "led/set", &payload).acked()).unwrap();
    }
    while pipeline.in_flight() > 0 {
        pipeline.receive(&mut done).await.unwrap();
    }
    let mut ids = vec![None; 500];
    for one in &done {
        let Ok(Outcome::Sent(sent)) = &one.outcome else { panic!("{one:?}") };
        assert_eq!(sent.state, State::Acked);
        ids[one.tag as usize] = Some(sent.id);
    }
    for tag in 10..500 {
        assert!(ids[tag] > ids[tag - 10], "{tag} was stored before an earlier one of its device");
    }
    for _ in 0..500 {
        assert!(matches!(node.next().await, Got::Deliver { .. }));
    }
}

#[tokio::test]
async fn without_its_store_a_route_refuses_sends_and_goes_on_with_calls() {
    let (mut redis, setup) = start().await;
    let node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    setup.route().send(send("lamp", Wait::Acked)).await.unwrap();
    redis.kill();
    let mut request = send("lamp", Wait::Stored);
    request.timeout = Some(Duration::from_secs(1));
    let began = Instant::now();
    let failed = setup.route().send(request).await.unwrap_err();
    assert_eq!(failed.failure.status(), 503);
    assert!(failed.retry_after.is_some());
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    setup.route().call(call("lamp", Duration::from_secs(2))).await.unwrap();

    redis.restart();
    let key = imlink_store::DeviceKey::single("lamp").unwrap();
    let back = Instant::now();
    until(async || setup.store.identity(&key).await.is_ok()).await;
    assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
    setup.device("lamp").await;
    let sent = setup.route().send(send("lamp", Wait::Stored)).await.unwrap();
    assert_eq!(sent.state, State::Waiting);
}

#[tokio::test]
async fn a_store_that_hangs_is_answered_as_may_be_stored_by_the_deadline_and_the_hint_follows() {
    let (redis, setup) = start().await;
    let mut node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    setup.route().send(send("lamp", Wait::Acked)).await.unwrap();
    assert!(matches!(node.next().await, Got::Deliver { .. }));
    node.behave(Manner::Mute);
    redis.signal("STOP");
    let mut request = send("lamp", Wait::Acked);
    request.timeout = Some(Duration::from_millis(300));
    let began = Instant::now();
    let failed = setup.route().send(request).await.unwrap_err();
    assert_eq!(failed.failure, Failure::MayBeStored);
    assert!(failed.detail.contains("idempotency key"), "{}", failed.detail);
    assert!(began.elapsed() < Duration::from_millis(450), "{:?}", began.elapsed());
    redis.signal("CONT");
    let Got::Deliver { report, .. } = node.next().await else { panic!() };
    assert!(!report, "nobody waits for it any more");
}

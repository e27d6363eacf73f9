//! Cables, servers and networks that fail.

use std::time::{Duration, Instant};

use imlink_firmware_interface::{Counter, Settings};
use imlink_firmware_tests::backend::Backend;
use imlink_firmware_tests::board::{Board, HOST, Setup};
use imlink_firmware_tests::resolver::Resolver;
use imlink_tests::node::Node;
use imlink_tests::proxy::{Fault, Proxy};
use imlink_tests::redis::{Keep, Redis};
use imlink_tests::wait::eventually;

use crate::{DEVICE, attached};

#[tokio::test]
async fn a_cable_out_for_thirty_seconds_loses_nothing() {
    let (node, mut board, backend) = attached(&[], |setup| setup).await;
    let mut expected = Counter::default();
    expected.add(backend.add(1, 0).await, false, 1);
    board.plug(false);
    let out = Instant::now();
    board.logged("network is down", 1).await;
    let api = node.api();
    for number in 2..=10 {
        expected.add(backend.add(number, 0).await, false, number);
    }
    // The time itself is what is tested: it is longer than the board's first tries.
    tokio::time::sleep_until((out + Duration::from_secs(30)).into()).await;
    board.plug(true);
    let back = Instant::now();
    board.attached(2).await;
    println!("back {:?} after the cable", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(15), "{:?}", back.elapsed());
    let counter = counted(&backend, 10).await;
    assert_eq!((counter.count, counter.sum, counter.digest), (10, 55, expected.digest));
    assert!(api.is_online(DEVICE).await);
}

/// Waits until the board counted `count` messages.
async fn counted(backend: &Backend, count: u32) -> Counter {
    eventually("the board counted", Duration::from_secs(40), async || {
        let counter = backend.counter().await;
        (counter.count >= count).then_some(counter)
    })
    .await
}

#[tokio::test]
async fn a_killed_gateway_comes_back_and_nothing_is_lost() {
    let redis = Redis::start(Keep::Everything).await;
    let (mut node, board, backend) = attached(&[&format!("store={}", redis.url())], |setup| setup).await;
    let mut expected = Counter::default();
    for number in 1..=20 {
        let id = backend.add(number, 50).await;
        expected.add(id, false, number);
    }
    board.logged("message ", 3).await;
    node.kill();
    board.logged("connection ended", 1).await;
    node.restart().await;
    board.attached(2).await;
    let counter = counted(&backend, 20).await;
    assert_eq!((counter.count, counter.sum, counter.digest), (20, 210, expected.digest));
}

#[tokio::test]
async fn a_link_that_swallows_everything_is_noticed_and_replaced() {
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let proxy = Proxy::start(node.devices()).await;
    let mut board = Board::start(Setup::new(DEVICE, &[proxy.address()]));
    board.attached(1).await;
    let backend = Backend::new(node.api(), DEVICE);
    board.set_temperature(20_000);
    backend.set(Settings { report_s: 2, led_at_boot: false }).await;
    proxy.set(Fault::BlackHole);
    let began = Instant::now();
    // An event that is not stored makes the board ask, and give up a server that does not answer.
    board.logged("connection ended", 1).await;
    println!("noticed after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(35), "{:?}", began.elapsed());
    proxy.set(Fault::None);
    board.attached(2).await;
    eventually("its events are stored", Duration::from_secs(20), async || {
        let (published, stored, dropped) = backend.status().await.events;
        (stored > 3 && published - stored < 3 && dropped == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn bits_that_flip_on_the_way_never_reach_a_handler() {
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let proxy = Proxy::start(node.devices()).await;
    let board = Board::start(Setup::new(DEVICE, &[proxy.address()]));
    board.attached(1).await;
    let backend = Backend::new(node.api(), DEVICE);
    // What belongs to attaching is over: its paths are known, its first event is stored.
    backend.do_now("led/set", &true).await;
    proxy.set(Fault::Flip);
    let flipped = backend.add(7, 0).await;
    board.logged("connection ended", 1).await;
    proxy.set(Fault::None);
    board.attached(2).await;
    eventually("the command is acknowledged", Duration::from_secs(20), async || {
        (backend.state(flipped).await == "acked").then_some(())
    })
    .await;
    let counter = backend.counter().await;
    assert_eq!((counter.count, counter.sum), (1, 7));
}

#[tokio::test]
async fn a_second_route_is_tried_when_the_first_is_not_there() {
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let nobody = imlink_tests::port::Port::free();
    let board = Board::start(Setup::new(DEVICE, &[nobody.address(), node.devices()]));
    board.attached(1).await;
    assert!(board.count("ConnectionRefused") >= 1, "{}", board.log());
}

#[tokio::test]
async fn a_route_may_be_a_name_that_is_looked_up_where_dhcp_says() {
    let mut node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let resolver = Resolver::start("gateway.test", HOST).await;
    let named = |name: &str| format!("route={name}:{}", node.devices().port());
    let setup = Setup::new(DEVICE, &[]).with(&named("nobody.test")).with(&named("gateway.test"));
    let board = Board::start(setup.resolved_by(resolver.ip()));
    board.attached(1).await;
    assert_eq!(board.count("the name of the server is not found"), 1, "{}", board.log());
    Backend::new(node.api(), DEVICE).do_now("led/set", &true).await;
    // When the connection is lost it is looked up anew.
    let asked = resolver.asked();
    node.kill();
    eventually("it asks again", Duration::from_secs(40), async || (resolver.asked() > asked).then_some(())).await;
}

#[tokio::test]
async fn a_revoked_device_is_sent_away_and_told_why() {
    let (node, board, backend) = attached(&[], |setup| setup).await;
    assert_eq!(node.api().revoke(DEVICE).await.status, 200);
    board.logged("connection ended", 1).await;
    board.logged("revoked", 1).await;
    let refused = backend.send("led/set", "", &true).await;
    assert_eq!(refused.problem(), "revoked", "{refused:?}");
    assert!(!node.api().is_online(DEVICE).await);
}

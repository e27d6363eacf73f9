//! Leaving in good order.

use std::time::{Duration, Instant};

use imlink_backend_client::{Client, Message};
use imlink_protocol::link::backend::{State, Wait};
use imlink_route::Limits;

use crate::support::{Got, Manner, Node, Setup, TOKEN, send, until};

#[tokio::test]
async fn a_leaving_route_finishes_what_is_in_flight_and_takes_its_lease_out() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    let device = setup.attached("lamp", &node).await;
    node.behave(Manner::Mute);
    let client = setup.client().await;
    let waiting = tokio::spawn(async move { client.send(&Message::new("lamp", "led/set", b"on").acked()).await });
    let Got::Deliver { id, .. } = node.next().await else { panic!() };
    let epoch = node.epoch("lamp");
    setup.shutdown.cancel();
    until(async || setup.store.routes().await.unwrap().is_empty()).await;
    assert!(!setup.route().is_ready());
    let ack = imlink_store::mailbox::Acknowledge { device, epoch, upto: id, rejected: Vec::new() };
    setup.store.acknowledge(&[ack]).await.unwrap();
    node.say(&imlink_protocol::link::node::ToRoute::Acked { device: "-/lamp", epoch, id });
    assert_eq!(waiting.await.unwrap().unwrap().state, State::Acked);
    let began = Instant::now();
    setup.running.finished().await;
    assert!(began.elapsed() < Duration::from_secs(3), "it does not wait for the whole drain time");
}

#[tokio::test]
async fn the_drain_time_is_the_longest_a_route_stays() {
    let setup = Setup::with(Limits { drain_s: 1, ..Limits::default() }).await;
    setup.device("away").await;
    let route = setup.route().clone();
    let waiting = tokio::spawn(async move {
        let mut request = send("away", Wait::Acked);
        request.timeout = Some(Duration::from_secs(600));
        route.send(request).await
    });
    let device = imlink_store::DeviceKey::single("away").unwrap();
    until(async || setup.store.identity(&device).await.unwrap().unwrap().mailbox.waiting == 1).await;
    let began = Instant::now();
    setup.shutdown.cancel();
    setup.running.finished().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(waiting.is_finished(), "and whoever waits is answered");
    assert_eq!(waiting.await.unwrap().unwrap().state, State::Unknown);
}

#[tokio::test]
async fn a_client_with_two_routes_moves_on_when_one_leaves() {
    let one = Setup::start().await;
    let two = Setup::over(one.store.clone(), Limits::default()).await;
    one.device("away").await;
    let both = format!("{},{}", one.running.backend.unwrap(), two.running.backend.unwrap());
    let client = Client::connect(&both, TOKEN, "tests").await.unwrap();
    one.shutdown.cancel();
    for _ in 0..100 {
        client.send(&Message::new("away", "led/set", b"on")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! IM-servers: proven, named once, in the store while they live.

use std::time::{Duration, Instant};

use imlink_link::{OUTBOX_LEN_DEFAULT, over_tcp};
use imlink_protocol::link::backend::Wait;
use imlink_route::Limits;
use imlink_store::{Store, lease};
use tokio::net::TcpStream;

use crate::support::{Got, Node, SECRET, Setup, send, until};

async fn is_leased(setup: &Setup, node: &Node) -> bool {
    setup.store.servers().await.unwrap().iter().any(|one| one.incarnation == node.incarnation)
}

async fn silent(setup: &Setup, name: &str) -> Node {
    let stream = TcpStream::connect(setup.running.node.unwrap()).await.unwrap();
    let link = over_tcp(stream, OUTBOX_LEN_DEFAULT).unwrap();
    Node::silent(link, setup.store.clone(), name, true).await
}

#[tokio::test]
async fn a_proven_server_is_put_in_the_store_and_told_its_keys() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    until(async || is_leased(&setup, &node).await).await;
    let server = &setup.route().servers()[0];
    assert_eq!((server.name.as_str(), server.capacity, server.labels.as_str()), ("im-1", 1000, "zone=eu"));
    assert_eq!(setup.store.routes().await.unwrap()[0].name, "route-1");
}

#[tokio::test]
async fn a_server_without_the_secret_is_refused_and_nowhere_to_be_found() {
    let setup = Setup::start().await;
    let mut node = silent(&setup, "im-1").await;
    node.register("another secret");
    let Got::Refused(why) = node.next().await else { panic!() };
    assert!(why.contains("same cluster secret"), "{why}");
    assert!(setup.route().servers().is_empty());
    assert!(setup.store.servers().await.unwrap().is_empty());
}

#[tokio::test]
async fn of_two_servers_with_one_name_the_newer_stays_and_the_other_is_told() {
    let setup = Setup::start().await;
    let mut old = Node::start(&setup, "im-1").await;
    let new = Node::start(&setup, "im-1").await;
    let Got::Refused(why) = old.next().await else { panic!() };
    assert!(why.contains("own name"), "{why}");
    let mut again = silent(&setup, "im-1").await;
    again.incarnation = old.incarnation;
    again.register(SECRET);
    assert!(matches!(again.next().await, Got::Refused(_)), "the older one does not come back");
    assert_eq!(setup.route().servers()[0].incarnation, new.incarnation);
}

#[tokio::test]
async fn a_dead_server_leaves_the_store_at_once() {
    let setup = Setup::start().await;
    let node = Node::unreachable(&setup, "im-1").await;
    until(async || is_leased(&setup, &node).await).await;
    let began = Instant::now();
    node.sender.close();
    until(async || !is_leased(&setup, &node).await).await;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(setup.route().servers().is_empty());
}

#[tokio::test]
async fn a_server_that_lost_its_link_and_still_takes_devices_stays_in_the_store() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    until(async || is_leased(&setup, &node).await).await;
    node.sender.close();
    until(async || setup.route().servers().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(is_leased(&setup, &node).await);
}

#[tokio::test]
async fn garbage_on_a_link_ends_that_link_only() {
    use tokio::io::AsyncWriteExt;
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    let mut stranger = TcpStream::connect(setup.running.node.unwrap()).await.unwrap();
    stranger.write_all(&[0xff; 100]).await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut stranger, &mut rest);
    tokio::time::timeout(Duration::from_secs(5), closed).await.expect("it stays open").ok();
    setup.route().send(send("lamp", Wait::Acked)).await.unwrap();
}

#[tokio::test]
async fn a_starting_route_is_ready_once_it_heard_the_known_servers() {
    let store = Store::memory(imlink_store::Config::default());
    let known = lease::Server {
        name: "im-9".into(),
        incarnation: 1,
        device_address: "127.0.0.1:1".into(),
        capacity: 1,
        labels: String::new(),
    };
    store.register_server(&known, Duration::from_secs(60)).await.unwrap();
    let setup = Setup::over(store, Limits::default()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!setup.route().is_ready());
    let mut node = silent(&setup, "im-9").await;
    node.incarnation = 1;
    node.register(SECRET);
    assert!(matches!(node.next().await, Got::Registered { .. }));
    until(async || setup.route().is_ready()).await;
}

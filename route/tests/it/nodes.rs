//! IM-servers: proven, named once, in the store while they live.

use std::time::{Duration, Instant};

use imlink_link::seal::SealError;
use imlink_protocol::MessageId;
use imlink_protocol::link::backend::{State, Wait};
use imlink_protocol::link::node::{Load, ToRoute};
use imlink_route::Limits;
use imlink_store::node::NodeRole;
use imlink_store::{Store, lease};
use tokio::net::TcpStream;

use crate::over_redis::redis_server::RedisServer;
use crate::support::{Got, Node, Setup, key_of, route_key, sealed, send, until};

async fn is_leased(setup: &Setup, node: &Node) -> bool {
    setup.store.servers().await.unwrap().iter().any(|one| one.incarnation == node.incarnation)
}

async fn silent(setup: &Setup, name: &str) -> Node {
    setup.store.enrol_node(NodeRole::Server, name, key_of(name).public().0, None).await.unwrap();
    let link = sealed(setup.running.node.unwrap(), name, &key_of(name)).await.unwrap();
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
async fn a_server_whose_key_is_not_enrolled_is_nowhere_to_be_found() {
    let setup = Setup::start().await;
    let at = setup.running.node.unwrap();
    // Nothing is enrolled.
    assert!(matches!(sealed(at, "im-1", &key_of("im-1")).await, Err(SealError::Closed)));
    setup.store.enrol_node(NodeRole::Server, "im-1", key_of("im-1").public().0, None).await.unwrap();
    // Another key under that name, that key under another name, and the key of a route.
    setup.store.enrol_node(NodeRole::Server, "im-2", key_of("im-2").public().0, None).await.unwrap();
    for (name, key) in [("im-1", key_of("im-2")), ("im-2", key_of("im-1")), ("route-1", route_key())] {
        assert!(sealed(at, name, &key).await.is_err(), "{name}");
    }
    assert!(setup.route().servers().is_empty());
    assert!(setup.store.servers().await.unwrap().is_empty());
    assert!(sealed(at, "im-1", &key_of("im-1")).await.is_ok());
}

#[tokio::test]
async fn a_server_whose_key_is_removed_is_cut_within_two_seconds_and_does_not_come_back() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    let stays = Node::start(&setup, "im-2").await;
    assert!(setup.store.remove_node(NodeRole::Server, "im-1").await.unwrap());
    let removed = Instant::now();
    until(async || node.sender.is_closed()).await;
    assert!(removed.elapsed() < Duration::from_secs(2), "{:?}", removed.elapsed());
    until(async || setup.route().servers().len() == 1).await;
    assert!(sealed(setup.running.node.unwrap(), "im-1", &key_of("im-1")).await.is_err());
    assert!(!stays.sender.is_closed());
}

#[tokio::test]
async fn a_key_that_the_store_lost_is_put_back_while_its_link_stands() {
    let redis = RedisServer::start();
    let store = Store::redis(&redis.url(), imlink_store::Config::default()).await.unwrap();
    let setup = Setup::over(store, Limits::default()).await;
    let node = Node::start(&setup, "im-1").await;
    redis::cmd("FLUSHALL").exec(&mut redis.connection()).unwrap();
    until(async || setup.store.nodes().await.unwrap().len() == 2).await;
    assert!(!node.sender.is_closed());
}

#[tokio::test]
async fn a_server_that_states_the_incarnation_of_another_one_is_refused() {
    let setup = Setup::start().await;
    let honest = Node::start(&setup, "im-1").await;
    let mut thief = silent(&setup, "im-2").await;
    thief.incarnation = honest.incarnation;
    thief.register();
    let Got::Refused(why) = thief.next().await else { panic!() };
    assert!(why.contains("another IM-server's"), "{why}");
    assert_eq!(setup.route().servers()[0].name, "im-1");
}

#[tokio::test]
async fn a_server_with_the_incarnation_of_a_lost_one_is_believed_nothing_about_its_devices() {
    let setup = Setup::start().await;
    let honest = Node::start(&setup, "im-1").await;
    let lamp = setup.attached("lamp", &honest).await;
    honest.sender.close();
    until(async || setup.route().servers().is_empty()).await;
    let mut thief = silent(&setup, "im-2").await;
    thief.incarnation = honest.incarnation;
    thief.register();
    assert!(matches!(thief.next().await, Got::Registered { .. }));
    thief.load(Load::default());
    thief.known(&setup).await;
    let sending = tokio::spawn({
        let route = setup.route().clone();
        let asked =
            imlink_route::request::Send { timeout: Some(Duration::from_millis(600)), ..send("lamp", Wait::Acked) };
        async move { route.send(asked).await }
    });
    // It is not told of the message, and what it says of it is not believed.
    until(async || setup.store.heads(std::slice::from_ref(&lamp)).await.unwrap()[0].waiting == 1).await;
    let head = setup.store.heads(std::slice::from_ref(&lamp)).await.unwrap()[0];
    let id = MessageId::new(head.generation, head.last);
    thief.say(&ToRoute::Acked { device: "-/lamp", epoch: honest.epoch("lamp"), id });
    let sent = sending.await.unwrap().unwrap();
    assert_eq!(sent.state, State::Sent);
    assert!(thief.got.try_recv().is_err(), "it was told of a device that is not its own");
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
    again.register();
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
    node.register();
    assert!(matches!(node.next().await, Got::Registered { .. }));
    until(async || setup.route().is_ready()).await;
}

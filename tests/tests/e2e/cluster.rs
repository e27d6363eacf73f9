//! Routes and IM-servers around Redis: what a loss of one of them means for a device and for a backend.

use std::time::{Duration, Instant};

use imlink_backend_client::{Call, Client, Message, State};
use imlink_tests::api::Api;
use imlink_tests::cluster::Cluster;
use imlink_tests::device::Device;
use imlink_tests::node::{Node, Role, TOKEN};
use imlink_tests::proxy::{Fault, Proxy};
use imlink_tests::redis::{Keep, Redis};
use imlink_tests::wait::eventually;

/// DESIGN: a message stored before a loss arrives within 5 s of the loss being seen.
const ARRIVE: Duration = Duration::from_secs(5);

async fn lamp(cluster: &Cluster) -> (Api, Device) {
    let api = cluster.routes[0].api();
    api.provision("lamp").await;
    let device = Device::start("lamp", &cluster.logins());
    device.attached(1).await;
    (api, device)
}

/// Index of the server that holds the lamp.
async fn server_of(cluster: &Cluster, api: &Api) -> usize {
    let session = api.get("/v1/devices/lamp").await.json()["session"]["server"].clone();
    let at = cluster.servers.iter().position(|server| session == server.name());
    at.unwrap_or_else(|| panic!("the lamp is at {session}"))
}

#[tokio::test]
async fn any_route_reaches_a_device_at_any_server() {
    let cluster = Cluster::start(2, 2, &[]).await;
    let (_, device) = lamp(&cluster).await;
    for (number, route) in (0u8..).zip(&cluster.routes) {
        let sent = route.api().send("lamp", "led/set", "?wait=acked", [number]).await;
        assert_eq!(sent.text("state"), "acked", "{sent:?}");
        let call = route.api().call("lamp", "echo", "", [number]).await;
        assert_eq!((call.status, call.body), (200, vec![number]));
        let client = Client::connect(&route.backends().to_string(), TOKEN, "backend").await.unwrap();
        let sent = client.send(&Message::new("lamp", "led/set", &[number + 10]).acked()).await.unwrap();
        assert_eq!(sent.state, State::Acked);
        let replied = client.call(&Call::new("lamp", "echo", b"link")).await.unwrap();
        assert_eq!(&replied.payload[..], b"link");
    }
    let payloads: Vec<_> = device.got().iter().map(|got| got.payload[0]).collect();
    assert_eq!(payloads, [0, 10, 1, 11]);
}

#[tokio::test]
async fn a_device_revoked_at_any_route_is_cut_within_two_seconds_wherever_it_is() {
    let cluster = Cluster::start(2, 2, &[]).await;
    let (_, device) = lamp(&cluster).await;
    let began = Instant::now();
    let revoked = cluster.routes[1].api().revoke("lamp").await;
    assert_eq!((revoked.status, &revoked.json()["revoked"]), (200, &true.into()), "{revoked:?}");
    eventually("the session is closed", Duration::from_secs(2), async || {
        device.link().filter(|link| !link.is_attached())
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(2));
    for route in &cluster.routes {
        assert_eq!(route.api().send("lamp", "led/set", "", *b"1").await.problem(), "revoked");
        assert!(!route.api().is_online("lamp").await);
    }
    drop(device);
    assert_eq!(cluster.routes[0].api().restore("lamp").await.status, 200);
    Device::start("lamp", &cluster.logins()).attached(1).await;
}

#[tokio::test]
async fn events_of_every_server_reach_every_route() {
    let cluster = Cluster::start(2, 2, &[]).await;
    let mut streams = Vec::new();
    for route in &cluster.routes {
        let mut stream = route.api().events("", None).await;
        stream.next().await;
        streams.push(stream);
    }
    let (_, device) = lamp(&cluster).await;
    device.publish(*b"a");
    for stream in &mut streams {
        assert_eq!(stream.next().await.unwrap().data["payload_base64"], "YQ==");
    }
}

#[tokio::test]
async fn what_a_killed_server_did_not_deliver_arrives_elsewhere_within_five_seconds() {
    let mut cluster = Cluster::start(2, 2, &[]).await;
    let (api, device) = lamp(&cluster).await;
    let at = server_of(&cluster, &api).await;
    // It takes in hints and does nothing with them; then it is gone.
    cluster.servers[at].process().stop();
    let mut ids = Vec::new();
    for number in 0..5u8 {
        let sent = api.send("lamp", "led/set", "", [number]).await;
        assert_eq!(sent.status, 202, "{sent:?}");
        ids.push(sent.text("id"));
    }
    assert_eq!(device.got(), []);
    cluster.servers[at].kill();
    let killed = Instant::now();
    let got = device.has_got(5).await;
    assert!(killed.elapsed() < ARRIVE, "only after {:?}", killed.elapsed());
    assert_eq!(got.iter().map(|got| got.payload[0]).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let now_at = server_of(&cluster, &api).await;
    assert_ne!(now_at, at);
    let name = cluster.servers[at].name().to_owned();
    eventually("the killed server is nowhere", Duration::from_secs(10), async || {
        let named = api.servers().await.iter().any(|(server, _)| *server == name);
        let leases = cluster.redis.command(&["KEYS", &format!("*{name}*")]).await.ok()?;
        (!named && leases.starts_with("*0")).then_some(())
    })
    .await;
    for id in ids {
        eventually("acked", ARRIVE, async || (api.state("lamp", &id).await == "acked").then_some(())).await;
    }
}

/// A route whose link to its server passes a proxy, and a second one without.
async fn with_proxied_route() -> (Redis, Vec<Node>, Node, Proxy) {
    let redis = Redis::start(Keep::Everything).await;
    let [store, state] = redis.settings();
    let nodes = imlink_tests::port::Port::free();
    let proxy = Proxy::start(nodes.address()).await;
    let (listen, address) = (format!("node_listen={}", nodes.address()), format!("node_address={}", proxy.address()));
    let mut routes = vec![
        Node::launch(Role::Route, "route-1", &[&store, &state, &listen, &address]),
        Node::launch(Role::Route, "route-2", &[&store, &state]),
    ];
    let mut server = Node::launch(Role::Server, "server-1", &[&store, &state]);
    for node in routes.iter_mut().chain([&mut server]) {
        node.ready().await;
    }
    for route in &routes {
        let api = route.api();
        eventually("the server is known", Duration::from_secs(20), async || {
            (api.servers().await.len() == 1).then_some(())
        })
        .await;
    }
    (redis, routes, server, proxy)
}

#[tokio::test]
async fn what_a_killed_route_did_not_hand_over_arrives_within_five_seconds_at_an_idle_device() {
    let (_redis, mut routes, _server, proxy) = with_proxied_route().await;
    let logins: Vec<_> = routes.iter().map(Node::devices).collect();
    let api = routes[0].api();
    api.provision("lamp").await;
    let device = Device::start("lamp", &logins);
    device.attached(1).await;
    // Its hints are lost on the way; then it is gone.
    proxy.set(Fault::BlackHole);
    for number in 0..5u8 {
        assert_eq!(api.send("lamp", "led/set", "", [number]).await.status, 202);
    }
    assert_eq!(device.got(), []);
    routes[0].kill();
    proxy.cut();
    let killed = Instant::now();
    let got = device.has_got(5).await;
    assert!(killed.elapsed() < ARRIVE, "only after {:?}", killed.elapsed());
    assert_eq!(got.iter().map(|got| got.payload[0]).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(device.link().map(|link| link.sessions), Some(1), "the idle device had to come back");
}

#[tokio::test]
async fn a_link_between_route_and_server_that_swallows_everything_is_noticed_and_replaced() {
    let (_redis, routes, _server, proxy) = with_proxied_route().await;
    let api = routes[0].api();
    api.provision("lamp").await;
    let device = Device::start("lamp", &[routes[1].devices()]);
    device.attached(1).await;
    proxy.set(Fault::BlackHole);
    assert_eq!(api.send("lamp", "led/set", "", *b"x").await.status, 202);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Old connections stay dead; only new ones work.
    let dead = proxy.connections();
    eventually("the dead link is given up", Duration::from_secs(20), async || {
        let is_given_up = routes[0].log().contains("Silent");
        if is_given_up {
            proxy.set(Fault::None);
        }
        (is_given_up && proxy.connections() > dead).then_some(())
    })
    .await;
    device.has_got(1).await;
    assert_eq!(api.send("lamp", "led/set", "?wait=acked", *b"y").await.text("state"), "acked");
    assert_eq!(device.link().map(|link| link.sessions), Some(1));
}

#[tokio::test]
async fn a_call_to_a_device_of_a_killed_server_is_answered_honestly() {
    let mut cluster = Cluster::start(1, 2, &[]).await;
    let (api, device) = lamp(&cluster).await;
    let at = server_of(&cluster, &api).await;
    let calling = tokio::spawn({
        let api = api.clone();
        async move { api.call("lamp", "slow", "?timeout=15", *b"x").await }
    });
    eventually("the call runs", ARRIVE, async || (!device.calls().is_empty()).then_some(())).await;
    cluster.servers[at].kill();
    let answer = calling.await.unwrap();
    assert_eq!((answer.status, answer.problem().as_str()), (502, "disconnected"), "{answer:?}");
    assert_eq!(answer.json()["may_have_run"], true);
    device.attached(2).await;
    let call = api.call("lamp", "echo", "", *b"again").await;
    assert_eq!((call.status, &call.body[..]), (200, &b"again"[..]), "{call:?}");
}

#[tokio::test]
async fn a_draining_server_sends_its_devices_away_in_good_order() {
    let mut cluster = Cluster::start(1, 2, &["server.drain_s=4"]).await;
    let (api, device) = lamp(&cluster).await;
    let at = server_of(&cluster, &api).await;
    let status = cluster.servers[at].leave(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}");
    device.attached(2).await;
    assert_ne!(server_of(&cluster, &api).await, at);
    assert_eq!(api.send("lamp", "led/set", "?wait=acked", *b"x").await.text("state"), "acked");
    cluster.is_known(1).await;
}

#[tokio::test]
async fn a_forgotten_store_is_followed_by_no_silent_loss() {
    // Nothing but a heartbeat shows a server that its Redis forgot everything.
    let cluster = Cluster::start(1, 1, &["server.heartbeat_s=2"]).await;
    let (api, device) = lamp(&cluster).await;
    for number in 0..3u8 {
        assert_eq!(api.send("lamp", "led/set", "?wait=acked", [number]).await.text("state"), "acked");
    }
    // Everything is lost; the device's cursor is ahead of every new sequence.
    cluster.redis.command(&["FLUSHALL"]).await.unwrap();
    api.provision("lamp").await;
    eventually("the device takes what is new", Duration::from_secs(30), async || {
        let sent = api.send("lamp", "led/set", "?wait=acked&timeout=2", *b"new").await;
        (sent.text("state") == "acked").then_some(())
    })
    .await;
    let got = device.got();
    assert_eq!(got.iter().take(3).map(|got| got.payload[0]).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(got.iter().skip(3).all(|got| got.payload == b"new"), "{got:?}");
}

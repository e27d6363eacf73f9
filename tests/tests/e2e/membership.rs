//! Who belongs to a cluster: joining, staying, being removed, and rights in Redis.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use imlink_tests::cluster::Cluster;
use imlink_tests::device::Device;
use imlink_tests::node::{CLUSTER_SECRET, Node, Role};
use imlink_tests::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

/// A server with a state directory of its own, as on another machine.
fn elsewhere(cluster: &Cluster, name: &str, settings: &[&str]) -> Node {
    let [store, _] = cluster.redis.settings();
    let all: Vec<&str> = settings.iter().copied().chain([store.as_str()]).collect();
    Node::launch(Role::Server, name, &all)
}

async fn knows(cluster: &Cluster, count: usize) {
    let api = cluster.routes[0].api();
    eventually(&format!("{count} servers are known"), SOON, async || {
        (api.servers().await.len() == count).then_some(())
    })
    .await;
}

/// What `imlink node list` says of the server `name`.
fn state_of(cluster: &Cluster, name: &str) -> String {
    let list = cluster.routes[0].ask(&["node", "list", "--json"]);
    let nodes = list.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON object a line"));
    let found = nodes.filter(|node| node["role"] == "server").find(|node| node["name"] == name);
    found.map_or("unknown".into(), |node| node["state"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_server_joins_by_a_token_and_needs_none_from_then_on() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let token = cluster.routes[0].ask(&["node", "token", "--uses", "1"]);
    let mut node = elsewhere(&cluster, "server-2", &[&format!("join={}", token.trim())]);
    node.ready().await;
    knows(&cluster, 2).await;
    assert_eq!(state_of(&cluster, "server-2"), "up");
    // The token was good for one.
    let mut late = elsewhere(&cluster, "server-3", &[&format!("join={}", token.trim())]);
    eventually("the refusal is said", SOON, async || late.log().contains("does not belong").then_some(())).await;
    assert_eq!((state_of(&cluster, "server-3").as_str(), late.ended()), ("unknown", None));
    // Started again, it belongs; the token in its settings is used up.
    node.restart().await;
    knows(&cluster, 2).await;
    for (what, text) in [("joiner", node.log()), ("route", cluster.routes[0].log())] {
        assert!(!text.contains(token.trim()) && !text.contains(CLUSTER_SECRET), "the {what} logs a secret");
    }
}

#[tokio::test]
async fn a_server_without_a_token_stays_out_and_says_how_to_get_in() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let mut stranger = elsewhere(&cluster, "stranger", &[]);
    eventually("it says why", SOON, async || stranger.log().contains("no join token").then_some(())).await;
    let forged = format!("join=imj_0123456789abcdef_{}", "42".repeat(32));
    let mut forger = elsewhere(&cluster, "forger", &[&forged]);
    eventually("it says why", SOON, async || forger.log().contains("closed during the handshake").then_some(())).await;
    let api = cluster.routes[0].api();
    assert!(api.metric("imlink_route_links_ended_total", "reason=\"refused\"").await > 0.0);
    assert_eq!(api.servers().await.len(), 1);
    for node in [&mut stranger, &mut forger] {
        assert_ne!(node.api().try_get("/readyz").await.unwrap().status, 200);
        assert_eq!(node.ended(), None, "it keeps trying");
    }
}

#[tokio::test]
async fn a_removed_server_is_cut_within_two_seconds_and_stays_out_even_when_started_again() {
    let mut cluster = Cluster::start(1, 2, &[]).await;
    let api = cluster.routes[0].api();
    api.provision("lamp").await;
    let before = api.metric("imlink_route_links_ended_total", "reason=\"removed\"").await;
    cluster.routes[0].ask(&["node", "remove", "server-2"]);
    let removed = Instant::now();
    eventually("it is cut", SOON, async || (api.servers().await.len() == 1).then_some(())).await;
    assert!(removed.elapsed() < Duration::from_secs(2), "only after {:?}", removed.elapsed());
    assert!(api.metric("imlink_route_links_ended_total", "reason=\"removed\"").await > before);
    // It has the state directory with its join token, and does not come back by it.
    let node = &mut cluster.servers[1];
    eventually("it says why", SOON, async || node.log().contains("key was removed").then_some(())).await;
    assert_eq!(state_of(&cluster, "server-2"), "removed");
    assert_eq!(api.servers().await.len(), 1);
    // Devices are served by who is left.
    let device = Device::start("lamp", &cluster.logins());
    device.attached(1).await;
    assert_eq!(api.send("lamp", "led/set", "?wait=acked", *b"x").await.text("state"), "acked");
}

#[tokio::test]
async fn a_server_with_a_token_and_the_name_of_another_one_takes_nothing_over() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let before = cluster.routes[0].ask(&["node", "list", "--json"]);
    let token = cluster.routes[0].ask(&["node", "token", "--uses", "0", "--expires", "never"]);
    let pretender = elsewhere(&cluster, "server-1", &[&format!("join={}", token.trim())]);
    eventually("it is told", SOON, async || pretender.log().contains("has another key").then_some(())).await;
    assert_eq!(cluster.routes[0].ask(&["node", "list", "--json"]), before);
    let servers = cluster.routes[0].api().get("/v1/servers").await.json().to_string();
    assert!(servers.contains(&cluster.servers[0].devices().to_string()), "{servers}");
    assert!(!servers.contains(&pretender.devices().to_string()), "{servers}");
}

#[tokio::test]
async fn nodes_may_listen_for_one_another_beyond_loopback() {
    // An address of this machine that is not loopback, if it has one: nothing is sent.
    let probe = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let address = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let host = address.map_or(IpAddr::from([0, 0, 0, 0]), |address| address.ip());
    let listen = SocketAddr::new(host, 0);
    let cluster = Cluster::start(1, 1, &[]).await;
    let [store, state] = cluster.redis.settings();
    // Port 0: free on that address, and told to servers through the store. Without an address, every one.
    if host.is_unspecified() {
        return;
    }
    let mut route = Node::launch(Role::Route, "route-2", &[&store, &state, &format!("node_listen={listen}")]);
    route.ready().await;
    let api = route.api();
    eventually("the server links from afar", SOON, async || (api.servers().await.len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_cluster_does_its_work_as_users_of_redis_with_the_rights_of_their_roles() {
    let redis = imlink_tests::redis::Redis::start(imlink_tests::redis::Keep::Everything).await;
    let [_, state] = redis.settings();
    let url = |role: &str| format!("store=redis://imlink-{role}:{role}@{}", redis.address());
    let printed = imlink_tests::node::run(&["redis-acl", "--json"]);
    for line in printed.lines() {
        let user: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
        let name = user["user"].as_str().expect("a name");
        let password = format!(">{}", user["role"].as_str().expect("a role"));
        let mut words = vec!["ACL", "SETUSER", name, "reset", "on", &password];
        words.extend(user["rules"].as_array().expect("rules").iter().filter_map(|rule| rule.as_str()));
        assert_eq!(redis.command(&words).await.unwrap(), "+OK\r\n", "{name}");
    }
    redis.command(&["ACL", "SETUSER", "default", "off"]).await.unwrap();
    let mut route = Node::launch(Role::Route, "route-1", &[&url("route"), &state]);
    let mut server = Node::launch(Role::Server, "server-1", &[&url("server"), &state]);
    route.ready().await;
    server.ready().await;
    let api = route.api();
    eventually("the server is known", SOON, async || (api.servers().await.len() == 1).then_some(())).await;
    api.provision("lamp").await;
    let mut events = api.events("", None).await;
    events.next().await;
    let device = Device::start("lamp", &[route.devices()]);
    device.attached(1).await;
    assert_eq!(api.send("lamp", "led/set", "?wait=acked", *b"x").await.text("state"), "acked");
    assert_eq!(api.call("lamp", "echo", "", *b"y").await.body, b"y");
    // Another boot takes the session over: a kick, a detach, an attach.
    drop(device);
    let device = Device::start("lamp", &[route.devices()]);
    device.attached(1).await;
    assert_eq!(api.send("lamp", "led/set", "?wait=acked", *b"z").await.text("state"), "acked");
    for (what, log) in [("route", route.log()), ("server", server.log())] {
        assert!(!log.contains("NOPERM") && !log.contains("permission"), "the {what} was refused: {log}");
    }
    let node = route.ask_as(&url("admin"), &["node", "list", "--json"]);
    assert_eq!(node.lines().count(), 2, "{node}");
}

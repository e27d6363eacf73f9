//! A device's key in Redis, rewritten behind the routes' back: nobody logs in by it, and it is told.

use std::net::SocketAddr;

use imlink_protocol::key_pair::PrivateKey;
use imlink_tests::api::Api;
use imlink_tests::cluster::Cluster;
use imlink_tests::node::Node;
use imlink_tests::redis::{Keep, Redis};
use imlink_tests::sealed::{Flashed, claim, random};

/// Puts the key of `ARGV[1]`, in hexadecimal, in the place of the device's, with the rest of its record.
const REWRITE: &str = "local known = redis.call('HGET', KEYS[1], 'i') \
     local key = string.gsub(ARGV[1], '..', function(pair) return string.char(tonumber(pair, 16)) end) \
     return redis.call('HSET', KEYS[1], 'i', string.sub(known, 1, 8) .. key .. string.sub(known, 41))";

/// The store gets another key of `device`; who logs in is told nothing, `counter` counts it.
async fn is_refused(api: &Api, redis: &Redis, logins: SocketAddr, counter: &str, log: impl Fn() -> String) {
    let flashed = Flashed::provision(api, "lamp").await;
    assert_eq!(flashed.login(claim(1, 1)).shake(logins).await.told(), "sealed");
    let thief = Flashed { private: PrivateKey::new(random()), ..flashed.clone() };
    let key = thief.private.public().to_string();
    assert_eq!(redis.command(&["EVAL", REWRITE, "1", "im:{-/lamp}", &key]).await.unwrap(), ":0\r\n");
    for flashed in [&thief, &flashed] {
        assert_eq!(flashed.login(claim(1, 2)).shake(logins).await.told(), "unknown-device");
    }
    assert_eq!(api.metric(counter, "reason=\"forged-record\"").await, 2.0);
    assert!(log().contains("a key that no route of this cluster gave it"), "{}", log());
    let view = api.get("/v1/devices/lamp").await;
    assert_eq!((view.text("proof").as_str(), view.json()["public_key"].is_null()), ("forged", true));
    // The way back: the right key, from where it is known.
    let again = Flashed::provision(api, "lamp").await;
    assert_eq!(again.login(claim(2, 1)).shake(logins).await.told(), "sealed");
}

#[tokio::test]
async fn nobody_logs_in_at_a_route_by_a_key_that_no_route_wrote() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let route = &cluster.routes[0];
    let counter = "imlink_route_rejects_total";
    is_refused(&route.api(), &cluster.redis, route.devices(), counter, || route.log()).await;
}

#[tokio::test]
async fn nobody_logs_in_at_a_gateway_by_a_key_that_no_route_wrote() {
    let redis = Redis::start(Keep::Nothing).await;
    let [store, _] = redis.settings();
    let node = Node::gateway(&[&store]).await;
    is_refused(&node.api(), &redis, node.devices(), "imlink_server_handshakes_total", || node.log()).await;
}

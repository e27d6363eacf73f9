//! Interfaces, leases, health.

use std::time::Duration;

use imlink_protocol::id::Fingerprint;
use imlink_store::Store;
use imlink_store::lease::{Route, Server};

use crate::behaviours;
use crate::scene::*;

behaviours!(
    an_interface_is_found_by_tenant_and_fingerprint,
    routes_are_listed_while_their_lease_runs,
    servers_are_listed_as_they_registered,
    only_the_incarnation_that_is_registered_can_be_removed,
    a_lease_is_renewed_by_registering_again,
    the_store_answers_and_tells_the_time,
);

async fn an_interface_is_found_by_tenant_and_fingerprint(store: Store) {
    let interface: Vec<u8> = (0..=255).cycle().take(65_536).collect();
    let fingerprint = Fingerprint([0xfe; 16]);
    store.put_interface("-", fingerprint, &interface).await.expect("store");
    assert_eq!(store.interface("-", fingerprint).await.expect("store").expect("put"), interface);
    assert_eq!(store.interface("x", fingerprint).await.expect("store"), None);
    assert_eq!(store.interface("-", Fingerprint([1; 16])).await.expect("store"), None);
}

fn route(name: &str, incarnation: u64) -> Route {
    Route { name: name.into(), incarnation, node_address: "127.0.0.1:7001".into() }
}

async fn routes_are_listed_while_their_lease_runs(store: Store) {
    assert_eq!(store.routes().await.expect("store"), []);
    store.register_route(&route("a", u64::MAX), Duration::from_secs(60)).await.expect("store");
    store.register_route(&route("b", 2), Duration::from_millis(30)).await.expect("store");
    let wait = async {
        while store.routes().await.expect("store").len() != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the short lease ends");
    assert_eq!(store.routes().await.expect("store"), [route("a", u64::MAX)]);
}

async fn servers_are_listed_as_they_registered(store: Store) {
    let server = Server {
        name: "s1".into(),
        incarnation: 0xf000_0000_0000_0007,
        device_address: "127.0.0.1:7002".into(),
        capacity: 1_000_000,
        labels: "zone=north,disk=ssd".into(),
    };
    store.register_server(&server, Duration::from_secs(60)).await.expect("store");
    assert_eq!(store.servers().await.expect("store"), [server]);
    assert_eq!(store.routes().await.expect("store"), []);
}

async fn only_the_incarnation_that_is_registered_can_be_removed(store: Store) {
    store.register_route(&route("a", 2), Duration::from_secs(60)).await.expect("store");
    store.remove_route("a", 1).await.expect("store");
    store.remove_route("b", 2).await.expect("store");
    assert_eq!(store.routes().await.expect("store").len(), 1);
    store.remove_route("a", 2).await.expect("store");
    assert_eq!(store.routes().await.expect("store"), []);
    store.remove_server("a", 2).await.expect("store");
}

async fn a_lease_is_renewed_by_registering_again(store: Store) {
    store.register_route(&route("a", 1), Duration::from_millis(1)).await.expect("store");
    store.register_route(&route("a", 2), Duration::from_secs(60)).await.expect("store");
    assert_eq!(store.routes().await.expect("store"), [route("a", 2)]);
}

async fn the_store_answers_and_tells_the_time(store: Store) {
    lamp(&store).await;
    store.ping().await.expect("store");
    let now_ms = store.now_ms().await.expect("store");
    let here_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    assert!(u128::from(now_ms).abs_diff(here_ms) < 10_000);
    assert_eq!(*store.outages().borrow(), 0);
}

//! What somebody can do who has a copy of everything in the store: read, and be nobody.

use std::collections::HashSet;

use imlink_protocol::hex::{self, Hex};
use imlink_protocol::key_pair::{PrivateKey, PublicKey};
use imlink_protocol::ticket;
use imlink_tests::cluster::Cluster;
use imlink_tests::node::{CLUSTER_SECRET, ROUTE_KEYS};
use imlink_tests::sealed::{Flashed, claim};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::sealed_keys::{attached, redirected};

fn holds(copy: &[u8], bytes: &[u8]) -> bool {
    copy.windows(bytes.len()).any(|window| window == bytes)
}

/// Public keys of the cluster's nodes, from the command that lists them.
fn nodes(cluster: &Cluster) -> Vec<[u8; 32]> {
    let said = cluster.routes[0].ask(&["node", "list", "--json"]);
    let key_of = |line| {
        let node: Value = serde_json::from_str(line).expect("a line of JSON for each node");
        node["key"].as_str().and_then(|key| key.parse().ok()).map(|key: PublicKey| key.0)
    };
    said.lines().map(|line| key_of(line).unwrap_or_else(|| panic!("no key: {line}"))).collect()
}

#[tokio::test]
async fn a_copy_of_the_store_lets_nobody_in() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let route = &cluster.routes[0];
    let api = route.api();
    let flashed = Flashed::provision(&api, "lamp").await;
    let (first, server) = redirected(&flashed, route.devices(), claim(1, 1)).await;
    let session = attached(&first, server, claim(1, 2)).await;
    let asked = api.request(Method::POST, "/v1/tokens").json(&json!({ "allow": ["send"], "name": "billing" }));
    let token = api.ask(asked).await.text("token");
    let join = route.ask(&["node", "token"]);
    assert_eq!(api.with_token(&token).send("lamp", "led/set", "", b"on".to_vec()).await.status, 202);

    let copy = cluster.redis.backup().await;
    // It is whole: what everybody may know is in it.
    let public = flashed.private.public().0;
    assert!(holds(&copy, b"lamp") && holds(&copy, &public) && holds(&copy, b"billing"));
    // What proves somebody is not, in no form.
    let (id, secret) = token.rsplit_once('_').expect("imt_ID_SECRET");
    let day_keys = [0, 1].map(|back| {
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        ticket::derive(CLUSTER_SECRET.as_bytes(), "server-1", ticket::day_of(now_s) - back).0.to_vec()
    });
    let secret = hex::read::<32>(secret).expect("32 bytes").to_vec();
    let join_secret = join.trim().rsplit_once('_').expect("imj_ID_SECRET").1;
    let join_secret = hex::read::<32>(join_secret).expect("32 bytes").to_vec();
    let mut secrets = vec![flashed.private.bytes().to_vec(), secret.clone(), CLUSTER_SECRET.into(), join_secret];
    secrets.extend(ROUTE_KEYS.map(|key| key.to_vec()));
    secrets.extend([&first, &session.grant].map(|grant| grant[..32].to_vec()));
    secrets.extend(day_keys);
    for (number, secret) in secrets.iter().enumerate() {
        assert!(
            !holds(&copy, secret) && !holds(&copy, Hex(secret).to_string().as_bytes()),
            "secret {number} is in the store"
        );
    }
    // No 32 bytes of it are a private key of a device, a route or a node.
    let nodes = nodes(&cluster);
    assert!(nodes.len() >= 2 && nodes.iter().all(|key| holds(&copy, key)), "{} nodes", nodes.len());
    let mut known: HashSet<[u8; 32]> = nodes.into_iter().collect();
    known.extend(ROUTE_KEYS.map(|key| PrivateKey::new(key).public().0));
    known.insert(public);
    let tried: HashSet<[u8; 32]> = copy.windows(32).filter_map(|window| window.try_into().ok()).collect();
    println!("{} bytes, {} of them tried as private keys", copy.len(), tried.len());
    for window in &tried {
        assert!(!known.contains(&PrivateKey::new(*window).public().0), "a private key is in the store");
    }
    // What it does hold of a token and of a device is no token and no key.
    let hash = Sha256::digest(&secret).to_vec();
    assert!(holds(&copy, &hash), "the store knows a token by its hash");
    let forged = api.with_token(&format!("{id}_{}", Hex(&hash)));
    assert_eq!(forged.send("lamp", "led/set", "", b"on".to_vec()).await.status, 401);
    let thief = Flashed { private: PrivateKey::new(public), ..flashed.clone() };
    assert_eq!(thief.login(claim(2, 1)).shake(route.devices()).await.told(), "unknown-device");
    assert_eq!(flashed.login(claim(2, 1)).shake(route.devices()).await.told(), "sealed");
}

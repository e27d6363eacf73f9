//! Budgets: what a device costs in Redis.

use super::*;

/// DESIGN §6.1.
const DEVICE_MAX: u64 = 600;
/// What a next key may add for as long as a change of keys is under way: the key, and what Redis rounds up.
const NEXT_KEY_MAX: u64 = 100;

async fn bytes_of(server: &RedisServer, device: &DeviceKey) -> u64 {
    let mut connection = server.connection();
    ["", ":q", ":o"]
        .iter()
        .map(|suffix| {
            let key = format!("im:{{{device}}}{suffix}");
            let bytes: Option<u64> = redis::cmd("MEMORY")
                .arg(&["USAGE", &key, "SAMPLES", "0"])
                .query(&mut connection)
                .expect("it can be asked");
            bytes.unwrap_or(0)
        })
        .sum()
}

#[tokio::test]
async fn a_device_with_one_waiting_message_costs_at_most_600_bytes() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let key = device("sensor-0123456789ab");
    store.provision(&key, Proof::key([9; 32])).await.expect("store");
    let provisioned = bytes_of(&server, &key).await;
    let stated = Fingerprint([7; 16]);
    attach(&store, &Attach { fingerprint: stated, key: KeyMark([9; 8]), ..hello(&key, 1) }).await;
    let attached = bytes_of(&server, &key).await;
    append(&store, &Append { ttl_s: 60, fingerprint: stated, token: TokenId([7; 8]), ..message(&key, 1) }).await;
    let waiting = bytes_of(&server, &key).await;
    store.set_next_key(&key, &[8; 32]).await.expect("store");
    let changing = bytes_of(&server, &key).await;
    println!(
        "provisioned {provisioned}, attached {attached}, with a waiting message {waiting}, and a next key {changing} bytes"
    );
    assert!(waiting <= DEVICE_MAX, "{waiting} bytes");
    assert!(changing <= DEVICE_MAX + NEXT_KEY_MAX, "{changing} bytes while its key is changed");
}

#[tokio::test]
async fn a_device_in_use_for_long_stays_a_listpack() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let key = device("sensor-0123456789ab");
    store.provision(&key, Proof::key([9; 32])).await.expect("store");
    for n in 1..=40 {
        let new = attach(&store, &Attach { key: KeyMark([9; 8]), ..hello(&key, n as u32) }).await;
        let id = append(&store, &Append { ttl_s: 60, ..message(&key, n) }).await.id;
        let ack = imlink_store::mailbox::Acknowledge {
            device: key.clone(),
            epoch: new.epoch,
            upto: id,
            rejected: Vec::new(),
        };
        store.acknowledge(&[ack]).await.expect("store");
    }
    append(&store, &Append { ttl_s: 60, ..message(&key, 41) }).await;
    let encoding: String = redis::cmd("OBJECT")
        .arg("ENCODING")
        .arg(format!("im:{{{key}}}"))
        .query(&mut server.connection())
        .expect("it can be asked");
    assert_eq!(encoding, "listpack");
    let bytes = bytes_of(&server, &key).await;
    println!("in use {bytes} bytes");
    assert!(bytes <= 800, "{bytes} bytes");
}

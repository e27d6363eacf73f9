//! A server's user may write a device's hash, since the session lies there. What it writes of the device's key is not
//! believed by routes.

use imlink_protocol::id::MessageId;
use imlink_store::acl::Role;
use imlink_store::session::{Forged, Promoted, Proof};
use imlink_store::{Config, DeviceKey, RecordKey, Store};

use crate::roles::{Guarded, lamp};

const KEYS: Proof = Proof::Keys { current: [5; 32], next: Some([6; 32]) };

fn with(secrets: &[&[u8]]) -> Config {
    Config { record_keys: secrets.iter().map(|secret| RecordKey::derive(secret)).collect(), ..Config::default() }
}

async fn proof(store: &Store) -> Result<Proof, Forged> {
    store.identity(&lamp()).await.expect("the store is there").expect("provisioned").proof
}

fn read(from: &mut redis::Connection, device: &str, field: &str) -> Vec<u8> {
    redis::cmd("HGET").arg(format!("im:{{-/{device}}}")).arg(field).query(from).expect("a server may read it")
}

fn write(to: &mut redis::Connection, field: &str, value: &[u8]) {
    redis::cmd("HSET").arg("im:{-/lamp}").arg(field).arg(value).exec(to).expect("a server may write it");
}

#[tokio::test]
async fn a_key_that_a_server_wrote_is_believed_by_no_route() {
    let guarded = Guarded::start();
    let route = guarded.open_with(Role::Route, with(&[b"secret"])).await;
    let server = guarded.open(Role::Server).await;
    let mut evil = guarded.raw(Role::Server);
    let door = DeviceKey::single("door").expect("is a device id");
    route.provision(&door, Proof::key([7; 32])).await.expect("a route may");
    route.provision(&lamp(), KEYS).await.expect("a route may");
    assert_eq!((proof(&route).await, proof(&server).await), (Ok(KEYS), Ok(KEYS)));
    let (current, next) = (read(&mut evil, "lamp", "i"), read(&mut evil, "lamp", "n"));
    let (head, mac) = (&current[..8], &current[40..]);
    assert_eq!((current.len(), next.len(), mac.len()), (56, 48, 16));
    let written = [
        ("a key without a mac", "i", [head, &[9; 32]].concat()),
        ("a key with the mac of another", "i", [head, &[9; 32], mac].concat()),
        ("the record of another device", "i", read(&mut evil, "door", "i")),
        ("no key", "i", head.to_vec()),
        ("no key, with the mac of one", "i", [head, mac].concat()),
        ("a next key with the mac of another", "n", [&[9; 32], &next[32..]].concat()),
        ("a next key without a mac", "n", vec![9; 32]),
    ];
    for (what, field, value) in written {
        write(&mut evil, field, &value);
        assert_eq!(proof(&route).await, Err(Forged), "{what}");
        assert!(proof(&server).await.is_ok(), "{what}: a server does not check");
        // Provisioning it again is the way back.
        route.provision(&lamp(), KEYS).await.expect("a route may");
        assert_eq!(proof(&route).await, Ok(KEYS), "{what}");
    }
    route.provision(&lamp(), Proof::Plain).await.expect("a route may");
    assert_eq!(proof(&route).await, Ok(Proof::Plain));
    write(&mut evil, "i", &current);
    assert_eq!(proof(&route).await, Ok(Proof::key([5; 32])), "what a route once gave this device, as documented");
}

#[tokio::test]
async fn a_change_of_key_carries_its_mac_along() {
    let guarded = Guarded::start();
    let route = guarded.open_with(Role::Route, with(&[b"secret"])).await;
    route.provision(&lamp(), Proof::key([5; 32])).await.expect("provision");
    route.set_next_key(&lamp(), &[6; 32]).await.expect("set_next_key");
    assert_eq!(proof(&route).await, Ok(KEYS));
    assert_eq!(route.promote_key(&lamp(), &[6; 32]).await.expect("promote_key"), Promoted::Promoted);
    assert_eq!(proof(&route).await, Ok(Proof::key([6; 32])));
    route.revoke(&lamp()).await.expect("revoke");
    route.restore(&lamp()).await.expect("restore");
    assert_eq!(proof(&route).await, Ok(Proof::key([6; 32])));
    assert_eq!(route.message_state(&lamp(), MessageId::new(1, 1)).await.expect("it is known").map(drop), Some(()));
}

#[tokio::test]
async fn a_record_under_the_former_secret_is_believed_and_written_anew_when_its_device_logs_in() {
    let guarded = Guarded::start();
    let before = guarded.open_with(Role::Route, with(&[b"former"])).await;
    let during = guarded.open_with(Role::Route, with(&[b"secret", b"former"])).await;
    let after = guarded.open_with(Role::Route, with(&[b"secret"])).await;
    before.provision(&lamp(), Proof::key([5; 32])).await.expect("provision");
    assert_eq!((proof(&during).await, proof(&after).await), (Ok(Proof::key([5; 32])), Err(Forged)));
    assert_eq!(during.promote_key(&lamp(), &[5; 32]).await.expect("promote_key"), Promoted::Current);
    assert_eq!((proof(&after).await, proof(&before).await), (Ok(Proof::key([5; 32])), Err(Forged)));
    // One that was written without any, as before there were macs.
    let without = guarded.open(Role::Route).await;
    without.provision(&lamp(), Proof::key([5; 32])).await.expect("provision");
    assert_eq!(proof(&after).await, Err(Forged));
}

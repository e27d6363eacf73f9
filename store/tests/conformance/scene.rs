//! What behaviours are made of.

use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::id::{Cursor, Epoch, Fingerprint, KeyMark, MessageId, TokenId};
use imlink_protocol::key::Key;
use imlink_protocol::message::Code;
use imlink_store::acl::Role;
use imlink_store::mailbox::{Acknowledge, Append, Appended, Read, State, Stored};
use imlink_store::session::{Attach, Attached, NewSession, Proof};
use imlink_store::{Config, DeviceKey, RecordKey, Store};

use crate::redis_server::RedisServer;

/// Small limits, so that tests reach them.
pub(crate) fn config() -> Config {
    Config { events_per_shard_max: 100, record_keys: vec![RecordKey::derive(b"secret")], ..Config::default() }
}

/// Opens the store as a user who may do what the roles' rules say and nothing else: a command that the rules do not
/// know fails the behaviour that needs it.
pub(crate) async fn open(server: &RedisServer) -> Store {
    server.set_user("everyone", &Role::ALL);
    Store::redis(&server.url_of("everyone"), config()).await.expect("a fresh Redis is usable")
}

/// A provisioned device.
pub(crate) async fn lamp(store: &Store) -> DeviceKey {
    let device = DeviceKey::single("lamp").expect("is a device id");
    store.provision(&device, Proof::Plain).await.expect("the store is there");
    device
}

/// A first attachment of a boot, to IM-server `a`.
pub(crate) fn hello(device: &DeviceKey) -> Attach {
    Attach {
        device: device.clone(),
        server: "a".into(),
        server_incarnation: 0xa000_0000_0000_0001,
        incarnation: 0xb000_0000_0000_0001,
        attempt: 1,
        key: KeyMark::PLAIN,
        epoch_floor: 0,
        cursor: Cursor::default(),
        fingerprint: Fingerprint::NONE,
        receive_limit: 4096,
        event_queue: 0,
        window: 16,
    }
}

pub(crate) async fn attach(store: &Store, attach: &Attach) -> NewSession {
    match store.attach(attach).await.expect("the store is there") {
        Attached::Session(new) => *new,
        refused => panic!("attach was refused: {refused:?}"),
    }
}

/// Message `n`: its id and payload say so.
pub(crate) fn message(device: &DeviceKey, n: u8) -> Append {
    Append {
        device: device.clone(),
        id: [n; 16],
        retry: false,
        key: Key([1, 2, 3, n]),
        fingerprint: Fingerprint::NONE,
        token: TokenId::NONE,
        ttl_s: 0,
        payload: Bytes::copy_from_slice(&[n; 16]),
        mailbox_max: 1000,
    }
}

pub(crate) async fn append(store: &Store, append: &Append) -> Stored {
    match store.append(append).await.expect("the store is there") {
        Appended::Stored(stored) => stored,
        refused => panic!("append was refused: {refused:?}"),
    }
}

/// Appends messages `1..=count`; their ids.
pub(crate) async fn fill(store: &Store, device: &DeviceKey, count: u8) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for n in 1..=count {
        ids.push(append(store, &message(device, n)).await.id);
    }
    ids
}

pub(crate) async fn acknowledge(store: &Store, device: &DeviceKey, epoch: Epoch, upto: MessageId) {
    reject(store, device, epoch, upto, &[]).await;
}

pub(crate) async fn reject(
    store: &Store,
    device: &DeviceKey,
    epoch: Epoch,
    upto: MessageId,
    rejected: &[(MessageId, Code)],
) {
    let ack = Acknowledge { device: device.clone(), epoch, upto, rejected: rejected.to_vec() };
    store.acknowledge(&[ack]).await.expect("the store is there");
}

pub(crate) async fn state(store: &Store, device: &DeviceKey, id: MessageId) -> State {
    store.message_state(device, id).await.expect("the store is there").expect("the device is there")
}

/// Reads everything behind `after` for a session; the payloads' numbers.
pub(crate) async fn numbers(store: &Store, device: &DeviceKey, epoch: Epoch, after: Cursor) -> Vec<u8> {
    let read = Read { device: device.clone(), epoch, after, limit: 255 };
    let page = store.read_mailbox(&read).await.expect("the store is there").expect("it is the session");
    page.entries.iter().filter_map(|entry| entry.payload.first().copied()).collect()
}

/// The payloads' numbers of what came with an attach.
pub(crate) fn offered_numbers(new: &NewSession) -> Vec<u8> {
    new.entries.iter().filter_map(|entry| entry.payload.first().copied()).collect()
}

/// Waits until a message is in a state.
pub(crate) async fn until_state(store: &Store, device: &DeviceKey, id: MessageId, wanted: State) {
    let wait = async {
        while state(store, device, id).await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), wait).await.is_err() {
        panic!("{id} is {:?}, not {wanted:?}", state(store, device, id).await);
    }
}

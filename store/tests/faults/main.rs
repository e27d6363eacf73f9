//! What happens to a store in Redis when Redis is killed, stopped, rolled back, full, or silent (DESIGN §6.5, §6.8).

#[path = "../redis_server/mod.rs"]
mod redis_server;

mod lineage;
mod memory_use;
mod outage;
mod proxy;
mod refusals;

use std::time::{Duration, Instant};

use bytes::Bytes;
use imlink_protocol::id::{Cursor, Fingerprint, KeyMark, TokenId};
use imlink_protocol::key::Key;
use imlink_store::mailbox::{Append, Appended, Stored};
use imlink_store::session::{Attach, Attached, NewSession, Proof};
use imlink_store::{Config, DeviceKey, Error, Store};

use crate::redis_server::RedisServer;

async fn open(server: &RedisServer) -> Store {
    Store::redis(&server.url(), Config::default()).await.expect("a fresh Redis is usable")
}

fn device(name: &str) -> DeviceKey {
    DeviceKey::single(name).expect("is a device id")
}

async fn provision(store: &Store, name: &str) -> DeviceKey {
    let device = device(name);
    store.provision(&device, Proof::Plain).await.expect("the store is there");
    device
}

fn message(device: &DeviceKey, n: u64) -> Append {
    Append {
        device: device.clone(),
        id: u128::from(n).to_be_bytes(),
        retry: false,
        key: Key([1, 2, 3, 4]),
        fingerprint: Fingerprint::NONE,
        token: TokenId::NONE,
        ttl_s: 0,
        payload: Bytes::copy_from_slice(&[7; 16]),
        mailbox_max: 1000,
    }
}

fn hello(device: &DeviceKey, attempt: u32) -> Attach {
    Attach {
        device: device.clone(),
        server: "server-1".into(),
        server_incarnation: 0xa1,
        incarnation: 0xb1,
        attempt,
        key: KeyMark::PLAIN,
        epoch_floor: 0,
        cursor: Cursor::default(),
        fingerprint: Fingerprint::NONE,
        receive_limit: 4096,
        event_queue: 0,
        window: 16,
    }
}

async fn attach(store: &Store, attach: &Attach) -> NewSession {
    match repeat(async || store.attach(attach).await).await {
        Attached::Session(new) => *new,
        refused => panic!("attach was refused: {refused:?}"),
    }
}

/// Appends as a route does: again, as a retry, until there is an answer.
async fn append(store: &Store, append: &Append) -> Stored {
    let mut append = append.clone();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match store.append(&append).await {
            Ok(Appended::Stored(stored)) => return stored,
            Ok(refused) => panic!("append was refused: {refused:?}"),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        append.retry = true;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Repeats a call while the store is away.
async fn repeat<T>(call: impl AsyncFn() -> Result<T, Error>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(Error::Away(why)) => assert!(Instant::now() < deadline, "away for 20 s: {why}"),
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! A Redis that would lose data, or is full.

use imlink_store::mailbox::Acknowledge;

use super::*;

#[tokio::test]
async fn a_redis_that_evicts_is_refused_and_told_what_to_do() {
    let server = RedisServer::start_with(&["--save", "", "--maxmemory-policy", "allkeys-lru"]);
    let error = Store::redis(&server.url(), Config::default()).await.expect_err("it would lose messages");
    assert!(matches!(error, Error::Unusable(_)));
    assert!(error.to_string().contains("CONFIG SET maxmemory-policy noeviction"), "{error}");
}

#[tokio::test]
async fn a_redis_with_a_password_is_refused_without_it() {
    let server = RedisServer::start_with(&["--save", "", "--requirepass", "secret"]);
    let error = Store::redis(&server.url(), Config::default()).await.expect_err("no password was given");
    assert!(matches!(error, Error::Unusable(_)), "{error}");
    let url = server.url().replace("redis://", "redis://:secret@");
    Store::redis(&url, Config::default()).await.expect("with it").ping().await.expect("it answers");
}

#[tokio::test]
async fn nobody_there_is_away() {
    let error = Store::redis("redis://127.0.0.1:1/", Config::default()).await.expect_err("nobody is there");
    assert!(matches!(error, Error::Away(_)), "{error}");
    let error = Store::redis("http://127.0.0.1/", Config::default()).await.expect_err("that is no Redis");
    assert!(matches!(error, Error::Unusable(_)), "{error}");
}

#[tokio::test]
async fn a_full_redis_refuses_appends_and_still_attaches_reads_and_trims() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let lamp = provision(&store, "lamp").await;
    let mut last = append(&store, &message(&lamp, 1)).await.id;
    for n in 2..=20 {
        last = append(&store, &message(&lamp, n)).await.id;
    }
    let limit = |bytes: &str| {
        let set = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(&mut server.connection());
        set.expect("maxmemory can be set");
    };
    limit("100000");
    let error = store.append(&message(&lamp, 21)).await.expect_err("Redis is full");
    assert!(matches!(error, Error::Full(_)), "{error}");
    let new = attach(&store, &hello(&lamp, 1)).await;
    assert_eq!(new.entries.len(), 16);
    let ack = Acknowledge { device: lamp.clone(), epoch: new.epoch, upto: last, rejected: Vec::new() };
    store.acknowledge(&[ack]).await.expect("an acknowledgement frees memory");
    assert_eq!(store.heads(std::slice::from_ref(&lamp)).await.expect("store")[0].waiting, 0);
    assert!(store.detach(&lamp, 0xa1, new.epoch).await.expect("store"));
    limit("0");
    append(&store, &message(&lamp, 22)).await;
}

//! Redis stops for a while, or its connection swallows everything.

use std::collections::HashSet;

use super::proxy::Proxy;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_over_a_stop_of_three_seconds_store_each_message_once() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let mut tasks = Vec::new();
    for d in 0..4u64 {
        let lamp = provision(&store, &format!("lamp-{d}")).await;
        for n in 0..4 {
            let (store, lamp) = (store.clone(), lamp.clone());
            tasks.push(tokio::spawn(async move {
                let mut ids = Vec::new();
                for i in 0..4 {
                    ids.push((lamp.clone(), append(&store, &message(&lamp, d << 16 | n << 8 | i)).await.id));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                ids
            }));
        }
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    server.signal("STOP");
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.signal("CONT");
    let mut ids = HashSet::new();
    for task in tasks {
        for id in task.await.expect("joined") {
            assert!(ids.insert(id), "one id for two messages");
        }
    }
    assert_eq!(ids.len(), 64);
    for d in 0..4 {
        let head = store.heads(&[device(&format!("lamp-{d}"))]).await.expect("store")[0];
        assert_eq!((head.last, head.waiting), (16, 16), "each of 16 messages once");
    }
}

#[tokio::test]
async fn a_connection_that_swallows_everything_is_rebuilt_within_three_seconds() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await;
    let url = format!("redis://{}/", proxy.address);
    let store = Store::redis(&url, Config::default()).await.expect("usable through the proxy");
    let lamp = provision(&store, "lamp").await;
    append(&store, &message(&lamp, 1)).await;
    proxy.swallow();
    let since = Instant::now();
    let stored = append(&store, &message(&lamp, 2)).await;
    assert!(since.elapsed() < Duration::from_millis(3500), "it took {:?}", since.elapsed());
    assert_eq!(stored.id.sequence, 2);
    assert_eq!(*store.outages().borrow(), 1);
}

#[tokio::test]
async fn an_idle_connection_that_swallows_everything_is_noticed() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.address()).await;
    let url = format!("redis://{}/", proxy.address);
    let store = Store::redis(&url, Config::default()).await.expect("usable through the proxy");
    let mut outages = store.outages();
    let opened = proxy.opened();
    proxy.swallow();
    let noticed = tokio::time::timeout(Duration::from_secs(5), outages.changed()).await;
    noticed.expect("within 5 s").expect("the store is there");
    assert!(proxy.opened() > opened);
    store.ping().await.expect("the store is back");
}

#[tokio::test]
async fn while_redis_is_away_calls_fail_at_once_and_work_again_within_two_seconds_of_its_return() {
    let mut server = RedisServer::start();
    let store = open(&server).await;
    let lamp = provision(&store, "lamp").await;
    server.kill();
    store.append(&message(&lamp, 1)).await.expect_err("Redis is killed");
    let since = Instant::now();
    let error = store.append(&message(&lamp, 2)).await.expect_err("Redis is killed");
    assert!(matches!(error, Error::Away(_)), "{error}");
    assert!(since.elapsed() < Duration::from_secs(1));
    server.restart();
    let since = Instant::now();
    repeat(async || store.ping().await).await;
    assert!(since.elapsed() < Duration::from_secs(2), "it took {:?}", since.elapsed());
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_made_known_again() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let lamp = provision(&store, "lamp").await;
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.connection()).expect("scripts can be flushed");
    assert_eq!(append(&store, &message(&lamp, 1)).await.id.sequence, 1);
}

#[tokio::test]
async fn a_blocking_read_fails_when_redis_is_killed_and_works_again_when_it_is_back() {
    let mut server = RedisServer::start();
    let store = open(&server).await;
    let tails = store.event_tails("-").await.expect("store");
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.wait_events("-", &tails, 10, Duration::from_secs(30)).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.kill();
    let answer = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("ends").expect("joined");
    assert!(matches!(answer, Err(Error::Away(_))), "{answer:?}");
    server.restart();
    let found = repeat(async || store.wait_events("-", &tails, 10, Duration::from_millis(10)).await).await;
    assert_eq!(found, []);
}

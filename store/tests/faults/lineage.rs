//! Redis lost some or all of its newest contents: a generation is opened, nothing newer is lost.

use imlink_protocol::id::{Cursor, KeyMark, MessageId};
use imlink_store::mailbox::{Acknowledge, Appended, State};
use imlink_store::session::{Attach, Reassert, Reasserted};

use super::*;

const ALWAYS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

#[tokio::test]
async fn what_was_stored_survives_a_kill_with_an_append_only_file() {
    let mut server = RedisServer::start_with(&ALWAYS);
    let store = open(&server).await;
    let lamp = provision(&store, "lamp").await;
    let old = append(&store, &message(&lamp, 1)).await.id;
    let recoveries = store.outages();
    server.kill();
    server.restart();
    repeat(async || store.ping().await).await;
    let new = append(&store, &message(&lamp, 2)).await.id;
    assert!(new.generation > old.generation, "another process is another lineage");
    assert_eq!(new.sequence, old.sequence + 1, "the sequence counts on");
    assert!(*recoveries.borrow() > 0, "IM-servers must be told to assert their sessions again");
    let session = attach(&store, &hello(&lamp, 1)).await;
    assert_eq!(
        session.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(),
        [old, new],
        "survivors keep their ids"
    );
    assert!(session.offered >= old && session.offered < new, "what survived may have reached the device");
}

#[tokio::test]
async fn after_a_lost_tail_no_new_message_has_the_id_of_a_lost_one() {
    let mut server = RedisServer::start_with(&["--appendonly", "no", "--save", ""]);
    let store = open(&server).await;
    let lamp = provision(&store, "lamp").await;
    append(&store, &message(&lamp, 1)).await;
    redis::cmd("SAVE").exec(&mut server.connection()).expect("a snapshot can be saved");
    let session = attach(&store, &hello(&lamp, 1)).await;
    let lost = append(&store, &message(&lamp, 2)).await.id;
    server.kill();
    server.restart();
    repeat(async || store.ping().await).await;
    let new = append(&store, &message(&lamp, 3)).await.id;
    assert_eq!(new.sequence, lost.sequence, "the lost one's place is taken");
    assert!(new > lost, "{new} would be dropped as a duplicate of {lost}");
    let state = store.message_state(&lamp, lost).await.expect("store").expect("known");
    assert_eq!(state, State::Unknown, "a lost message never reads as handled");
    let next = attach(&store, &Attach { epoch_floor: session.epoch, cursor: lost, ..hello(&lamp, 2) }).await;
    assert!(next.epoch > session.epoch, "epochs do not repeat");
    assert_eq!(next.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [new]);
}

#[tokio::test]
async fn a_retry_across_a_lost_tail_is_unknown_and_not_stored_again() {
    let mut server = RedisServer::start_with(&["--appendonly", "no", "--save", ""]);
    let store = open(&server).await;
    let lamp = provision(&store, "lamp").await;
    append(&store, &message(&lamp, 1)).await;
    redis::cmd("SAVE").exec(&mut server.connection()).expect("a snapshot can be saved");
    server.kill();
    let lost = message(&lamp, 2);
    store.append(&lost).await.expect_err("Redis is killed");
    server.restart();
    let retry = Append { retry: true, ..lost };
    let answer = repeat(async || store.append(&retry).await).await;
    assert_eq!(answer, Appended::Unknown);
    let head = store.heads(&[lamp]).await.expect("store")[0];
    assert_eq!(head.waiting, 1);
}

#[tokio::test]
async fn a_message_that_could_not_be_sent_at_all_is_stored_by_its_retry() {
    let mut server = RedisServer::start_with(&ALWAYS);
    let store = open(&server).await;
    let lamp = provision(&store, "lamp").await;
    append(&store, &message(&lamp, 1)).await;
    server.kill();
    store.ping().await.expect_err("Redis is killed");
    let unsent = message(&lamp, 2);
    store.append(&unsent).await.expect_err("there is no connection to send it on");
    server.restart();
    let retry = Append { retry: true, ..unsent };
    let answer = repeat(async || store.append(&retry).await).await;
    assert!(matches!(answer, Appended::Stored(_)), "{answer:?}");
}

#[tokio::test]
async fn after_flushall_devices_are_provisioned_anew_and_ids_go_on() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let lamp = provision(&store, "lamp").await;
    let first = attach(&store, &hello(&lamp, 1)).await;
    let old = append(&store, &message(&lamp, 1)).await.id;
    redis::cmd("FLUSHALL").exec(&mut server.connection()).expect("it can be flushed");
    assert_eq!(store.append(&message(&lamp, 2)).await.expect("store"), Appended::UnknownDevice);
    provision(&store, "lamp").await;
    let cursor = MessageId::new(old.generation, old.sequence + 7);
    let again = attach(&store, &Attach { cursor, epoch_floor: first.epoch, ..hello(&lamp, 2) }).await;
    assert!(again.epoch > first.epoch);
    let new = append(&store, &message(&lamp, 3)).await.id;
    assert!(new > cursor, "{new} would be dropped as a duplicate of {cursor}");
}

#[tokio::test]
async fn an_acknowledgement_in_flight_over_a_restart_is_one() {
    let mut server = RedisServer::start_with(&ALWAYS);
    let store = open(&server).await;
    let lamp = provision(&store, "lamp").await;
    let session = attach(&store, &hello(&lamp, 1)).await;
    let sent = append(&store, &message(&lamp, 1)).await.id;
    server.kill();
    server.restart();
    let held = Reassert {
        device: lamp.clone(),
        server: "server-1".into(),
        server_incarnation: 0xa1,
        epoch: session.epoch,
        incarnation: 0xb1,
        attempt: 1,
        key: KeyMark::PLAIN,
        fingerprint: Fingerprint::NONE,
        receive_limit: 4096,
        sent,
    };
    let answer = repeat(async || store.reassert(std::slice::from_ref(&held)).await).await;
    let [Reasserted::Held { head, replaced: None }] = &answer[..] else { panic!("{answer:?}") };
    assert!(head.generation > sent.generation);
    let ack = Acknowledge { device: lamp.clone(), epoch: session.epoch, upto: sent, rejected: Vec::new() };
    repeat(async || store.acknowledge(std::slice::from_ref(&ack)).await).await;
    let state = store.message_state(&lamp, sent).await.expect("store").expect("known");
    assert_eq!(state, State::Acked);
    assert_eq!(store.heads(&[lamp]).await.expect("store")[0].waiting, 0);
}

#[tokio::test]
async fn the_same_process_is_the_same_lineage_over_connections() {
    let server = RedisServer::start();
    let (one, other) = (open(&server).await, open(&server).await);
    let lamp = provision(&one, "lamp").await;
    let first = append(&one, &message(&lamp, 1)).await.id;
    let second = append(&other, &message(&lamp, 2)).await.id;
    assert_eq!(first.generation, second.generation);
    assert!(first > Cursor::default());
}

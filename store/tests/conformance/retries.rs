//! Retried appends and idempotency keys (DESIGN §6.2).

use imlink_protocol::id::Fingerprint;
use imlink_store::mailbox::{Append, Appended, State};
use imlink_store::session::Attach;
use imlink_store::{Idempotent, Store};

use crate::behaviours;
use crate::scene::*;

behaviours!(
    a_retry_finds_its_first_try,
    a_first_try_that_its_retry_overtook_is_not_stored_twice,
    a_retry_that_never_was_stored_is_stored,
    a_retry_that_comes_too_late_is_unknown,
    a_try_refused_for_its_interface_does_not_count_as_one,
    a_retry_names_the_session_of_now,
    a_retry_of_a_message_that_is_final_says_that_its_time_is_over,
    an_idempotency_key_is_new_once,
    an_idempotency_key_of_another_body_conflicts,
    idempotency_keys_of_tenants_are_apart,
    an_answer_without_its_key_is_dropped,
);

fn retry(append: &Append) -> Append {
    Append { retry: true, ..append.clone() }
}

async fn a_retry_finds_its_first_try(store: Store) {
    let device = lamp(&store).await;
    let first = Append { ttl_s: 60, ..message(&device, 1) };
    let stored = append(&store, &first).await;
    for n in 2..=16 {
        append(&store, &message(&device, n)).await;
    }
    assert_eq!(append(&store, &retry(&first)).await, stored);
    let new = attach(&store, &hello(&device)).await;
    assert_eq!(new.last, 16);
}

async fn a_first_try_that_its_retry_overtook_is_not_stored_twice(store: Store) {
    let device = lamp(&store).await;
    let stored = append(&store, &retry(&message(&device, 1))).await;
    assert_eq!(append(&store, &message(&device, 1)).await, stored);
    assert_eq!(attach(&store, &hello(&device)).await.entries.len(), 1);
}

async fn a_retry_that_never_was_stored_is_stored(store: Store) {
    let device = lamp(&store).await;
    append(&store, &message(&device, 1)).await;
    assert_eq!(append(&store, &retry(&message(&device, 2))).await.id.sequence, 2);
}

async fn a_retry_that_comes_too_late_is_unknown(store: Store) {
    let device = lamp(&store).await;
    let first = message(&device, 1);
    append(&store, &first).await;
    for n in 2..=17 {
        append(&store, &message(&device, n)).await;
    }
    assert_eq!(store.append(&retry(&first)).await.expect("store"), Appended::Unknown);
    let head = store.heads(std::slice::from_ref(&device)).await.expect("store")[0];
    assert_eq!((head.last, head.waiting), (17, 17), "nothing was stored");
}

async fn a_try_refused_for_its_interface_does_not_count_as_one(store: Store) {
    let device = lamp(&store).await;
    fill(&store, &device, 20).await;
    let mut send = Append { fingerprint: Fingerprint([8; 16]), ..message(&device, 21) };
    let refused = store.append(&send).await.expect("store");
    assert_eq!(refused, Appended::InterfaceChanged(Fingerprint::NONE));
    (send.fingerprint, send.retry) = (Fingerprint::NONE, true);
    assert_eq!(append(&store, &send).await.id.sequence, 21, "it cannot have been stored and forgotten");
}

async fn a_retry_names_the_session_of_now(store: Store) {
    let device = lamp(&store).await;
    let first = message(&device, 1);
    assert_eq!(append(&store, &first).await.session, None);
    let new = attach(&store, &Attach { window: 0, ..hello(&device) }).await;
    let again = append(&store, &retry(&first)).await;
    assert_eq!(again.session.expect("attached").epoch, new.epoch);
    assert_eq!(state(&store, &device, again.id).await, State::Sent, "its session may be told of it");
}

async fn a_retry_of_a_message_that_is_final_says_that_its_time_is_over(store: Store) {
    let device = lamp(&store).await;
    let first = message(&device, 1);
    let stored = append(&store, &first).await;
    append(&store, &message(&device, 2)).await;
    store.cancel(&device, stored.id).await.expect("store");
    let again = append(&store, &retry(&first)).await;
    assert_eq!(again.id, stored.id);
    assert!(again.expires_ms != 0 && again.expires_ms < store.now_ms().await.expect("store"));
    assert_eq!(state(&store, &device, stored.id).await, State::Cancelled);
}

async fn an_idempotency_key_is_new_once(store: Store) {
    let hash = [1; 32];
    let ask = async || store.idempotent("-", "order 1", hash).await.expect("store");
    assert_eq!(ask().await, Idempotent::New);
    assert_eq!(ask().await, Idempotent::Pending);
    store.idempotent_done("-", "order 1", b"1-2").await.expect("store");
    assert_eq!(ask().await, Idempotent::Done("1-2".into()));
    store.idempotent_done("-", "order 1", b"").await.expect("store");
    assert_eq!(ask().await, Idempotent::Done("".into()), "an empty answer is one");
}

async fn an_idempotency_key_of_another_body_conflicts(store: Store) {
    assert_eq!(store.idempotent("-", "k", [1; 32]).await.expect("store"), Idempotent::New);
    assert_eq!(store.idempotent("-", "k", [2; 32]).await.expect("store"), Idempotent::Conflict);
    store.idempotent_done("-", "k", b"x").await.expect("store");
    assert_eq!(store.idempotent("-", "k", [2; 32]).await.expect("store"), Idempotent::Conflict);
}

async fn idempotency_keys_of_tenants_are_apart(store: Store) {
    assert_eq!(store.idempotent("a", "k", [1; 32]).await.expect("store"), Idempotent::New);
    assert_eq!(store.idempotent("b", "k", [1; 32]).await.expect("store"), Idempotent::New);
}

async fn an_answer_without_its_key_is_dropped(store: Store) {
    store.idempotent_done("-", "k", b"x").await.expect("store");
    assert_eq!(store.idempotent("-", "k", [1; 32]).await.expect("store"), Idempotent::New);
}

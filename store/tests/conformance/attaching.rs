//! Sessions: attach, detach, re-assert (DESIGN §6.3, §6.8).

use imlink_protocol::id::{Cursor, Epoch, Fingerprint, MessageId};
use imlink_store::mailbox::{Read, State};
use imlink_store::session::{Attach, Attached, Reassert, Reasserted};
use imlink_store::{DeviceKey, Store};

use crate::behaviours;
use crate::scene::*;

behaviours!(
    epochs_only_grow,
    an_epoch_exceeds_the_floor_it_was_asked_with,
    a_newer_attach_returns_the_session_it_replaced,
    a_late_attach_of_the_same_boot_is_stale,
    another_boot_must_know_the_last_epoch,
    an_equal_attempt_of_the_same_server_is_the_same_attach_again,
    an_attach_asked_again_returns_what_the_first_replaced,
    an_equal_attempt_of_another_server_is_stale,
    a_cursor_more_than_a_day_ahead_is_refused,
    an_epoch_that_cannot_be_true_is_refused,
    an_attach_trims_up_to_the_cursor,
    a_cursor_ahead_of_the_mailbox_opens_a_generation_beyond_it,
    what_was_offered_before_is_named_at_the_next_attach,
    an_attach_gives_at_most_a_window,
    an_attach_gives_at_most_16_kib_but_at_least_one,
    detach_compares_server_and_epoch,
    a_reassertion_restores_a_session_that_is_gone,
    a_reassertion_loses_against_a_newer_epoch,
    a_reassertion_loses_a_tie_with_another_server,
    a_reassertion_behind_what_was_sent_opens_a_generation,
    a_reassertion_restores_boot_and_attempt,
);

pub(crate) fn reassertion(device: &DeviceKey, epoch: Epoch) -> Reassert {
    let hello = hello(device);
    Reassert {
        device: device.clone(),
        server: hello.server,
        server_incarnation: hello.server_incarnation,
        epoch,
        incarnation: hello.incarnation,
        attempt: hello.attempt,
        key: hello.key,
        fingerprint: hello.fingerprint,
        receive_limit: hello.receive_limit,
        sent: Cursor::default(),
    }
}

/// The next connection of the same boot, to IM-server `b`.
fn next(device: &DeviceKey, attempt: u32) -> Attach {
    Attach { server: "b".into(), server_incarnation: 0xa2, attempt, ..hello(device) }
}

async fn epochs_only_grow(store: Store) {
    let device = lamp(&store).await;
    let mut last = 0;
    for attempt in 1..=5 {
        let epoch = attach(&store, &Attach { attempt, ..hello(&device) }).await.epoch;
        assert!(epoch > last);
        last = epoch;
    }
}

async fn an_epoch_exceeds_the_floor_it_was_asked_with(store: Store) {
    let device = lamp(&store).await;
    let floor = store.now_ms().await.expect("store") + 3_600_000;
    let new = attach(&store, &Attach { epoch_floor: floor, ..hello(&device) }).await;
    assert_eq!(new.epoch, floor + 1);
    let next = attach(&store, &next(&device, 2)).await;
    assert_eq!(next.epoch, floor + 2);
}

async fn a_newer_attach_returns_the_session_it_replaced(store: Store) {
    let device = lamp(&store).await;
    let first = attach(&store, &hello(&device)).await;
    assert_eq!(first.replaced, None);
    let second = attach(&store, &next(&device, 2)).await;
    let replaced = second.replaced.expect("the first stood");
    let server_incarnation = hello(&device).server_incarnation;
    assert_eq!((replaced.server.as_str(), replaced.incarnation), ("a", server_incarnation));
    assert_eq!(replaced.epoch, first.epoch);
    assert!(!store.detach(&device, server_incarnation, first.epoch).await.expect("store"));
    let session = store.identity(&device).await.expect("store").expect("known").session.expect("attached");
    assert_eq!((session.server.as_str(), session.epoch), ("b", second.epoch));
}

async fn a_late_attach_of_the_same_boot_is_stale(store: Store) {
    let device = lamp(&store).await;
    let newer = attach(&store, &next(&device, 5)).await;
    for attempt in 1..5 {
        let late = Attach { attempt, epoch_floor: newer.epoch, ..hello(&device) };
        assert_eq!(store.attach(&late).await.expect("store"), Attached::Stale);
    }
    store.detach(&device, 0xa2, newer.epoch).await.expect("store");
    assert_eq!(store.attach(&next(&device, 5)).await.expect("store"), Attached::Stale, "also once it has left");
    attach(&store, &next(&device, 6)).await;
}

async fn another_boot_must_know_the_last_epoch(store: Store) {
    let device = lamp(&store).await;
    let session = attach(&store, &next(&device, 5)).await;
    let mut other = Attach { incarnation: 0xb2, attempt: 1, ..hello(&device) };
    assert_eq!(store.attach(&other).await.expect("store"), Attached::Stale);
    other.epoch_floor = session.epoch - 1;
    assert_eq!(store.attach(&other).await.expect("store"), Attached::Stale);
    other.epoch_floor = session.epoch;
    assert_eq!(attach(&store, &other).await.replaced.expect("it stood").epoch, session.epoch);
}

async fn an_equal_attempt_of_the_same_server_is_the_same_attach_again(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 2).await;
    let first = attach(&store, &hello(&device)).await;
    let again = attach(&store, &hello(&device)).await;
    assert_eq!((again.epoch, again.generation, again.replaced), (first.epoch, first.generation, None));
    assert_eq!(again.entries, first.entries);
    assert_eq!(again.last, ids[1].sequence);
}

async fn an_attach_asked_again_returns_what_the_first_replaced(store: Store) {
    let device = lamp(&store).await;
    attach(&store, &hello(&device)).await;
    let first = attach(&store, &next(&device, 2)).await;
    let again = attach(&store, &next(&device, 2)).await;
    assert!(first.replaced.is_some());
    assert_eq!(again.replaced, first.replaced, "else nobody would kick it");
    store.detach(&device, 0xa2, again.epoch).await.expect("store");
    assert_eq!(attach(&store, &next(&device, 3)).await.replaced, None);
    assert_eq!(attach(&store, &next(&device, 3)).await.replaced, None);
}

async fn an_equal_attempt_of_another_server_is_stale(store: Store) {
    let device = lamp(&store).await;
    attach(&store, &hello(&device)).await;
    assert_eq!(store.attach(&next(&device, 1)).await.expect("store"), Attached::Stale);
}

async fn a_cursor_more_than_a_day_ahead_is_refused(store: Store) {
    let device = lamp(&store).await;
    let now_ms = store.now_ms().await.expect("store");
    let with = |generation, sequence| Attach { cursor: Cursor::new(generation, sequence), ..hello(&device) };
    let day = 24 * 3_600_000;
    for cursor in [with(now_ms + day + 60_000, 1), with(u64::MAX, 1), with(now_ms, u64::MAX)] {
        assert_eq!(store.attach(&cursor).await.expect("store"), Attached::Cursor);
    }
    attach(&store, &with(now_ms + day - 60_000, 1)).await;
}

async fn an_epoch_that_cannot_be_true_is_refused(store: Store) {
    let device = lamp(&store).await;
    let liar = Attach { epoch_floor: u64::MAX, ..hello(&device) };
    assert_eq!(store.attach(&liar).await.expect("store"), Attached::Cursor);
    let held = reassertion(&device, u64::MAX);
    assert_eq!(store.reassert(&[held]).await.expect("store"), [Reasserted::Lost]);
    attach(&store, &hello(&device)).await;
}

async fn an_attach_trims_up_to_the_cursor(store: Store) {
    let device = lamp(&store).await;
    attach(&store, &hello(&device)).await;
    let ids = fill(&store, &device, 4).await;
    let new = attach(&store, &Attach { cursor: ids[1], ..next(&device, 2) }).await;
    assert_eq!(offered_numbers(&new), [3, 4]);
    assert_eq!(state(&store, &device, ids[1]).await, State::Acked);
    assert_eq!(state(&store, &device, ids[2]).await, State::Sent);
}

async fn a_cursor_ahead_of_the_mailbox_opens_a_generation_beyond_it(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 2).await;
    let ahead = MessageId::new(ids[1].generation, ids[1].sequence + 5);
    let new = attach(&store, &Attach { cursor: ahead, ..hello(&device) }).await;
    assert!(new.generation > ahead.generation);
    assert_eq!(new.entries, [], "both are at or below the cursor");
    assert_eq!(state(&store, &device, ids[0]).await, State::Unknown, "whether it was handled nobody can know");
    let after = append(&store, &message(&device, 3)).await.id;
    assert!(after > ahead, "{after} would be dropped as a duplicate of {ahead}");
    assert_eq!(after.sequence, ids[1].sequence + 1, "the sequence counts on");
}

async fn what_was_offered_before_is_named_at_the_next_attach(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 3).await;
    let first = attach(&store, &Attach { window: 2, ..hello(&device) }).await;
    assert!(first.offered < ids[0], "nothing was offered before");
    assert_eq!((offered_numbers(&first), first.more), (vec![1, 2], true));
    let second = attach(&store, &next(&device, 2)).await;
    assert_eq!(second.offered, ids[1]);
    assert_eq!(offered_numbers(&second), [1, 2, 3]);
    let third = attach(&store, &next(&device, 3)).await;
    assert_eq!(third.offered, ids[2]);
}

async fn an_attach_gives_at_most_a_window(store: Store) {
    let device = lamp(&store).await;
    fill(&store, &device, 5).await;
    let new = attach(&store, &Attach { window: 3, ..hello(&device) }).await;
    assert_eq!((offered_numbers(&new), new.more), (vec![1, 2, 3], true));
    let new = attach(&store, &Attach { window: 5, ..next(&device, 2) }).await;
    assert_eq!((offered_numbers(&new).len(), new.more), (5, false));
}

async fn an_attach_gives_at_most_16_kib_but_at_least_one(store: Store) {
    let device = lamp(&store).await;
    for n in 1..=3 {
        let large = imlink_store::mailbox::Append { payload: vec![n; 9000].into(), ..message(&device, n) };
        append(&store, &large).await;
    }
    let huge = imlink_store::mailbox::Append { payload: vec![4; 20_000].into(), ..message(&device, 4) };
    let huge = append(&store, &huge).await.id;
    let new = attach(&store, &hello(&device)).await;
    assert_eq!((offered_numbers(&new), new.more), (vec![1], true));
    let before = MessageId::new(huge.generation, huge.sequence - 1);
    assert_eq!(numbers(&store, &device, new.epoch, before).await, [4]);
}

async fn detach_compares_server_and_epoch(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let server = hello(&device).server_incarnation;
    assert!(!store.detach(&device, server + 1, new.epoch).await.expect("store"));
    assert!(!store.detach(&device, server, new.epoch - 1).await.expect("store"));
    assert!(!store.detach(&device, server, new.epoch + 1).await.expect("store"));
    assert!(store.identity(&device).await.expect("store").expect("known").session.is_some());
    assert!(store.detach(&device, server, new.epoch).await.expect("store"));
    assert!(!store.detach(&device, server, new.epoch).await.expect("store"), "once");
    assert!(store.identity(&device).await.expect("store").expect("known").session.is_none());
    let read = Read { device: device.clone(), epoch: new.epoch, after: Cursor::default(), limit: 1 };
    assert_eq!(store.read_mailbox(&read).await.expect("store"), None, "it is no session any more");
}

async fn a_reassertion_restores_a_session_that_is_gone(store: Store) {
    let device = lamp(&store).await;
    let epoch = store.now_ms().await.expect("store");
    let held = Reassert { fingerprint: Fingerprint([7; 16]), ..reassertion(&device, epoch) };
    let answer = store.reassert(std::slice::from_ref(&held)).await.expect("store");
    assert!(matches!(&answer[..], [Reasserted::Held { replaced: None, .. }]), "{answer:?}");
    let identity = store.identity(&device).await.expect("store").expect("known");
    assert_eq!(identity.session.expect("attached").epoch, epoch);
    assert_eq!((identity.fingerprint, identity.receive_limit), (Fingerprint([7; 16]), 4096));
    let again = store.reassert(&[held]).await.expect("store");
    assert_eq!(again, answer, "repeating it is harmless");
}

async fn a_reassertion_loses_against_a_newer_epoch(store: Store) {
    let device = lamp(&store).await;
    let old = attach(&store, &hello(&device)).await;
    let new = attach(&store, &next(&device, 2)).await;
    let lost = store.reassert(&[reassertion(&device, old.epoch)]).await.expect("store");
    assert_eq!(lost, [Reasserted::Lost]);
    store.detach(&device, 0xa2, new.epoch).await.expect("store");
    let lost = store.reassert(&[reassertion(&device, old.epoch)]).await.expect("store");
    assert_eq!(lost, [Reasserted::Lost], "also once the newer one has left");
    let newest = store.reassert(&[reassertion(&device, new.epoch + 1)]).await.expect("store");
    assert!(matches!(&newest[..], [Reasserted::Held { .. }]));
}

async fn a_reassertion_loses_a_tie_with_another_server(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let tie = Reassert { server: "b".into(), server_incarnation: 2, ..reassertion(&device, new.epoch) };
    assert_eq!(store.reassert(&[tie]).await.expect("store"), [Reasserted::Lost]);
    let newer = Reassert { server: "b".into(), server_incarnation: 2, ..reassertion(&device, new.epoch + 1) };
    let [Reasserted::Held { replaced: Some(replaced), .. }] = &store.reassert(&[newer]).await.expect("store")[..]
    else {
        panic!("the newer epoch wins and says what it replaced");
    };
    assert_eq!((replaced.server.as_str(), replaced.epoch), ("a", new.epoch));
}

async fn a_reassertion_behind_what_was_sent_opens_a_generation(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let last = fill(&store, &device, 2).await[1];
    let same = Reassert { sent: last, ..reassertion(&device, new.epoch) };
    let [Reasserted::Held { head, .. }] = store.reassert(&[same]).await.expect("store")[..] else { panic!("held") };
    assert_eq!((head.generation, head.last, head.waiting), (last.generation, last.sequence, 2));
    let sent = MessageId::new(last.generation, last.sequence + 3);
    let behind = Reassert { sent, ..reassertion(&device, new.epoch) };
    let [Reasserted::Held { head, .. }] = store.reassert(&[behind]).await.expect("store")[..] else { panic!("held") };
    assert!(head.generation > sent.generation);
    let next = append(&store, &message(&device, 3)).await.id;
    assert!(next > sent, "{next} would be dropped as a duplicate of {sent}");
    assert_eq!(numbers(&store, &device, new.epoch, Cursor::default()).await, [1, 2, 3], "survivors wait on");
}

async fn a_reassertion_restores_boot_and_attempt(store: Store) {
    let device = lamp(&store).await;
    let epoch = store.now_ms().await.expect("store");
    let held = Reassert { attempt: 4, ..reassertion(&device, epoch) };
    store.reassert(&[held]).await.expect("store");
    let late = Attach { attempt: 3, epoch_floor: epoch, ..hello(&device) };
    assert_eq!(store.attach(&late).await.expect("store"), Attached::Stale);
}

//! Mailboxes: append, read, acknowledge, limits (DESIGN §6.2, §6.4).

use imlink_protocol::id::{Cursor, Fingerprint, MessageId};
use imlink_store::mailbox::{Append, Appended, Page, Read, State};
use imlink_store::session::{Attach, Head};
use imlink_store::{DeviceKey, Store};

use crate::behaviours;
use crate::scene::*;

behaviours!(
    messages_are_kept_in_order_for_an_offline_device,
    an_append_names_the_session,
    an_append_keeps_what_it_was_given,
    a_full_mailbox_refuses_the_newest,
    an_entry_that_ended_in_the_middle_makes_room,
    another_interface_is_refused_by_name,
    a_payload_that_does_not_fit_a_frame_is_refused_by_size,
    an_acknowledgement_trims_everything_up_to_it,
    repeating_an_acknowledgement_is_harmless,
    an_acknowledgement_of_an_older_session_still_trims,
    an_acknowledgement_of_an_older_generation_spares_what_came_after,
    a_read_gives_what_is_behind_the_cursor,
    a_read_says_whether_more_waits,
    a_read_by_an_older_session_gets_nothing_and_changes_nothing,
    a_read_counts_as_offered,
    an_append_to_an_attached_device_counts_as_offered,
    heads_come_in_the_order_asked,
    survivors_of_an_older_generation_keep_their_ids,
);

async fn page(store: &Store, device: &DeviceKey, epoch: u64, after: Cursor, limit: u32) -> Option<Page> {
    let read = Read { device: device.clone(), epoch, after, limit };
    store.read_mailbox(&read).await.expect("store")
}

async fn messages_are_kept_in_order_for_an_offline_device(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 5).await;
    assert_eq!(ids.iter().map(|id| id.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(ids.iter().all(|id| id.generation == ids[0].generation && id.generation > 0));
    assert_eq!(state(&store, &device, ids[4]).await, State::Waiting);
    let new = attach(&store, &hello(&device)).await;
    assert_eq!(offered_numbers(&new), [1, 2, 3, 4, 5]);
    assert_eq!(new.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids);
}

async fn an_append_names_the_session(store: Store) {
    let device = lamp(&store).await;
    assert_eq!(append(&store, &message(&device, 1)).await.session, None);
    let new = attach(&store, &hello(&device)).await;
    let session = append(&store, &message(&device, 2)).await.session.expect("attached");
    assert_eq!((session.server.as_str(), session.epoch), ("a", new.epoch));
    store.detach(&device, session.incarnation, new.epoch).await.expect("store");
    assert_eq!(append(&store, &message(&device, 3)).await.session, None);
}

async fn an_append_keeps_what_it_was_given(store: Store) {
    let device = lamp(&store).await;
    let stated = Attach { fingerprint: Fingerprint([7; 16]), ..hello(&device) };
    attach(&store, &stated).await;
    let typed = Append { fingerprint: Fingerprint([7; 16]), ttl_s: 60, ..message(&device, 1) };
    let empty = Append { payload: bytes::Bytes::new(), ttl_s: 0, id: [2; 16], ..typed.clone() };
    let now_ms = store.now_ms().await.expect("store");
    let stored = [append(&store, &typed).await, append(&store, &empty).await];
    assert!(stored[0].expires_ms.abs_diff(now_ms + 60_000) < 5_000);
    assert_eq!(stored[1].expires_ms, 0);
    let new = attach(&store, &Attach { attempt: 2, ..stated }).await;
    for ((entry, stored), given) in new.entries.iter().zip(&stored).zip([&typed, &empty]) {
        assert_eq!((entry.id, entry.expires_ms), (stored.id, stored.expires_ms));
        assert_eq!((entry.key, entry.fingerprint, &entry.payload), (given.key, given.fingerprint, &given.payload));
    }
    assert_eq!(new.entries.len(), 2);
}

async fn a_full_mailbox_refuses_the_newest(store: Store) {
    let device = lamp(&store).await;
    let small = |n| Append { mailbox_max: 3, ..message(&device, n) };
    let mut ids = Vec::new();
    for n in 1..=3 {
        ids.push(append(&store, &small(n)).await.id);
    }
    assert_eq!(store.append(&small(4)).await.expect("store"), Appended::MailboxFull { waiting: 3 });
    let new = attach(&store, &hello(&device)).await;
    assert_eq!(offered_numbers(&new), [1, 2, 3], "what was accepted is kept");
    acknowledge(&store, &device, new.epoch, ids[0]).await;
    assert_eq!(append(&store, &small(5)).await.id.sequence, 4);
}

async fn an_entry_that_ended_in_the_middle_makes_room(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 3).await;
    store.cancel(&device, ids[1]).await.expect("store");
    append(&store, &Append { mailbox_max: 3, ..message(&device, 4) }).await;
    let new = attach(&store, &hello(&device)).await;
    assert_eq!(offered_numbers(&new), [1, 3, 4]);
}

async fn another_interface_is_refused_by_name(store: Store) {
    let device = lamp(&store).await;
    let [stated, other] = [Fingerprint([7; 16]), Fingerprint([8; 16])];
    let with = |fingerprint, n| Append { fingerprint, ..message(&device, n) };
    let refused = store.append(&with(stated, 1)).await.expect("store");
    assert_eq!(refused, Appended::InterfaceChanged(Fingerprint::NONE), "it states none yet");
    append(&store, &with(Fingerprint::NONE, 2)).await;
    attach(&store, &Attach { fingerprint: stated, ..hello(&device) }).await;
    for wrong in [other, Fingerprint::NONE] {
        let refused = store.append(&with(wrong, 3)).await.expect("store");
        assert_eq!(refused, Appended::InterfaceChanged(stated));
    }
    append(&store, &with(stated, 4)).await;
}

async fn a_payload_that_does_not_fit_a_frame_is_refused_by_size(store: Store) {
    let device = lamp(&store).await;
    append(&store, &Append { payload: vec![0; 3000].into(), ..message(&device, 1) }).await;
    attach(&store, &Attach { receive_limit: 256, ..hello(&device) }).await;
    let with = |len| Append { payload: vec![0; len].into(), ..message(&device, 2) };
    let fits = 256 - imlink_protocol::limits::PAYLOAD_OVERHEAD;
    assert_eq!(store.append(&with(fits + 1)).await.expect("store"), Appended::TooLarge { receive_limit: 256 });
    append(&store, &with(fits)).await;
}

async fn an_acknowledgement_trims_everything_up_to_it(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let ids = fill(&store, &device, 4).await;
    acknowledge(&store, &device, new.epoch, ids[2]).await;
    for id in &ids[..3] {
        assert_eq!(state(&store, &device, *id).await, State::Acked);
    }
    assert_eq!(state(&store, &device, ids[3]).await, State::Sent);
    assert_eq!(numbers(&store, &device, new.epoch, Cursor::default()).await, [4]);
    let head = store.heads(std::slice::from_ref(&device)).await.expect("store")[0];
    assert_eq!((head.last, head.waiting), (4, 1));
}

async fn repeating_an_acknowledgement_is_harmless(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let ids = fill(&store, &device, 3).await;
    for upto in [ids[1], ids[0], ids[1], Cursor::default()] {
        acknowledge(&store, &device, new.epoch, upto).await;
        assert_eq!(numbers(&store, &device, new.epoch, Cursor::default()).await, [3]);
    }
}

async fn an_acknowledgement_of_an_older_session_still_trims(store: Store) {
    let device = lamp(&store).await;
    let old = attach(&store, &hello(&device)).await;
    let ids = fill(&store, &device, 2).await;
    let new = attach(&store, &Attach { attempt: 2, ..hello(&device) }).await;
    acknowledge(&store, &device, old.epoch, ids[0]).await;
    assert_eq!(state(&store, &device, ids[0]).await, State::Acked);
    assert_eq!(numbers(&store, &device, new.epoch, Cursor::default()).await, [2]);
}

async fn an_acknowledgement_of_an_older_generation_spares_what_came_after(store: Store) {
    let device = lamp(&store).await;
    let old = fill(&store, &device, 2).await;
    let ahead = MessageId::new(old[1].generation, 40);
    let cursor = Cursor::new(old[1].generation, 41);
    let new = attach(&store, &Attach { cursor, ..hello(&device) }).await;
    append(&store, &message(&device, 3)).await;
    acknowledge(&store, &device, new.epoch, ahead).await;
    assert_eq!(numbers(&store, &device, new.epoch, Cursor::default()).await, [3]);
}

async fn a_read_gives_what_is_behind_the_cursor(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &Attach { window: 1, ..hello(&device) }).await;
    let ids = fill(&store, &device, 4).await;
    assert_eq!(numbers(&store, &device, new.epoch, ids[1]).await, [3, 4]);
    assert_eq!(numbers(&store, &device, new.epoch, ids[3]).await, [0; 0]);
    assert_eq!(numbers(&store, &device, new.epoch, Cursor::new(u64::MAX, 1)).await, [0; 0]);
    let page = page(&store, &device, new.epoch, Cursor::default(), 9).await.expect("it is the session");
    assert_eq!(page.head, Head { generation: ids[0].generation, last: 4, waiting: 4 });
    assert!(page.now_ms.abs_diff(store.now_ms().await.expect("store")) < 10_000);
}

async fn a_read_says_whether_more_waits(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 4).await;
    let new = attach(&store, &Attach { window: 1, ..hello(&device) }).await;
    let mut seen = Vec::new();
    for (limit, more) in [(2, true), (4, false)] {
        let page = page(&store, &device, new.epoch, Cursor::default(), limit).await.expect("it is the session");
        assert_eq!(page.more, more);
        seen.push(page.entries.len());
    }
    assert_eq!(seen, [2, 4]);
    acknowledge(&store, &device, new.epoch, ids[3]).await;
    assert!(!page(&store, &device, new.epoch, Cursor::default(), 1).await.expect("it is the session").more);
}

async fn a_read_by_an_older_session_gets_nothing_and_changes_nothing(store: Store) {
    let device = lamp(&store).await;
    let old = attach(&store, &hello(&device)).await;
    let new = attach(&store, &Attach { attempt: 2, ..hello(&device) }).await;
    store.detach(&device, hello(&device).server_incarnation, new.epoch).await.expect("store");
    let id = fill(&store, &device, 1).await[0];
    for epoch in [old.epoch, new.epoch, 0] {
        assert_eq!(page(&store, &device, epoch, Cursor::default(), 9).await, None);
    }
    assert_eq!(state(&store, &device, id).await, State::Waiting);
}

async fn a_read_counts_as_offered(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 3).await;
    let new = attach(&store, &Attach { window: 1, ..hello(&device) }).await;
    assert_eq!(state(&store, &device, ids[1]).await, State::Waiting);
    page(&store, &device, new.epoch, ids[0], 1).await;
    assert_eq!(state(&store, &device, ids[1]).await, State::Sent);
    assert_eq!(state(&store, &device, ids[2]).await, State::Waiting);
}

async fn an_append_to_an_attached_device_counts_as_offered(store: Store) {
    let device = lamp(&store).await;
    attach(&store, &hello(&device)).await;
    let id = fill(&store, &device, 1).await[0];
    assert_eq!(state(&store, &device, id).await, State::Sent);
    let new = attach(&store, &Attach { attempt: 2, ..hello(&device) }).await;
    assert_eq!(new.offered, id);
}

async fn heads_come_in_the_order_asked(store: Store) {
    let mut devices = Vec::new();
    for n in 0..5u8 {
        let device = DeviceKey::single(&format!("d{n}")).expect("is a device id");
        store.provision(&device, imlink_store::session::Proof::Plain).await.expect("store");
        fill(&store, &device, n).await;
        devices.push(device);
    }
    devices.reverse();
    let heads = store.heads(&devices).await.expect("store");
    assert_eq!(heads.iter().map(|head| head.last).collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
    assert_eq!(heads.iter().map(|head| head.waiting).collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
    assert_eq!(store.heads(&[]).await.expect("store"), []);
}

async fn survivors_of_an_older_generation_keep_their_ids(store: Store) {
    let device = lamp(&store).await;
    let old = fill(&store, &device, 3).await;
    let mut generations = vec![old[0].generation];
    let mut all = old.clone();
    for round in 0..6u8 {
        let epoch = store.identity(&device).await.expect("store").expect("known").epoch;
        // What was sent on a session is ahead of the mailbox: a generation is opened, nothing is trimmed.
        let sent = Cursor::new(generations[generations.len() - 1], 60);
        let held = imlink_store::session::Reassert { sent, ..crate::attaching::reassertion(&device, epoch.max(1)) };
        store.reassert(&[held]).await.expect("store");
        all.push(append(&store, &message(&device, 10 + round)).await.id);
        generations.push(all[all.len() - 1].generation);
    }
    assert!(generations.windows(2).all(|pair| pair[0] < pair[1]), "{generations:?}");
    let epoch = store.identity(&device).await.expect("store").expect("known").epoch;
    let page = page(&store, &device, epoch, Cursor::default(), 20).await.expect("it is the session");
    assert_eq!(page.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), all);
    assert_eq!(numbers(&store, &device, epoch, old[1]).await.len(), 7);
    assert_eq!(state(&store, &device, old[2]).await, State::Sent);
    acknowledge(&store, &device, epoch, old[1]).await;
    assert_eq!(numbers(&store, &device, epoch, Cursor::default()).await.len(), 7);
    acknowledge(&store, &device, epoch, all[5]).await;
    assert_eq!(numbers(&store, &device, epoch, Cursor::default()).await, [13, 14, 15]);
}

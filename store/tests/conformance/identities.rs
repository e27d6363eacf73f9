//! Who is provisioned.

use imlink_protocol::id::{Cursor, Fingerprint, KeyMark, MessageId};
use imlink_store::mailbox::{Appended, Cancelled, Read};
use imlink_store::session::{Attach, Attached, Head, NextKey, Promoted, Proof, Provisioned, Reassert, Reasserted};
use imlink_store::{DeviceKey, Store};

use crate::behaviours;
use crate::scene::*;

behaviours!(
    a_device_shows_how_it_was_provisioned,
    provisioning_again_with_the_same_key_keeps_mailbox_and_session,
    another_current_key_ends_the_session_of_the_former_one_and_keeps_the_mailbox,
    a_ticket_of_a_removed_device_stays_of_no_use_when_its_id_gets_another_key,
    a_ticket_ends_when_the_next_key_takes_the_place_of_its_own,
    an_unknown_device_is_refused_everywhere,
    a_revoked_device_is_refused_and_its_session_is_returned,
    provisioning_again_leaves_a_revocation_in_place,
    restoring_lifts_a_revocation_and_changes_nothing_else,
    the_next_key_is_good_beside_the_current_one_until_it_is_promoted,
    a_promotion_is_repeatable_and_takes_only_the_next_key,
    a_next_key_follows_only_a_key,
    provisioning_again_drops_the_next_key_unless_one_is_given,
    a_revoked_device_promotes_no_key,
    a_removed_device_leaves_no_key_behind,
    a_removed_device_is_gone_with_its_mailbox,
    ids_of_a_removed_device_do_not_come_back_when_it_is_provisioned_again,
    devices_are_listed_in_order_page_by_page_and_by_tenant,
);

async fn a_device_shows_how_it_was_provisioned(store: Store) {
    let device = DeviceKey::single("lamp").expect("is a device id");
    assert_eq!(store.identity(&device).await.expect("store"), None);
    let proof = Proof::key([5; 32]);
    assert_eq!(store.provision(&device, proof).await.expect("store"), Provisioned::Created);
    let identity = store.identity(&device).await.expect("store").expect("provisioned");
    assert_eq!((identity.proof, identity.revoked, identity.session, identity.epoch), (Ok(proof), false, None, 0));
    assert_eq!((identity.seen_ms, identity.receive_limit, identity.mailbox), (0, 0, Head::default()));
    assert!(identity.created_ms.abs_diff(store.now_ms().await.expect("store")) < 10_000);

    let stated = Attach { fingerprint: Fingerprint([7; 16]), ..by(5, &device) };
    let new = attach(&store, &stated).await;
    let identity = store.identity(&device).await.expect("store").expect("provisioned");
    let session = identity.session.expect("attached");
    assert_eq!((session.server.as_str(), session.incarnation), ("a", hello(&device).server_incarnation));
    assert_eq!((session.epoch, identity.epoch), (new.epoch, new.epoch));
    assert_eq!((identity.fingerprint, identity.receive_limit), (Fingerprint([7; 16]), 4096));
    assert!(identity.seen_ms >= identity.created_ms);
}

async fn provisioning_again_with_the_same_key_keeps_mailbox_and_session(store: Store) {
    let device = keyed(&store, 5, None).await;
    let new = attach(&store, &by(5, &device)).await;
    let ids = fill(&store, &device, 2).await;
    let created_ms = store.identity(&device).await.expect("store").expect("provisioned").created_ms;
    let proof = Proof::Keys { current: [5; 32], next: Some([6; 32]) };
    assert_eq!(store.provision(&device, proof).await.expect("store"), Provisioned::Updated { ended: None });
    let identity = store.identity(&device).await.expect("store").expect("provisioned");
    assert_eq!((identity.proof, identity.created_ms), (Ok(proof), created_ms));
    assert_eq!(identity.session.expect("still attached").epoch, new.epoch);
    assert_eq!((identity.mailbox.last, identity.mailbox.waiting), (ids[1].sequence, 2));
}

async fn another_current_key_ends_the_session_of_the_former_one_and_keeps_the_mailbox(store: Store) {
    let proofs = [Proof::key([6; 32]), Proof::Plain, Proof::key([7; 32])];
    let (device, mut mark) = (keyed(&store, 5, None).await, KeyMark([5; 8]));
    fill(&store, &device, 2).await;
    for (attempt, proof) in (1..).zip(proofs) {
        let former = Attach { key: mark, attempt, ..hello(&device) };
        let epoch = attach(&store, &former).await.epoch;
        let provisioned = store.provision(&device, proof).await.expect("store");
        let Provisioned::Updated { ended: Some(ended) } = provisioned else { panic!("{provisioned:?}") };
        assert_eq!((ended.server.as_str(), ended.epoch), ("a", epoch));
        let identity = store.identity(&device).await.expect("store").expect("provisioned");
        assert_eq!((identity.proof, identity.session, identity.mailbox.waiting), (Ok(proof), None, 2));
        // The holder of the former key has a ticket, its boot and the next number.
        let again = Attach { attempt: attempt + 1, epoch_floor: epoch, ..former };
        assert_eq!(store.attach(&again).await.expect("store"), Attached::OtherKey);
        let held = Reassert { key: mark, attempt, ..crate::attaching::reassertion(&device, epoch) };
        assert_eq!(store.reassert(&[held]).await.expect("store"), [Reasserted::Lost]);
        assert_eq!(store.provision(&device, proof).await.expect("store"), Provisioned::Updated { ended: None });
        mark = match proof {
            Proof::Plain => KeyMark::PLAIN,
            Proof::Keys { current, .. } => KeyMark::of(&current),
        };
    }
    attach(&store, &Attach { attempt: 9, ..by(7, &device) }).await;
}

async fn a_ticket_of_a_removed_device_stays_of_no_use_when_its_id_gets_another_key(store: Store) {
    let device = keyed(&store, 5, None).await;
    let epoch = attach(&store, &by(5, &device)).await.epoch;
    store.remove(&device).await.expect("store").expect("it was there");
    keyed(&store, 6, None).await;
    for (incarnation, attempt) in [(hello(&device).incarnation, 2), (77, 1)] {
        let again = Attach { incarnation, attempt, epoch_floor: epoch + 1000, ..by(5, &device) };
        assert_eq!(store.attach(&again).await.expect("store"), Attached::OtherKey);
    }
    let held = Reassert { key: KeyMark([5; 8]), ..crate::attaching::reassertion(&device, epoch) };
    assert_eq!(store.reassert(&[held]).await.expect("store"), [Reasserted::Lost]);
    attach(&store, &by(6, &device)).await;
}

async fn a_ticket_ends_when_the_next_key_takes_the_place_of_its_own(store: Store) {
    let device = keyed(&store, 5, Some(6)).await;
    let first = attach(&store, &by(5, &device)).await.epoch;
    let next = Attach { attempt: 2, epoch_floor: first, ..by(6, &device) };
    let epoch = attach(&store, &next).await.epoch;
    attach(&store, &Attach { attempt: 3, epoch_floor: epoch, ..by(5, &device) }).await;
    store.promote_key(&device, &[6; 32]).await.expect("store");
    let late = Attach { attempt: 4, epoch_floor: epoch + 1000, ..by(5, &device) };
    assert_eq!(store.attach(&late).await.expect("store"), Attached::OtherKey);
    attach(&store, &Attach { attempt: 5, epoch_floor: epoch, ..by(6, &device) }).await;
}

async fn an_unknown_device_is_refused_everywhere(store: Store) {
    let device = DeviceKey::single("nobody").expect("is a device id");
    let id = MessageId::new(1, 1);
    assert_eq!(store.attach(&hello(&device)).await.expect("store"), Attached::UnknownDevice);
    assert_eq!(store.append(&message(&device, 1)).await.expect("store"), Appended::UnknownDevice);
    assert_eq!(store.message_state(&device, id).await.expect("store"), None);
    assert_eq!(store.cancel(&device, id).await.expect("store"), Cancelled::UnknownDevice);
    assert_eq!(store.revoke(&device).await.expect("store"), None);
    assert_eq!(store.remove(&device).await.expect("store"), None);
    assert!(!store.detach(&device, 1, 1).await.expect("store"));
    assert_eq!(store.heads(std::slice::from_ref(&device)).await.expect("store"), [Head::default()]);
    acknowledge(&store, &device, 1, id).await;
    let read = Read { device: device.clone(), epoch: 0, after: Cursor::default(), limit: 1 };
    assert_eq!(store.read_mailbox(&read).await.expect("store"), None);
    assert_eq!(store.identity(&device).await.expect("store"), None, "nothing of it was made up");
}

async fn a_revoked_device_is_refused_and_its_session_is_returned(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let ended = store.revoke(&device).await.expect("store").expect("known").expect("was attached");
    assert_eq!((ended.server.as_str(), ended.epoch), ("a", new.epoch));
    assert_eq!(store.revoke(&device).await.expect("store"), Some(None), "no session is left to kick");
    let mut again = hello(&device);
    (again.attempt, again.epoch_floor) = (2, new.epoch);
    assert_eq!(store.attach(&again).await.expect("store"), Attached::Revoked);
    assert_eq!(store.append(&message(&device, 1)).await.expect("store"), Appended::Revoked);
    let held = crate::attaching::reassertion(&device, new.epoch);
    assert_eq!(store.reassert(&[held]).await.expect("store"), [Reasserted::Lost]);
    let identity = store.identity(&device).await.expect("store").expect("provisioned");
    assert!(identity.revoked && identity.session.is_none());
}

async fn provisioning_again_leaves_a_revocation_in_place(store: Store) {
    let device = lamp(&store).await;
    store.revoke(&device).await.expect("store");
    assert_eq!(
        store.provision(&device, Proof::key([5; 32])).await.expect("store"),
        Provisioned::Updated { ended: None }
    );
    let identity = store.identity(&device).await.expect("store").expect("provisioned");
    assert_eq!((identity.proof, identity.revoked), (Ok(Proof::key([5; 32])), true));
    assert_eq!(store.append(&message(&device, 1)).await.expect("store"), Appended::Revoked);
    assert_eq!(store.attach(&hello(&device)).await.expect("store"), Attached::Revoked);
}

async fn restoring_lifts_a_revocation_and_changes_nothing_else(store: Store) {
    let device = lamp(&store).await;
    assert_eq!(store.restore(&device).await.expect("store"), Some(false), "there was none");
    let keys = Proof::Keys { current: [5; 32], next: Some([6; 32]) };
    store.provision(&device, keys).await.expect("store");
    let before = store.identity(&device).await.expect("store");
    store.revoke(&device).await.expect("store");
    assert_eq!(store.append(&message(&device, 1)).await.expect("store"), Appended::Revoked);
    assert_eq!(store.restore(&device).await.expect("store"), Some(true));
    assert_eq!(store.restore(&device).await.expect("store"), Some(false), "repeating it is harmless");
    assert_eq!(store.identity(&device).await.expect("store"), before);
    append(&store, &message(&device, 1)).await;
    attach(&store, &by(6, &device)).await;
    assert_eq!(store.restore(&DeviceKey::single("nobody").expect("an id")).await.expect("store"), None);
}

/// A first attachment by a key.
fn by(key: u8, device: &DeviceKey) -> Attach {
    Attach { key: KeyMark([key; 8]), ..hello(device) }
}

/// A device with these keys.
async fn keyed(store: &Store, current: u8, next: Option<u8>) -> DeviceKey {
    let device = DeviceKey::single("lamp").expect("is a device id");
    let proof = Proof::Keys { current: [current; 32], next: next.map(|key| [key; 32]) };
    store.provision(&device, proof).await.expect("store");
    device
}

/// First bytes of a device's keys.
async fn keys(store: &Store, device: &DeviceKey) -> (u8, Option<u8>) {
    match store.identity(device).await.expect("store").expect("provisioned").proof.expect("written by the store") {
        Proof::Keys { current, next } => (current[0], next.map(|key| key[0])),
        Proof::Plain => panic!("it has keys"),
    }
}

async fn the_next_key_is_good_beside_the_current_one_until_it_is_promoted(store: Store) {
    let device = keyed(&store, 1, None).await;
    assert_eq!(keys(&store, &device).await, (1, None));
    assert_eq!(store.set_next_key(&device, &[2; 32]).await.expect("store"), NextKey::Set);
    assert_eq!(keys(&store, &device).await, (1, Some(2)));
    assert_eq!(store.promote_key(&device, &[1; 32]).await.expect("store"), Promoted::Current);
    assert_eq!(keys(&store, &device).await, (1, Some(2)), "a login with the current key changes nothing");
    assert_eq!(store.promote_key(&device, &[2; 32]).await.expect("store"), Promoted::Promoted);
    assert_eq!(keys(&store, &device).await, (2, None), "the older one is good no more");
}

async fn a_promotion_is_repeatable_and_takes_only_the_next_key(store: Store) {
    let device = keyed(&store, 1, Some(2)).await;
    assert_eq!(store.promote_key(&device, &[3; 32]).await.expect("store"), Promoted::OtherKey);
    assert_eq!(keys(&store, &device).await, (1, Some(2)));
    assert_eq!(store.promote_key(&device, &[2; 32]).await.expect("store"), Promoted::Promoted);
    assert_eq!(store.promote_key(&device, &[2; 32]).await.expect("store"), Promoted::Current);
    assert_eq!(store.promote_key(&device, &[1; 32]).await.expect("store"), Promoted::OtherKey, "no way back");
    assert_eq!(keys(&store, &device).await, (2, None));
    let nobody = DeviceKey::single("nobody").expect("an id");
    assert_eq!(store.promote_key(&nobody, &[2; 32]).await.expect("store"), Promoted::UnknownDevice);
    assert_eq!(store.identity(&nobody).await.expect("store"), None, "nothing of it was made up");
}

async fn a_next_key_follows_only_a_key(store: Store) {
    let device = lamp(&store).await;
    assert_eq!(store.set_next_key(&device, &[2; 32]).await.expect("store"), NextKey::Plain);
    assert_eq!(store.promote_key(&device, &[2; 32]).await.expect("store"), Promoted::OtherKey);
    let identity = store.identity(&device).await.expect("store").expect("provisioned");
    assert_eq!(identity.proof, Ok(Proof::Plain));
    let device = keyed(&store, 1, None).await;
    assert_eq!(store.set_next_key(&device, &[1; 32]).await.expect("store"), NextKey::Current);
    assert_eq!(keys(&store, &device).await, (1, None));
    store.set_next_key(&device, &[2; 32]).await.expect("store");
    assert_eq!(store.set_next_key(&device, &[3; 32]).await.expect("store"), NextKey::Set);
    assert_eq!(keys(&store, &device).await, (1, Some(3)), "the newest next one counts");
    let nobody = DeviceKey::single("nobody").expect("an id");
    assert_eq!(store.set_next_key(&nobody, &[2; 32]).await.expect("store"), NextKey::UnknownDevice);
    assert_eq!(store.identity(&nobody).await.expect("store"), None, "nothing of it was made up");
}

async fn provisioning_again_drops_the_next_key_unless_one_is_given(store: Store) {
    let device = keyed(&store, 1, Some(2)).await;
    keyed(&store, 3, None).await;
    assert_eq!(keys(&store, &device).await, (3, None));
    keyed(&store, 4, Some(5)).await;
    lamp(&store).await;
    keyed(&store, 6, None).await;
    assert_eq!(keys(&store, &device).await, (6, None), "what was before `plain` does not come back");
}

async fn a_revoked_device_promotes_no_key(store: Store) {
    let device = keyed(&store, 1, Some(2)).await;
    store.revoke(&device).await.expect("store");
    assert_eq!(store.promote_key(&device, &[2; 32]).await.expect("store"), Promoted::Revoked);
    store.restore(&device).await.expect("store");
    assert_eq!(keys(&store, &device).await, (1, Some(2)));
}

async fn a_removed_device_leaves_no_key_behind(store: Store) {
    let device = keyed(&store, 1, Some(2)).await;
    store.remove(&device).await.expect("store");
    assert_eq!(store.promote_key(&device, &[2; 32]).await.expect("store"), Promoted::UnknownDevice);
    keyed(&store, 3, None).await;
    assert_eq!(keys(&store, &device).await, (3, None));
}

async fn a_removed_device_is_gone_with_its_mailbox(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let ids = fill(&store, &device, 2).await;
    let ended = store.remove(&device).await.expect("store").expect("known").expect("was attached");
    assert_eq!(ended.epoch, new.epoch);
    assert_eq!(store.identity(&device).await.expect("store"), None);
    assert_eq!(store.message_state(&device, ids[0]).await.expect("store"), None);
    assert!(store.devices("-", "", 10).await.expect("store").is_empty());
}

async fn ids_of_a_removed_device_do_not_come_back_when_it_is_provisioned_again(store: Store) {
    let device = lamp(&store).await;
    let old = fill(&store, &device, 1).await[0];
    store.remove(&device).await.expect("store");
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    lamp(&store).await;
    let new = fill(&store, &device, 1).await[0];
    assert!(new.generation > old.generation, "{new} is not beyond {old}");
    assert_eq!(state(&store, &device, old).await, imlink_store::mailbox::State::Unknown);
}

async fn devices_are_listed_in_order_page_by_page_and_by_tenant(store: Store) {
    for (tenant, name) in [("-", "c"), ("-", "a"), ("-", "b.2"), ("-", "b"), ("x", "b"), ("x-y", "q")] {
        let device = DeviceKey::new(tenant, name).expect("has its form");
        store.provision(&device, Proof::Plain).await.expect("store");
    }
    let list = async |tenant, after, limit| {
        let page = store.devices(tenant, after, limit).await.expect("store");
        page.iter().map(|device| device.device().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("-", "", 3).await, ["a", "b", "b.2"]);
    assert_eq!(list("-", "b.2", 3).await, ["c"]);
    assert_eq!(list("-", "c", 3).await, Vec::<String>::new());
    assert_eq!(list("x", "", 3).await, ["b"]);
    assert_eq!(list("nobody", "", 3).await, Vec::<String>::new());
}

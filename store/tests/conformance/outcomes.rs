//! What became of messages: rejected, expired, failed, cancelled, unknown (DESIGN §6.3, §6.4).

use imlink_protocol::id::{Cursor, MessageId};
use imlink_protocol::message::Code;
use imlink_store::Store;
use imlink_store::mailbox::{Append, Cancelled, State};
use imlink_store::session::{Attach, Reassert};

use crate::behaviours;
use crate::scene::*;

behaviours!(
    a_rejected_message_keeps_its_code,
    a_rejection_above_the_ack_leaves_a_tombstone_and_trims_nothing_else,
    a_message_nobody_was_offered_expires_as_not_run,
    an_expired_message_is_not_given_out,
    a_message_in_flight_is_not_expired_and_may_have_run_when_its_session_ends,
    a_message_in_flight_past_its_time_may_still_be_acked,
    an_expired_message_makes_room_in_a_full_mailbox,
    a_head_offered_eight_times_without_progress_is_failed,
    progress_starts_the_count_of_offers_anew,
    a_waiting_message_can_be_cancelled_once,
    a_sent_message_cannot_be_cancelled,
    a_message_that_never_was_is_unknown,
    an_outcome_pushed_out_of_the_ring_is_unknown_and_so_is_what_is_older,
    survivors_of_a_rollback_acked_by_the_session_that_held_them_are_acked,
    survivors_of_a_rollback_that_no_session_is_known_to_have_held_are_unknown,
    survivors_of_a_rollback_acked_by_another_session_are_unknown,
    survivors_of_a_rollback_sent_again_and_acked_are_acked,
);

fn brief(device: &imlink_store::DeviceKey, n: u8) -> Append {
    Append { ttl_s: 1, ..message(device, n) }
}

async fn a_rejected_message_keeps_its_code(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let ids = fill(&store, &device, 3).await;
    reject(&store, &device, new.epoch, ids[1], &[(ids[1], Code(300))]).await;
    assert_eq!(state(&store, &device, ids[0]).await, State::Acked);
    assert_eq!(state(&store, &device, ids[1]).await, State::Rejected { code: Code(300) });
    assert_eq!(state(&store, &device, ids[2]).await, State::Sent);
    acknowledge(&store, &device, new.epoch, ids[2]).await;
    assert_eq!(
        state(&store, &device, ids[1]).await,
        State::Rejected { code: Code(300) },
        "a later ack changes nothing"
    );
}

async fn a_rejection_above_the_ack_leaves_a_tombstone_and_trims_nothing_else(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let ids = fill(&store, &device, 3).await;
    reject(&store, &device, new.epoch, Cursor::default(), &[(ids[1], Code::TOO_LARGE)]).await;
    assert_eq!(numbers(&store, &device, new.epoch, Cursor::default()).await, [1, 3]);
    assert_eq!(state(&store, &device, ids[1]).await, State::Rejected { code: Code::TOO_LARGE });
    acknowledge(&store, &device, new.epoch, ids[0]).await;
    let head = store.heads(std::slice::from_ref(&device)).await.expect("store")[0];
    assert_eq!((head.last, head.waiting), (3, 1), "the tombstone went when it was first");
    let next = append(&store, &message(&device, 4)).await.id;
    assert_eq!(next.sequence, 4);
    assert_eq!(numbers(&store, &device, new.epoch, Cursor::default()).await, [3, 4]);
}

async fn a_message_nobody_was_offered_expires_as_not_run(store: Store) {
    let device = lamp(&store).await;
    let id = append(&store, &brief(&device, 1)).await.id;
    let lasting = append(&store, &message(&device, 2)).await.id;
    assert_eq!(state(&store, &device, id).await, State::Waiting);
    until_state(&store, &device, id, State::Expired { may_have_run: false }).await;
    assert_eq!(state(&store, &device, lasting).await, State::Waiting);
}

async fn an_expired_message_is_not_given_out(store: Store) {
    let device = lamp(&store).await;
    append(&store, &message(&device, 1)).await;
    let brief = append(&store, &brief(&device, 2)).await;
    append(&store, &message(&device, 3)).await;
    while store.now_ms().await.expect("store") <= brief.expires_ms {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let new = attach(&store, &hello(&device)).await;
    assert_eq!(offered_numbers(&new), [1, 3]);
    assert_eq!(state(&store, &device, brief.id).await, State::Expired { may_have_run: false });
}

async fn a_message_in_flight_is_not_expired_and_may_have_run_when_its_session_ends(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let stored = append(&store, &brief(&device, 1)).await;
    while store.now_ms().await.expect("store") <= stored.expires_ms {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(state(&store, &device, stored.id).await, State::Sent);
    assert_eq!(numbers(&store, &device, new.epoch, Cursor::default()).await, [1]);
    store.detach(&device, hello(&device).server_incarnation, new.epoch).await.expect("store");
    assert_eq!(state(&store, &device, stored.id).await, State::Expired { may_have_run: true });
}

async fn a_message_in_flight_past_its_time_may_still_be_acked(store: Store) {
    let device = lamp(&store).await;
    let new = attach(&store, &hello(&device)).await;
    let stored = append(&store, &brief(&device, 1)).await;
    while store.now_ms().await.expect("store") <= stored.expires_ms {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    append(&store, &message(&device, 2)).await;
    acknowledge(&store, &device, new.epoch, stored.id).await;
    assert_eq!(state(&store, &device, stored.id).await, State::Acked);
}

async fn an_expired_message_makes_room_in_a_full_mailbox(store: Store) {
    let device = lamp(&store).await;
    let stored = append(&store, &Append { mailbox_max: 1, ..brief(&device, 1) }).await;
    while store.now_ms().await.expect("store") <= stored.expires_ms {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    append(&store, &Append { mailbox_max: 1, ..message(&device, 2) }).await;
}

async fn a_head_offered_eight_times_without_progress_is_failed(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 2).await;
    for attempt in 1..=8 {
        let new = attach(&store, &Attach { attempt, window: 1, ..hello(&device) }).await;
        assert_eq!(offered_numbers(&new), [1], "attempt {attempt}");
        let again = attach(&store, &Attach { attempt, window: 1, ..hello(&device) }).await;
        assert_eq!(offered_numbers(&again), [1], "asking again is no attempt of its own");
    }
    let new = attach(&store, &Attach { attempt: 9, ..hello(&device) }).await;
    assert_eq!(offered_numbers(&new), [2], "a poison message does not block the mailbox");
    assert_eq!(state(&store, &device, ids[0]).await, State::Failed);
}

async fn progress_starts_the_count_of_offers_anew(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 2).await;
    for attempt in 1..=8 {
        attach(&store, &Attach { attempt, ..hello(&device) }).await;
    }
    acknowledge(&store, &device, 0, ids[0]).await;
    for attempt in 9..=16 {
        let new = attach(&store, &Attach { attempt, ..hello(&device) }).await;
        assert_eq!(offered_numbers(&new), [2], "attempt {attempt}");
    }
    let new = attach(&store, &Attach { attempt: 17, ..hello(&device) }).await;
    assert_eq!(new.entries, []);
}

async fn a_waiting_message_can_be_cancelled_once(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 3).await;
    for id in [ids[1], ids[0]] {
        assert_eq!(store.cancel(&device, id).await.expect("store"), Cancelled::Cancelled);
        assert_eq!(store.cancel(&device, id).await.expect("store"), Cancelled::TooLate(State::Cancelled));
        assert_eq!(state(&store, &device, id).await, State::Cancelled);
    }
    let new = attach(&store, &hello(&device)).await;
    assert_eq!(offered_numbers(&new), [3]);
}

async fn a_sent_message_cannot_be_cancelled(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 2).await;
    let new = attach(&store, &Attach { window: 1, ..hello(&device) }).await;
    assert_eq!(store.cancel(&device, ids[0]).await.expect("store"), Cancelled::TooLate(State::Sent));
    assert_eq!(store.cancel(&device, ids[1]).await.expect("store"), Cancelled::Cancelled);
    acknowledge(&store, &device, new.epoch, ids[0]).await;
    assert_eq!(store.cancel(&device, ids[0]).await.expect("store"), Cancelled::TooLate(State::Acked));
}

async fn a_message_that_never_was_is_unknown(store: Store) {
    let device = lamp(&store).await;
    assert_eq!(state(&store, &device, MessageId::new(1, 1)).await, State::Unknown);
    let id = fill(&store, &device, 1).await[0];
    for never in [
        MessageId::new(id.generation, 2),
        MessageId::new(id.generation, 0),
        MessageId::new(id.generation - 1, 1),
        MessageId::new(id.generation + 1, 1),
        MessageId::new(u64::MAX, u64::MAX),
    ] {
        assert_eq!(state(&store, &device, never).await, State::Unknown, "{never}");
        assert_eq!(store.cancel(&device, never).await.expect("store"), Cancelled::TooLate(State::Unknown));
    }
}

async fn an_outcome_pushed_out_of_the_ring_is_unknown_and_so_is_what_is_older(store: Store) {
    let device = lamp(&store).await;
    let ids = fill(&store, &device, 70).await;
    let acked = attach(&store, &hello(&device)).await.epoch;
    acknowledge(&store, &device, acked, ids[0]).await;
    assert_eq!(state(&store, &device, ids[0]).await, State::Acked);
    let rejected: Vec<_> = ids[1..66].iter().map(|id| (*id, Code(256))).collect();
    reject(&store, &device, acked, ids[66], &rejected).await;
    assert_eq!(state(&store, &device, ids[0]).await, State::Unknown);
    assert_eq!(state(&store, &device, ids[1]).await, State::Unknown);
    assert_eq!(state(&store, &device, ids[2]).await, State::Rejected { code: Code(256) });
    assert_eq!(state(&store, &device, ids[65]).await, State::Rejected { code: Code(256) });
    assert_eq!(state(&store, &device, ids[66]).await, State::Acked);
}

/// A mailbox of three, the first of them in flight, whose store went back behind what was sent; the session lives on.
async fn rolled_back(store: &Store) -> (imlink_store::DeviceKey, u64, Vec<MessageId>) {
    let device = lamp(store).await;
    let ids = fill(store, &device, 3).await;
    let new = attach(store, &Attach { window: 1, ..hello(&device) }).await;
    let sent = MessageId::new(ids[2].generation, 9);
    let behind = Reassert { sent, ..crate::attaching::reassertion(&device, new.epoch) };
    store.reassert(&[behind]).await.expect("store");
    (device, new.epoch, ids)
}

async fn survivors_of_a_rollback_acked_by_the_session_that_held_them_are_acked(store: Store) {
    let (device, epoch, ids) = rolled_back(&store).await;
    acknowledge(&store, &device, epoch, ids[0]).await;
    assert_eq!(state(&store, &device, ids[0]).await, State::Acked);
}

async fn survivors_of_a_rollback_that_no_session_is_known_to_have_held_are_unknown(store: Store) {
    let (device, epoch, ids) = rolled_back(&store).await;
    acknowledge(&store, &device, epoch, ids[1]).await;
    assert_eq!(state(&store, &device, ids[0]).await, State::Acked);
    assert_eq!(state(&store, &device, ids[1]).await, State::Unknown, "it may have expired in what was lost");
    let cursor = ids[2];
    attach(&store, &Attach { attempt: 2, cursor, ..hello(&device) }).await;
    assert_eq!(state(&store, &device, ids[2]).await, State::Unknown);
}

async fn survivors_of_a_rollback_acked_by_another_session_are_unknown(store: Store) {
    let (device, epoch, ids) = rolled_back(&store).await;
    acknowledge(&store, &device, epoch - 1, ids[0]).await;
    assert_eq!(state(&store, &device, ids[0]).await, State::Unknown);
}

async fn survivors_of_a_rollback_sent_again_and_acked_are_acked(store: Store) {
    let (device, _, ids) = rolled_back(&store).await;
    let new = attach(&store, &Attach { attempt: 2, ..hello(&device) }).await;
    assert!(new.offered >= ids[2], "they may have reached the device");
    assert_eq!(offered_numbers(&new), [1, 2, 3]);
    acknowledge(&store, &device, new.epoch, ids[2]).await;
    assert_eq!(state(&store, &device, ids[2]).await, State::Acked);
}

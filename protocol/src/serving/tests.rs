use core::time::Duration;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::id::MessageId;
use crate::key::Key;
use crate::limits::{EVENT_WINDOW_MAX, HEARTBEAT_DEFAULT};
use crate::message::{Code, FromDevice, ToDevice};
use crate::time::Instant;

const KEY: Key = Key::raw("led/set");
const GENERATION: u64 = 1_000_000;

/// Frames as short words: `m5` message 5, `m5!` redelivered, `g7` generation, `probe`, `pong`.
#[derive(Default)]
struct Wire(Vec<std::string::String>);

impl Transmit for Wire {
    fn transmit(&mut self, message: &ToDevice<'_>) {
        self.0.push(match message {
            ToDevice::Message { sequence, flags, .. } if flags.is_redelivered() => std::format!("m{sequence}!"),
            ToDevice::Message { sequence, .. } => std::format!("m{sequence}"),
            ToDevice::Generation { generation } => std::format!("g{generation}"),
            ToDevice::EventAck { sequence } => std::format!("e{sequence}"),
            ToDevice::Call { request, deadline_ms, .. } => std::format!("c{request}@{deadline_ms}"),
            ToDevice::Probe => "probe".into(),
            ToDevice::Pong { now_ms } => std::format!("pong{now_ms}"),
            other => std::format!("{other:?}"),
        });
    }
}

impl Wire {
    fn take(&mut self) -> Vec<std::string::String> {
        core::mem::take(&mut self.0)
    }
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn head(last: u64) -> MailboxHead {
    MailboxHead { generation: GENERATION, last }
}

fn message(sequence: u64) -> Outgoing<'static> {
    Outgoing { id: MessageId::new(GENERATION, sequence), key: KEY, expires_ms: 0, payload: b"on" }
}

fn opening(window: u8) -> Opening {
    Opening {
        epoch: 3,
        generation: GENERATION,
        offered: MessageId::default(),
        cursor: MessageId::default(),
        window,
        receive_limit: 512,
        interval: HEARTBEAT_DEFAULT,
        event_position: 0,
        store_ms: 5_000_000,
    }
}

/// A session with an empty mailbox, opened at 0.
fn session(window: u8) -> (Session, Wire) {
    let mut session = Session::new(at(0), &opening(window));
    let mut wire = Wire::default();
    session.handle_page(at(0), [], head(0), false, &mut wire);
    (session, wire)
}

fn ack(session: &mut Session, now: u64, sequence: u64, wire: &mut Wire) -> Incoming<'static> {
    session.handle_frame(at(now), &FromDevice::Ack { sequence }, wire).unwrap()
}

#[test]
fn a_deliver_that_is_next_in_order_goes_straight_out() {
    let (mut session, mut wire) = session(4);
    assert_eq!(session.handle_deliver(at(1), &message(1), &mut wire), Delivered::Sent);
    assert_eq!(session.handle_deliver(at(1), &message(1), &mut wire), Delivered::Known);
    assert_eq!(wire.take(), ["m1"]);
    assert_eq!(ack(&mut session, 2, 1, &mut wire), Incoming::Acked(MessageId::new(GENERATION, 1)));
    assert_eq!(ack(&mut session, 3, 1, &mut wire), Incoming::Nothing);
}

#[test]
fn crossing_delivers_are_read_from_the_mailbox_in_order() {
    let (mut session, mut wire) = session(4);
    assert_eq!(session.handle_deliver(at(1), &message(2), &mut wire), Delivered::Later);
    let wanted = session.poll_read().unwrap();
    assert_eq!(wanted, Wanted { after: MessageId::default(), limit: 4 });
    assert_eq!(session.poll_read(), None, "one read at a time");
    assert_eq!(session.handle_deliver(at(1), &message(1), &mut wire), Delivered::Later);
    session.handle_page(at(2), [message(1), message(2)], head(2), false, &mut wire);
    assert_eq!(wire.take(), ["m1", "m2"]);
    assert_eq!(session.poll_read(), None, "both hints are answered by the page");
    assert_eq!(session.handle_deliver(at(3), &message(3), &mut wire), Delivered::Sent);
}

#[test]
fn a_message_heard_of_while_reading_is_read_after_the_page() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(1), &message(2), &mut wire);
    session.poll_read().unwrap();
    session.handle_deliver(at(1), &message(3), &mut wire);
    session.handle_page(at(2), [message(1), message(2)], head(2), false, &mut wire);
    assert_eq!(session.poll_read().unwrap().after, MessageId::new(GENERATION, 2));
}

#[test]
fn no_more_than_the_window_is_in_flight_and_the_rest_waits_in_the_mailbox() {
    let (mut session, mut wire) = session(2);
    for sequence in 1..=3 {
        session.handle_deliver(at(1), &message(sequence), &mut wire);
    }
    assert_eq!(wire.take(), ["m1", "m2"]);
    assert_eq!(session.poll_read(), None, "no room to read into");
    ack(&mut session, 2, 1, &mut wire);
    assert_eq!(session.poll_read().unwrap(), Wanted { after: MessageId::new(GENERATION, 2), limit: 1 });
    session.handle_page(at(3), [message(3)], head(3), false, &mut wire);
    assert_eq!(wire.take(), ["m3"]);
}

#[test]
fn an_unacknowledged_message_is_probed_then_sent_again_once_then_waited_for() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(1), &mut wire);
    assert_eq!(session.handle_timeout(at(4_999), &mut wire), Overdue::Nothing(at(5_000)));
    assert_eq!(session.handle_timeout(at(5_000), &mut wire), Overdue::Probe);
    assert_eq!(wire.take(), ["m1", "probe"]);
    session.handle_frame(at(6_000), &FromDevice::Ping { next_ms: 300_000 }, &mut wire).unwrap();
    assert_eq!(session.poll_read().unwrap().after, MessageId::default());
    session.handle_page(at(6_001), [message(1)], head(1), false, &mut wire);
    assert_eq!(wire.take(), ["pong6000", "m1!"]);
    for second in 6..306 {
        assert!(matches!(session.handle_timeout(at(second * 1000), &mut wire), Overdue::Nothing(_)));
    }
    assert_eq!(wire.take(), [""; 0], "never repeated blindly");
    assert_eq!(session.handle_timeout(at(306_000), &mut wire), Overdue::Stuck);
}

#[test]
fn busy_extends_the_handling_time() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(1), &mut wire);
    session.handle_timeout(at(5_000), &mut wire);
    for second in [6, 200, 400] {
        session.handle_frame(at(second * 1000), &FromDevice::Busy, &mut wire).unwrap();
    }
    assert!(matches!(session.handle_timeout(at(699_000), &mut wire), Overdue::Nothing(_)));
    assert_eq!(session.handle_timeout(at(700_000), &mut wire), Overdue::Stuck);
}

#[test]
fn a_probe_without_an_answer_means_a_dead_link() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(1), &mut wire);
    assert_eq!(session.handle_timeout(at(5_000), &mut wire), Overdue::Probe);
    assert_eq!(session.handle_timeout(at(10_000), &mut wire), Overdue::Silent);
}

#[test]
fn a_silent_link_is_cut_at_five_thirds_of_the_interval_last_announced() {
    let (mut session, mut wire) = session(4);
    assert_eq!(session.handle_timeout(at(499_999), &mut wire), Overdue::Nothing(at(500_000)));
    session.handle_frame(at(499_999), &FromDevice::Ping { next_ms: 60_000 }, &mut wire).unwrap();
    assert_eq!(session.handle_timeout(at(599_998), &mut wire), Overdue::Nothing(at(599_999)));
    assert_eq!(session.handle_timeout(at(599_999), &mut wire), Overdue::Silent);
}

#[test]
fn acks_before_the_answer_to_a_generation_belong_to_the_older_one() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(5), &mut wire);
    session.poll_read().unwrap();
    let newer = Outgoing { id: MessageId::new(GENERATION + 9, 4), ..message(4) };
    let newer_head = MailboxHead { generation: GENERATION + 9, last: 4 };
    session.handle_page(at(1), [message(3), newer], newer_head, false, &mut wire);
    assert_eq!(wire.take(), ["m3"], "the older generation is acknowledged first");
    ack(&mut session, 2, 3, &mut wire);
    session.poll_read().unwrap();
    session.handle_page(at(3), [newer], newer_head, false, &mut wire);
    assert_eq!(wire.take(), ["g1000009", "m4"]);
    assert_eq!(ack(&mut session, 4, 4, &mut wire), Incoming::Nothing);
    session.handle_frame(at(5), &FromDevice::Generation { generation: GENERATION + 9 }, &mut wire).unwrap();
    assert_eq!(ack(&mut session, 6, 4, &mut wire), Incoming::Acked(newer.id));
}

#[test]
fn a_store_behind_what_was_sent_has_lost_its_tail() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(1), &mut wire);
    assert_eq!(session.handle_head(head(1), 1), HeadCheck::Same);
    assert_eq!(session.handle_head(head(0), 1), HeadCheck::RolledBack);
    assert_eq!(session.handle_head(head(2), 1), HeadCheck::More);
    assert!(session.poll_read().is_some());
}

#[test]
fn a_new_generation_with_the_same_last_sequence_is_noticed() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(1), &mut wire);
    let reopened = MailboxHead { generation: GENERATION + 1, last: 1 };
    assert_eq!(session.handle_head(reopened, 1), HeadCheck::More);
}

#[test]
fn an_entry_that_can_never_fit_is_refused_and_the_next_ones_go_on() {
    let (mut session, mut wire) = session(4);
    let large = vec![0; 600];
    session.handle_deliver(at(0), &Outgoing { payload: &large, ..message(1) }, &mut wire);
    session.poll_read().unwrap();
    let page =
        session.handle_page(at(1), [Outgoing { payload: &large, ..message(1) }, message(2)], head(2), false, &mut wire);
    assert_eq!(page, PageTaken { taken: 0, refused: Some((message(1).id, Code::TOO_LARGE)) });
    session.poll_read().unwrap();
    session.handle_page(at(2), [message(2)], head(2), false, &mut wire);
    assert_eq!(wire.take(), ["m2"]);
}

#[test]
fn what_was_offered_to_an_earlier_session_goes_out_as_redelivered() {
    let mut session = Session::new(at(0), &Opening { offered: MessageId::new(GENERATION, 1), ..opening(4) });
    let mut wire = Wire::default();
    session.handle_page(at(0), [message(1), message(2)], head(2), false, &mut wire);
    assert_eq!(wire.take(), ["m1!", "m2"]);
}

#[test]
fn a_call_carries_its_deadline_on_the_session_clock() {
    let mut session = Session::new(at(1_000), &opening(4));
    let mut wire = Wire::default();
    assert_eq!(session.call(at(3_000), KEY, Duration::from_secs(5), b"?", &mut wire), Ok(1));
    assert_eq!(session.call(at(3_000), KEY, Duration::from_secs(5), b"?", &mut wire), Ok(2));
    assert_eq!(wire.take(), ["c1@7000", "c2@7000"]);
    assert_eq!(
        session.call(at(3_000), KEY, Duration::from_secs(5), &[0; 500], &mut wire),
        Err(CallRefused::TooLarge { max: 466 })
    );
}

#[test]
fn events_past_the_window_or_out_of_order_break_the_rules() {
    let (mut session, mut wire) = session(4);
    let event = |sequence| FromDevice::Event { sequence, key: KEY, payload: b"21" };
    for sequence in 1..=u64::from(EVENT_WINDOW_MAX) {
        session.handle_frame(at(0), &event(sequence), &mut wire).unwrap();
    }
    let refused = session.handle_frame(at(0), &event(65), &mut wire);
    assert_eq!(refused, Err(Violation::Event { sequence: 65 }));
    session.handle_events_stored(64, 64, &mut wire);
    assert_eq!(wire.take(), ["e64"]);
    assert!(session.handle_frame(at(0), &event(70), &mut wire).is_ok(), "gaps are normal");
    assert_eq!(session.handle_frame(at(0), &event(70), &mut wire), Err(Violation::Event { sequence: 70 }));
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(1), &mut wire);
    let refused = session.handle_frame(at(0), &FromDevice::Ack { sequence: 2 }, &mut wire);
    assert_eq!(refused, Err(Violation::AckAhead { sequence: 2, sent: 1 }));
}

#[test]
fn one_session_takes_less_than_400_bytes() {
    assert!(size_of::<Session>() < 400, "{}", size_of::<Session>());
}

#[test]
fn a_newer_generation_is_not_read_again_and_again_while_the_older_one_is_in_flight() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(1), &mut wire);
    let newer = Outgoing { id: MessageId::new(GENERATION + 9, 2), ..message(2) };
    let newer_head = MailboxHead { generation: GENERATION + 9, last: 2 };
    session.handle_deliver(at(0), &newer, &mut wire);
    session.poll_read().unwrap();
    session.handle_page(at(1), [newer], newer_head, false, &mut wire);
    assert_eq!(session.poll_read(), None, "nothing would come of it");
    ack(&mut session, 2, 1, &mut wire);
    session.poll_read().unwrap();
    session.handle_page(at(3), [newer], newer_head, false, &mut wire);
    assert_eq!(wire.take(), ["m1", "g1000009", "m2"]);
    assert_eq!(session.poll_read(), None);
}

#[test]
fn a_generation_is_announced_only_with_a_message_of_it() {
    let (mut session, mut wire) = session(4);
    let large = vec![0; 600];
    let first = Outgoing { id: MessageId::new(GENERATION + 1, 1), payload: &large, ..message(1) };
    let second = Outgoing { id: MessageId::new(GENERATION + 2, 2), ..message(2) };
    session.handle_deliver(at(0), &second, &mut wire);
    let newer_head = MailboxHead { generation: GENERATION + 2, last: 2 };
    session.poll_read().unwrap();
    let page = session.handle_page(at(1), [first, second], newer_head, false, &mut wire);
    assert_eq!(page.refused, Some((first.id, Code::TOO_LARGE)));
    session.poll_read().unwrap();
    session.handle_page(at(2), [second], newer_head, false, &mut wire);
    assert_eq!(wire.take(), ["g1000002", "m2"]);
}

#[test]
fn a_head_that_grew_during_a_read_is_read_after_it() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(1), &message(2), &mut wire);
    session.poll_read().unwrap();
    assert_eq!(session.handle_head(head(3), 1), HeadCheck::More);
    session.handle_page(at(2), [message(1), message(2)], head(2), false, &mut wire);
    assert!(session.poll_read().is_some());
}

#[test]
fn a_message_announced_while_the_device_attached_is_read_after_the_first_page() {
    let mut session = Session::new(at(0), &opening(4));
    let mut wire = Wire::default();
    session.handle_hint(MessageId::new(GENERATION, 1));
    session.handle_page(at(0), [], head(0), false, &mut wire);
    assert!(session.is_waiting());
    assert!(session.poll_read().is_some());
}

#[test]
fn a_probed_device_at_work_is_not_sent_everything_again() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(1), &mut wire);
    session.handle_deliver(at(0), &message(2), &mut wire);
    session.handle_timeout(at(5_000), &mut wire);
    session.handle_frame(at(5_100), &FromDevice::Busy, &mut wire).unwrap();
    assert_eq!(session.poll_read(), None, "it is in the handler");
    ack(&mut session, 6_000, 1, &mut wire);
    session.handle_timeout(at(11_000), &mut wire);
    ack(&mut session, 11_100, 2, &mut wire);
    assert_eq!(session.poll_read(), None);
}

#[test]
fn a_slow_link_gets_time_to_carry_a_large_message() {
    let mut session = Session::new(at(0), &Opening { receive_limit: 65_536, ..opening(4) });
    let mut wire = Wire::default();
    session.handle_page(at(0), [], head(0), false, &mut wire);
    let large = vec![0; 60 * 1024];
    session.handle_deliver(at(0), &Outgoing { payload: &large, ..message(1) }, &mut wire);
    assert_eq!(session.handle_timeout(at(64_999), &mut wire), Overdue::Nothing(at(65_000)));
    assert_eq!(session.handle_timeout(at(65_000), &mut wire), Overdue::Probe);
    ack(&mut session, 65_001, 1, &mut wire);
    session.handle_deliver(at(70_000), &message(2), &mut wire);
    assert_eq!(session.handle_timeout(at(75_000), &mut wire), Overdue::Probe, "the allowance ends with the message");
}

#[test]
fn numbers_past_2_to_the_53_never_reach_the_store() {
    let (mut session, mut wire) = session(4);
    let event = FromDevice::Event { sequence: 1 << 53, key: KEY, payload: b"" };
    assert_eq!(session.handle_frame(at(0), &event, &mut wire), Err(Violation::Event { sequence: 1 << 53 }));
}

#[test]
fn a_ping_behind_a_refusal_is_answered_once_the_refusal_is_stored() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(1), &mut wire);
    let nack = FromDevice::Nack { sequence: 1, code: Code::DEVICE_ERROR };
    let refused = Incoming::Nacked(message(1).id, Code::DEVICE_ERROR);
    assert_eq!(session.handle_frame(at(1), &nack, &mut wire), Ok(refused));
    session.handle_frame(at(2), &FromDevice::Ping { next_ms: 60_000 }, &mut wire).unwrap();
    assert_eq!(wire.take(), ["m1"]);
    session.handle_nacks_stored(at(3), 1, &mut wire);
    assert_eq!(wire.take(), ["pong3"]);
    session.handle_nacks_stored(at(4), 1, &mut wire);
    assert_eq!(wire.take(), [""; 0]);
}

#[test]
fn an_entry_whose_end_the_store_lost_is_noticed_at_the_second_look() {
    let (mut session, mut wire) = session(4);
    session.handle_deliver(at(0), &message(1), &mut wire);
    assert_eq!(session.handle_head(head(1), 1), HeadCheck::Same);
    assert_eq!(session.handle_head(head(1), 1), HeadCheck::Same, "it is in flight");
    ack(&mut session, 1, 1, &mut wire);
    assert_eq!(session.handle_head(head(1), 1), HeadCheck::Same, "the acknowledgement may be on its way");
    assert_eq!(session.handle_head(head(1), 0), HeadCheck::Same, "it is there");
    assert_eq!(session.handle_head(head(1), 1), HeadCheck::Same);
    assert_eq!(session.handle_head(head(1), 1), HeadCheck::WentBack);
}

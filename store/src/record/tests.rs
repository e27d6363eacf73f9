//! What needs a clock in the test's hand: expiry, the age of outcomes, lineages, and the size of a device.

use bytes::Bytes;
use imlink_protocol::id::{KeyMark, TokenId};
use imlink_protocol::key::Key;
use imlink_protocol::message::Code;
use proptest::prelude::*;

use super::*;

const DAY_MS: u64 = 24 * 3_600_000;

fn at(now_ms: u64) -> Moment {
    Moment { now_ms, lineage: 1 }
}

fn lamp() -> Record {
    let key = DeviceKey::single("lamp").expect("is a device id");
    Record::new(key, Proof::Plain, at(1_000))
}

fn seat() -> Arc<Seat> {
    Arc::new(Seat { server: "a".into(), incarnation: 9 })
}

fn message(n: u8, ttl_s: u32) -> Append {
    Append {
        device: DeviceKey::single("lamp").expect("is a device id"),
        id: [n; 16],
        retry: false,
        key: Key([0; 4]),
        fingerprint: Fingerprint::NONE,
        token: TokenId::NONE,
        ttl_s,
        payload: Bytes::from_static(b"on"),
        mailbox_max: 100,
    }
}

fn append(record: &mut Record, n: u8, ttl_s: u32, at: Moment) -> MessageId {
    match record.append(&message(n, ttl_s), false, at) {
        Appended::Stored(stored) => stored.id,
        refused => panic!("append was refused: {refused:?}"),
    }
}

fn attach(record: &mut Record, attempt: u32, window: u32, at: Moment) -> NewSession {
    let attach = Attach {
        device: record.key.clone(),
        server: "a".into(),
        server_incarnation: 9,
        incarnation: 7,
        attempt,
        key: KeyMark::PLAIN,
        epoch_floor: 0,
        cursor: Cursor::default(),
        fingerprint: Fingerprint::NONE,
        receive_limit: 0,
        event_queue: 0,
        window,
    };
    match record.attach(&attach, seat(), at) {
        Attached::Session(new) => *new,
        refused => panic!("attach was refused: {refused:?}"),
    }
}

#[test]
fn an_outcome_is_known_for_a_day_and_unknown_afterwards() {
    let mut lamp = lamp();
    let (id, later) = (append(&mut lamp, 1, 0, at(2_000)), append(&mut lamp, 2, 0, at(2_000)));
    assert_eq!(lamp.cancel(id, at(3_000)), Cancelled::Cancelled);
    assert_eq!(lamp.message_state(id, at(3_000 + DAY_MS)), State::Cancelled);
    assert_eq!(lamp.message_state(id, at(3_001 + DAY_MS)), State::Unknown);
    assert_eq!(lamp.message_state(later, at(3_001 + DAY_MS)), State::Waiting);
}

#[test]
fn under_another_lineage_what_survived_may_have_run() {
    let mut lamp = lamp();
    let survivor = append(&mut lamp, 1, 10, at(2_000));
    let moved = Moment { now_ms: 3_000, lineage: 2 };
    let new = append(&mut lamp, 2, 10, moved);
    assert!(new.generation > survivor.generation && new.sequence == survivor.sequence + 1);
    let over = Moment { now_ms: 20_000, lineage: 2 };
    assert_eq!(lamp.message_state(survivor, over), State::Expired { may_have_run: true });
    assert_eq!(lamp.message_state(new, over), State::Expired { may_have_run: false });
}

#[test]
fn a_retry_under_another_lineage_is_unknown() {
    let mut lamp = lamp();
    append(&mut lamp, 1, 0, at(2_000));
    assert_eq!(lamp.append(&message(2, 0), true, Moment { now_ms: 3_000, lineage: 2 }), Appended::Unknown);
    assert_eq!(lamp.head().waiting, 1);
}

#[test]
fn an_acknowledgement_before_the_new_lineage_was_seen_is_no_proof_either() {
    let mut lamp = lamp();
    let id = append(&mut lamp, 1, 0, at(2_000));
    let ack = Acknowledge { device: lamp.key.clone(), epoch: 5, upto: id, rejected: Vec::new() };
    let moved = Moment { now_ms: 3_000, lineage: 2 };
    lamp.acknowledge(&ack, moved);
    assert_eq!(lamp.message_state(id, moved), State::Unknown);
}

#[test]
fn a_clock_that_goes_back_repeats_neither_epochs_nor_generations() {
    let mut lamp = lamp();
    let late = 10 * DAY_MS;
    let first = attach(&mut lamp, 1, 1, at(late));
    let second = attach(&mut lamp, 2, 1, Moment { now_ms: 5, lineage: 2 });
    assert!(second.epoch > first.epoch && second.generation > first.generation);
}

#[test]
fn an_idle_device_costs_about_220_bytes() {
    // As the allocator rounds: its record and its name (two counts and the text).
    let chunk = |len: usize| (len + 8).next_multiple_of(16);
    let own = chunk(size_of::<Record>()) + chunk(16 + "-/sensor-012345".len());
    // A place in a table that is half to seven eighths full, and in the sorted one, two thirds full.
    let places = 9 * 16 / 11 + 16 * 3 / 2;
    assert!(own + places <= 220, "{own} + {places} bytes, the record is {}", size_of::<Record>());
}

/// One operation; times are in seconds, numbers choose a message by its place.
#[derive(Clone, Copy, Debug)]
enum Op {
    Append { ttl_s: u32 },
    Pass { s: u64 },
    Attach { window: u32 },
    Detach,
    Acknowledge(usize),
    Reject(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..6u32).prop_map(|ttl_s| Op::Append { ttl_s }),
        4 => (1..4u64).prop_map(|s| Op::Pass { s }),
        2 => (0..4u32).prop_map(|window| Op::Attach { window }),
        1 => Just(Op::Detach),
        1 => (0..20usize).prop_map(Op::Acknowledge),
        1 => (0..20usize).prop_map(Op::Reject),
    ]
}

/// What the oracle knows of a message.
struct Known {
    id: MessageId,
    expires_ms: u64,
    end: Option<State>,
}

/// Ends what is past its time and not held by a session.
fn expire(known: &mut [Known], offered: usize, is_attached: bool, now_ms: u64) {
    for (place, message) in known.iter_mut().enumerate() {
        let is_over = message.expires_ms != 0 && message.expires_ms <= now_ms;
        let may_have_run = place < offered;
        if message.end.is_none() && is_over && !(is_attached && may_have_run) {
            message.end = Some(State::Expired { may_have_run });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_expires_exactly_when_its_time_is_over_and_no_session_holds_it(
        ops in proptest::collection::vec(op(), 1..60)
    ) {
        let mut record = lamp();
        let mut known: Vec<Known> = Vec::new();
        let (mut now_ms, mut offered, mut session, mut attempt) = (2_000, 0, None, 0);
        let (mut head, mut offers) = (usize::MAX, 0);
        for op in ops {
            expire(&mut known, offered, session.is_some(), now_ms);
            match op {
                Op::Append { ttl_s } => {
                    let id = append(&mut record, known.len() as u8, ttl_s, at(now_ms));
                    let expires_ms = if ttl_s == 0 { 0 } else { now_ms + u64::from(ttl_s) * 1000 };
                    known.push(Known { id, expires_ms, end: None });
                    if session.is_some() {
                        offered = known.len();
                    }
                }
                Op::Pass { s } => now_ms += s * 1000,
                Op::Attach { window } => {
                    attempt += 1;
                    let new = attach(&mut record, attempt, window, at(now_ms));
                    session = Some(new.epoch);
                    expire(&mut known, offered, false, now_ms);
                    while let Some(first) = known.iter().position(|known| known.end.is_none()) {
                        if first != head {
                            (head, offers) = (first, 0);
                        }
                        if offers < crate::limits::OFFERS_MAX {
                            offers += 1;
                            break;
                        }
                        known[first].end = Some(State::Failed);
                    }
                    let given: Vec<_> = new.entries.iter().map(|entry| entry.id).collect();
                    let waiting = known.iter().filter(|known| known.end.is_none());
                    let expected: Vec<_> = waiting.take(window as usize).map(|known| known.id).collect();
                    prop_assert_eq!(&given, &expected);
                    if let Some(last) = given.last() {
                        offered = offered.max(last.sequence as usize);
                    }
                }
                Op::Detach => {
                    if let Some(epoch) = session.take() {
                        prop_assert!(record.detach(9, epoch, at(now_ms)));
                    }
                    expire(&mut known, offered, false, now_ms);
                }
                Op::Acknowledge(place) if place < known.len() => {
                    let (device, epoch) = (record.key.clone(), session.unwrap_or(1));
                    let ack = Acknowledge { device, epoch, upto: known[place].id, rejected: Vec::new() };
                    // The store ends what is over when it is next asked: an acknowledgement before that counts.
                    let _ = record.message_state(known[place].id, at(now_ms));
                    record.acknowledge(&ack, at(now_ms));
                    for known in &mut known[..=place] {
                        known.end.get_or_insert(State::Acked);
                    }
                }
                Op::Reject(place) if place < known.len() => {
                    let (id, code) = (known[place].id, Code(300));
                    let _ = record.message_state(id, at(now_ms));
                    let (device, epoch) = (record.key.clone(), session.unwrap_or(1));
                    let rejected = vec![(id, code)];
                    let ack = Acknowledge { device, epoch, upto: Cursor::default(), rejected };
                    record.acknowledge(&ack, at(now_ms));
                    known[place].end.get_or_insert(State::Rejected { code });
                }
                Op::Acknowledge(_) | Op::Reject(_) => {}
            }
            expire(&mut known, offered, session.is_some(), now_ms);
            for (place, message) in known.iter().enumerate() {
                let open = if place < offered { State::Sent } else { State::Waiting };
                let state = record.message_state(message.id, at(now_ms));
                prop_assert_eq!(state, message.end.unwrap_or(open), "message {} after {:?}", place, op);
            }
            let waiting = known.iter().filter(|known| known.end.is_none()).count() as u64;
            prop_assert_eq!(record.head().waiting, waiting);
        }
    }
}

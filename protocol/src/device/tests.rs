//! Sessions as tables of times, and against a server that does anything.

use std::string::String;
use std::vec::Vec;

mod random;

use super::*;
use crate::id::{Cursor, Fingerprint, MessageId};
use crate::key::Key;
use crate::message::{Code, Flags, FromDevice, GoAwayReason, RejectCode, ToDevice, Welcome};
use crate::time::Instant;

const PROFILE: Profile<'static> = Profile {
    tenant: "-",
    device: "lamp-1",
    receive_limit: 512,
    window: 8,
    fingerprint: Fingerprint::NONE,
    link: LinkKind::Plain,
};
const KEY: Key = Key([1, 2, 3, 4]);

fn at(s: u64) -> Instant {
    Instant::from_millis(s * 1000)
}

const START: Start = Start {
    incarnation: core::num::NonZeroU64::MIN,
    event_queue: 5,
    events: EventRange { stored: 0, numbered: 0 },
    cursor: Cursor::new(0, 0),
    heartbeat: Pacing::Server,
};

fn session() -> Session {
    Session::new(&START)
}

fn welcome(epoch: u64) -> ToDevice<'static> {
    ToDevice::Welcome(Welcome {
        epoch,
        generation: 1,
        heartbeat_s: 300,
        frame_limit: 4096,
        event_window: 4,
        event_position: 0,
        time_ms: 0,
        grant: b"",
    })
}

fn attached() -> Session {
    let mut session = session();
    session.handle_connecting(at(0));
    session.handle_connected(at(0));
    assert_eq!(sent(&mut session, 0), "hello");
    session.handle_frame(at(0), &welcome(1)).unwrap();
    session
}

fn message(sequence: u64) -> ToDevice<'static> {
    ToDevice::Message { sequence, key: KEY, expiry_ms: 0, flags: Flags::NONE, payload: b"on" }
}

fn call(request: u32, deadline_ms: u64) -> ToDevice<'static> {
    ToDevice::Call { request, key: KEY, deadline_ms, payload: b"?" }
}

/// Everything the session sends at this second, in short words.
fn sent(session: &mut Session, s: u64) -> String {
    let mut words = Vec::new();
    loop {
        let (word, event) = match session.poll_transmit(at(s), &PROFILE) {
            None => return words.join(" "),
            Some(Transmit::Frame(frame)) => (word(&frame), 0),
            Some(Transmit::Reply) => ("reply".into(), 1),
            Some(Transmit::Event { sequence, .. }) => (std::format!("e{sequence}"), 2),
            Some(Transmit::Interface { offset }) => (std::format!("i{offset}"), 3),
        };
        words.push(word);
        match event {
            1 => session.handle_reply_sent(),
            2 => session.handle_event_sent(at(s)),
            3 => session.handle_interface_sent(),
            _ => {}
        }
    }
}

fn word(frame: &FromDevice<'_>) -> String {
    match frame {
        FromDevice::Hello(_) => "hello".into(),
        FromDevice::Ping { .. } => "ping".into(),
        FromDevice::Busy => "busy".into(),
        FromDevice::Ack { sequence } => std::format!("a{sequence}"),
        FromDevice::Nack { sequence, .. } => std::format!("n{sequence}"),
        FromDevice::Generation { generation } => std::format!("g{generation}"),
        FromDevice::Reply { request, status, .. } => std::format!("r{request}:{}", status.name()),
        FromDevice::Bye => "bye".into(),
        other => std::format!("{other:?}"),
    }
}

/// Lets time pass until `until`, noting at which second the session sends or fails.
fn run(session: &mut Session, until: u64) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    while let Some(now) = session.poll_timeout().filter(|now| *now <= at(until)) {
        let s = now.as_millis() / 1000;
        if let Err(error) = session.handle_timeout(now) {
            seen.push((s, std::format!("{error}")));
            break;
        }
        seen.push((s, sent(session, s)));
    }
    seen
}

#[test]
fn an_idle_session_pings_every_interval_and_notices_a_dead_server() {
    let mut session = attached();
    let table = [(300, "ping".into()), (500, "the server is silent while attached".into())];
    assert_eq!(run(&mut session, 1000), table);
    assert!(session.is_ended());
}

#[test]
fn a_server_that_does_not_answer_hello_is_left() {
    let mut session = session();
    session.handle_connected(at(0));
    sent(&mut session, 0);
    assert_eq!(run(&mut session, 100), [(20, "the server is silent while greeting".into())]);
}

#[test]
fn a_probe_is_answered_by_ping_and_by_busy_while_a_handler_works() {
    let mut session = attached();
    session.handle_frame(at(1), &ToDevice::Probe).unwrap();
    assert_eq!(sent(&mut session, 1), "ping");
    session.handle_frame(at(1), &ToDevice::Pong { now_ms: 1000 }).unwrap();
    session.handle_frame(at(2), &message(1)).unwrap();
    session.start_message(at(2), MessageId::new(1, 1));
    session.handle_frame(at(7), &ToDevice::Probe).unwrap();
    assert_eq!(sent(&mut session, 7), "busy");
    assert_eq!(run(&mut session, 130), [(67, "busy".into()), (127, "busy".into())]);
    session.finish_message(MessageId::new(1, 1));
    assert_eq!(sent(&mut session, 130), "a1");
}

#[test]
fn events_that_are_not_acknowledged_make_the_device_ask_and_give_up_early() {
    let mut session = attached();
    session.add_event();
    assert_eq!(sent(&mut session, 1), "e1");
    assert_eq!(run(&mut session, 100), [(11, "ping".into()), (21, "the server is silent while attached".into())]);
}

#[test]
fn acks_and_replies_go_before_events_and_events_before_the_interface() {
    let mut session = attached();
    session.handle_frame(at(1), &message(1)).unwrap();
    session.handle_frame(at(1), &call(1, 60_000)).unwrap();
    session.handle_frame(at(1), &call(2, 1)).unwrap();
    session.handle_frame(at(1), &ToDevice::Describe { offset: 0 }).unwrap();
    session.add_event();
    session.start_call(at(1), 1).unwrap();
    assert!(session.finish_call(1));
    session.finish_message(MessageId::new(1, 1));
    assert_eq!(sent(&mut session, 1), "a1 r2:deadline reply e1 i0");
}

#[test]
fn a_call_deadline_is_checked_when_the_handler_starts() {
    let mut session = attached();
    session.handle_frame(at(1), &call(1, 5_000)).unwrap();
    assert_eq!(session.start_call(at(5), 1), Err(CallEnded::Deadline));
    assert_eq!(sent(&mut session, 5), "r1:deadline");
    // Pong says that the server's clock is ahead: the next call is too late although it came just now.
    session.handle_frame(at(5), &ToDevice::Probe).unwrap();
    sent(&mut session, 5);
    session.handle_frame(at(5), &ToDevice::Pong { now_ms: 60_000 }).unwrap();
    assert_eq!(session.handle_frame(at(5), &call(2, 50_000)), Ok(None));
    assert_eq!(sent(&mut session, 5), "r2:deadline");
}

#[test]
fn go_away_lets_calls_be_answered_first() {
    let mut session = attached();
    session.handle_frame(at(1), &call(1, 60_000)).unwrap();
    session.start_call(at(1), 1).unwrap();
    let go_away = ToDevice::GoAway { reason: GoAwayReason::Draining, reconnect_after_s: 0 };
    session.handle_frame(at(1), &go_away).unwrap();
    assert_eq!(sent(&mut session, 1), "");
    session.finish_call(1);
    assert_eq!(sent(&mut session, 2), "reply bye");
    assert!(session.is_ended());
    assert_eq!(session.handle_disconnected(at(2), 0), End::Asked(GoAwayReason::Draining));

    let mut session = attached();
    session.handle_frame(at(1), &call(1, 60_000)).unwrap();
    session.handle_frame(at(1), &go_away).unwrap();
    assert_eq!(run(&mut session, 10), [(6, "bye".into())], "not for longer than 5 s");
}

#[test]
fn frames_out_of_order_are_errors_that_name_state_and_frame() {
    let mut greeting = session();
    greeting.handle_connected(at(0));
    sent(&mut greeting, 0);
    let redirect = ToDevice::Redirect { address: "a:1", grant: b"" };
    let table: [(Session, ToDevice<'_>, &str); 5] = [
        (greeting, message(1), "Message is not allowed while greeting"),
        (session(), message(1), "Message is not allowed while detached"),
        (attached(), welcome(2), "Welcome is not allowed while attached"),
        (attached(), redirect, "Redirect is not allowed while attached"),
        (attached(), ToDevice::EventAck { sequence: 1 }, "event 1 is acknowledged, the last one sent is 0"),
    ];
    for (mut session, frame, words) in table {
        let error = session.handle_frame(at(1), &frame).unwrap_err();
        assert_eq!(std::format!("{error}"), words);
        assert!(session.is_ended());
    }
}

#[test]
fn a_session_number_is_never_taken_twice() {
    let mut session = attached();
    session.handle_disconnected(at(100), 0);
    session.handle_connected(at(100));
    sent(&mut session, 100);
    let error = session.handle_frame(at(100), &welcome(1)).unwrap_err();
    assert_eq!(error, SessionError::Epoch { given: 1, last: 1 });
}

/// What a device keeps and does is not undone by a session that never began: it would be handed over again.
#[test]
fn a_welcome_that_is_refused_changes_nothing() {
    let good = Welcome {
        epoch: 2,
        generation: 1,
        heartbeat_s: 300,
        frame_limit: 4096,
        event_window: 4,
        event_position: 1,
        time_ms: 0,
        grant: b"",
    };
    let cases = [
        Welcome { generation: 0, ..good },
        Welcome { generation: 1 << 53, ..good },
        Welcome { event_position: 3, generation: 9, ..good },
        Welcome { grant: &[7; 300], generation: 9, ..good },
        Welcome { frame_limit: 10, generation: 9, ..good },
        Welcome { epoch: 1, generation: 9, ..good },
    ];
    for refused in cases {
        let mut session = attached();
        session.add_event();
        session.add_event();
        session.handle_frame(at(1), &message(1)).unwrap();
        session.reject_message(MessageId::new(1, 1), Code(300)).unwrap();
        session.handle_frame(at(1), &message(2)).unwrap();
        assert_eq!(sent(&mut session, 1), "n1 e1 e2");
        session.handle_disconnected(at(2), 0);
        session.handle_connected(at(2));
        sent(&mut session, 2);
        assert!(session.handle_frame(at(2), &ToDevice::Welcome(refused)).is_err(), "{refused:?}");
        session.handle_disconnected(at(2), 0);
        session.finish_message(MessageId::new(1, 2));
        assert_eq!(session.cursor(), MessageId::new(1, 2), "{refused:?}");
        session.handle_connected(at(3));
        let Some(Transmit::Frame(FromDevice::Hello(hello))) = session.poll_transmit(at(3), &PROFILE) else { panic!() };
        assert_eq!(hello.cursor, MessageId::new(1, 0), "the refusal is not known to have arrived");
        let opened = session.handle_frame(at(3), &ToDevice::Welcome(good));
        assert!(matches!(opened, Ok(Some(Event::Attached { stored: 1, .. }))), "{opened:?} after {refused:?}");
    }
}

#[test]
fn a_reject_sets_the_time_of_the_next_attempt() {
    let mut session = session();
    session.handle_connected(at(0));
    sent(&mut session, 0);
    let reject = ToDevice::Reject { code: RejectCode::Overloaded, retry_after_s: 30 };
    let ended = End::Rejected(RejectCode::Overloaded);
    assert_eq!(session.handle_frame(at(1), &reject), Ok(Some(Event::Ended(ended))));
    assert_eq!(session.handle_disconnected(at(1), 0), ended);
    assert_eq!(session.poll_timeout(), Some(at(31)));
}

#[test]
fn a_session_takes_little_memory() {
    assert!(size_of::<Session>() <= 1200, "{} bytes", size_of::<Session>());
}

/// What an adaptive session with an honest server says and hears in `until` seconds, on a path that forgets a
/// connection after `nat_s` seconds of silence: the heartbeats in it, and the connections it took.
fn run_on_a_path_that_forgets(nat_s: u64, until: u64) -> (Vec<u64>, u32) {
    let mut session = Session::new(&Start { heartbeat: Pacing::Adaptive, ..START });
    let (mut pings, mut connections, mut moved) = (Vec::new(), 0, 0);
    while let Some(now) = session.poll_timeout().map(|due| due.as_millis().div_ceil(1000)).filter(|now| *now <= until) {
        let is_over = session.handle_timeout(at(now)).is_err();
        if is_over {
            session.handle_disconnected(at(now), 0);
        }
        if session.state() == StateName::Detached {
            session.handle_connecting(at(now));
            session.handle_connected(at(now));
            assert_eq!(sent(&mut session, now), "hello");
            connections += 1;
            session.handle_frame(at(now), &welcome(connections.into())).unwrap();
            moved = now;
        }
        if sent(&mut session, now) == "ping" {
            pings.push(now);
            if now - moved < nat_s {
                session.handle_frame(at(now), &ToDevice::Pong { now_ms: 0 }).unwrap();
            }
            moved = now;
        }
    }
    (pings, connections)
}

#[test]
fn adaptive_heartbeats_find_the_longest_interval_of_a_path_and_keep_to_it_over_connections() {
    let (pings, connections) = run_on_a_path_that_forgets(200, 11 * 3600);
    let apart: Vec<_> = pings.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(connections, 3, "240 s and 210 s cost a connection each: {apart:?}");
    assert!(apart.iter().rev().take(100).all(|apart| *apart == 195), "{apart:?}");
    // A path that survives everything is not slower than what the server asks for.
    let (pings, connections) = run_on_a_path_that_forgets(u64::MAX, 3600);
    assert_eq!((connections, &pings[..8]), (1, &[60, 120, 240, 360, 600, 840, 1140, 1440][..]));
}

#[test]
fn a_silence_that_the_path_may_not_have_survived_is_answered_within_ten_seconds_or_is_the_end() {
    let (pings, connections) = run_on_a_path_that_forgets(100, 249);
    assert_eq!((&pings[..], connections), (&[60, 120, 240][..], 1));
    // 60 s survived, 120 s not: ten seconds later there is a new connection.
    assert_eq!(run_on_a_path_that_forgets(100, 250).1, 2);
}

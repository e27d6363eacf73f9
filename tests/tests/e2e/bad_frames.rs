//! Bytes that are no frames, and frames that are not allowed: the connection is closed with a typed reason and
//! counted, and nobody else notices.

use std::time::Duration;

use imlink_protocol::id::Cursor;
use imlink_protocol::limits::HELLO_FRAME_LEN_MAX;
use imlink_protocol::message::{FromDevice, GoAwayReason, Hello, RejectCode, ToDevice};
use imlink_protocol::{Key, frame};
use imlink_tests::node::Node;
use imlink_tests::wait::eventually;
use imlink_tests::wire::{Wire, framed, hello};

use crate::bystander::Bystander;

const SOON: Duration = Duration::from_secs(5);

/// A valid frame whose last byte, part of the check, is wrong.
fn with_wrong_check<T: serde::Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = framed(message);
    if let Some(last) = bytes.last_mut() {
        *last ^= 0x40;
    }
    bytes
}

/// What ends a connection that has said nothing yet: name, bytes, what the peer is told, what is counted.
pub(crate) fn before_hello() -> Vec<(&'static str, Vec<u8>, RejectCode, &'static str)> {
    let known = || hello("bystander");
    let says = |hello: Hello<'_>| framed(&FromDevice::Hello(hello));
    let malformed = RejectCode::Malformed;
    vec![
        ("garbage", vec![0xff; 64], malformed, "bad-length"),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(8), malformed, "bad-check"),
        ("a length that is not minimal", vec![0x85, 0x00, 1, 2, 3], malformed, "bad-length"),
        ("a frame without a body", vec![4, 0, 0, 0, 0], malformed, "frame-too-short"),
        ("more than a stranger may send", framed(&vec![7u8; HELLO_FRAME_LEN_MAX]), malformed, "frame-too-long"),
        ("a wrong check", with_wrong_check(&FromDevice::Hello(known())), malformed, "bad-check"),
        ("a kind that does not exist", framed(&(200u8, 1u8)), malformed, "bad-body"),
        ("bytes behind the message", framed(&(FromDevice::Bye, 1u8)), malformed, "bad-body"),
        ("another version", says(Hello { version: 99, ..known() }), RejectCode::Version, "version"),
        ("an id that is none", says(Hello { device: "a b", ..known() }), RejectCode::UnknownDevice, "unknown-device"),
        ("nobody we know", says(Hello { device: "nobody", ..known() }), RejectCode::UnknownDevice, "unknown-device"),
        ("no window", says(Hello { window: 0, ..known() }), malformed, "malformed"),
        ("a receive limit nothing fits", says(Hello { receive_limit: 5, ..known() }), malformed, "malformed"),
        ("a Ping before Hello", framed(&FromDevice::Ping { next_ms: 1000 }), RejectCode::Order, "order"),
        ("an Ack before Hello", framed(&FromDevice::Ack { sequence: 1 }), RejectCode::Order, "order"),
    ]
}

#[tokio::test]
async fn a_stranger_that_sends_no_hello_is_told_why_and_counted() {
    let node = Node::gateway(&[]).await;
    let bystander = Bystander::attach(&node.api(), node.devices(), node.backends()).await;
    for (what, bytes, code, reason) in before_hello() {
        let label = format!("reason=\"{reason}\"");
        let before = node.api().metric("imlink_server_closed_total", &label).await;
        let mut wire = Wire::connect(node.plain()).await;
        wire.write(&bytes).await;
        let words = wire.last_words(SOON).await;
        let told: Vec<_> = words.iter().map(imlink_tests::wire::Body::read::<ToDevice<'_>>).collect();
        let is_told = matches!(told.as_slice(), [ToDevice::Reject { code: given, .. }] if *given == code);
        assert!(is_told, "{what}: {told:?}");
        let after = node.api().metric("imlink_server_closed_total", &label).await;
        assert!(after > before, "{what}: closed_total{{{label}}} stayed at {before}");
    }
    bystander.is_undisturbed().await;
}

/// What an attached device must not say: name, bytes, what it is told, what is counted.
fn in_session() -> Vec<(&'static str, Vec<u8>, GoAwayReason, &'static str)> {
    let (malformed, order) = (GoAwayReason::Malformed, GoAwayReason::Order);
    let key = Key::raw("button");
    let event = |sequence| framed(&FromDevice::Event { sequence, key, payload: b"x" });
    let twice = [event(5), event(4)].concat();
    vec![
        ("garbage", vec![0xff; 64], malformed, "bad-length"),
        ("a frame over the limit", framed(&vec![7u8; 5000]), malformed, "frame-too-long"),
        ("a wrong check", with_wrong_check(&FromDevice::Busy), malformed, "bad-check"),
        ("a kind that does not exist", framed(&(200u8, 1u8)), malformed, "bad-body"),
        ("a second Hello", framed(&FromDevice::Hello(hello("hostile"))), order, "second-hello"),
        ("an Ack of nothing", framed(&FromDevice::Ack { sequence: 77 }), order, "ack-ahead"),
        ("a generation nobody announced", framed(&FromDevice::Generation { generation: 3 }), order, "generation"),
        ("a heartbeat below the limit", framed(&FromDevice::Ping { next_ms: 5 }), order, "interval"),
        ("events out of order", twice, order, "event"),
    ]
}

#[tokio::test]
async fn an_attached_device_that_breaks_a_rule_is_told_why_and_counted() {
    let node = Node::gateway(&[]).await;
    let bystander = Bystander::attach(&node.api(), node.devices(), node.backends()).await;
    node.api().provision_plain("hostile").await;
    for (attempt, (what, bytes, reason, counted)) in (1..).zip(in_session()) {
        let label = format!("reason=\"{counted}\"");
        let before = node.api().metric("imlink_server_closed_total", &label).await;
        let greeting = Hello { attempt, event_queue: 9, ..hello("hostile") };
        let (mut wire, answer) = Wire::attach(node.plain(), greeting).await;
        assert!(matches!(answer.read(), ToDevice::Welcome(_)), "{what}: {answer:?}");
        wire.write(&bytes).await;
        let words = wire.last_words(SOON).await;
        let told = words.last().map(imlink_tests::wire::Body::read::<ToDevice<'_>>);
        let is_told = matches!(told, Some(ToDevice::GoAway { reason: given, .. }) if given == reason);
        assert!(is_told, "{what}: {told:?}");
        let after = node.api().metric("imlink_server_closed_total", &label).await;
        assert!(after > before, "{what}: closed_total{{{label}}} stayed at {before}");
    }
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_device_that_writes_byte_by_byte_is_served() {
    let node = Node::gateway(&[]).await;
    node.api().provision_plain("slow").await;
    let mut wire = Wire::connect(node.plain()).await;
    let ping = FromDevice::Ping { next_ms: 60_000 };
    for bytes in [framed(&FromDevice::Hello(hello("slow"))), framed(&ping)] {
        for byte in bytes {
            assert!(wire.write(&[byte]).await);
            tokio::task::yield_now().await;
        }
    }
    let (welcome, pong) = (wire.next().await.unwrap(), wire.next().await.unwrap());
    assert!(matches!(welcome.read(), ToDevice::Welcome(_)), "{welcome:?}");
    assert!(matches!(pong.read(), ToDevice::Pong { .. }), "{pong:?}");
}

#[tokio::test]
async fn several_frames_in_one_write_are_all_taken() {
    let node = Node::gateway(&[]).await;
    node.api().provision_plain("fast").await;
    let mut wire = Wire::connect(node.plain()).await;
    let ping = framed(&FromDevice::Ping { next_ms: 60_000 });
    wire.write(&[framed(&FromDevice::Hello(hello("fast"))), ping.clone(), ping].concat()).await;
    let kinds: Vec<_> = [wire.next().await, wire.next().await, wire.next().await].into_iter().flatten().collect();
    assert!(matches!(kinds[0].read(), ToDevice::Welcome(_)));
    assert!(kinds[1..].iter().all(|body| matches!(body.read(), ToDevice::Pong { .. })), "{kinds:?}");
}

#[tokio::test]
async fn a_hello_that_does_not_end_in_time_is_cut() {
    let node = Node::gateway(&["server.hello_deadline_s=1"]).await;
    let bystander = Bystander::attach(&node.api(), node.devices(), node.backends()).await;
    let whole = framed(&FromDevice::Hello(hello("bystander")));
    let mut silent = Wire::connect(node.plain()).await;
    let mut half = Wire::connect(node.plain()).await;
    half.write(&whole[..whole.len() / 2]).await;
    for wire in [&mut silent, &mut half] {
        let words = wire.last_words(SOON).await;
        assert!(
            matches!(words[..], [ref word] if matches!(word.read(), ToDevice::Reject { code: RejectCode::Malformed, .. }))
        );
    }
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_frame_that_stays_partial_ends_the_session() {
    let node = Node::gateway(&["server.partial_frame_s=1"]).await;
    let bystander = Bystander::attach(&node.api(), node.devices(), node.backends()).await;
    node.api().provision_plain("stuck").await;
    let (mut wire, _) = Wire::attach(node.plain(), hello("stuck")).await;
    let whole = framed(&FromDevice::Event { sequence: 1, key: Key::raw("button"), payload: &[1; 40] });
    // A drop now and then does not renew the time.
    for byte in &whole[..8] {
        wire.write(&[*byte]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let words = wire.last_words(SOON).await;
    let told = words.last().map(imlink_tests::wire::Body::read::<ToDevice<'_>>);
    assert!(matches!(told, Some(ToDevice::GoAway { reason: GoAwayReason::Malformed, .. })), "{told:?}");
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn truncated_frames_and_closed_sockets_leave_nothing_behind() {
    let node = Node::gateway(&[]).await;
    let bystander = Bystander::attach(&node.api(), node.devices(), node.backends()).await;
    let whole = framed(&FromDevice::Hello(hello("bystander")));
    for cut in 0..whole.len() {
        let mut wire = Wire::connect(node.plain()).await;
        wire.write(&whole[..cut]).await;
    }
    let api = node.api();
    eventually("only the bystander's connection is left", SOON, async || {
        (api.metric("imlink_server_connections", "").await == 1.0).then_some(())
    })
    .await;
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_flood_of_half_open_connections_disturbs_nobody_and_costs_little() {
    let node = Node::gateway(&["server.half_open_max=100", "server.hello_deadline_s=3"]).await;
    let bystander = Bystander::attach(&node.api(), node.devices(), node.backends()).await;
    let before = node.process().memory();
    let almost = framed(&FromDevice::Hello(Hello { ticket: &[1; 200], ..hello("bystander") }));
    let mut flood = Vec::new();
    for _ in 0..2000 {
        let mut wire = Wire::connect(node.plain()).await;
        wire.write(&almost[..almost.len() - 1]).await;
        flood.push(wire);
    }
    bystander.is_undisturbed().await;
    // A new device gets in while the flood stands.
    node.api().provision("late").await;
    let late = imlink_tests::device::Device::start("late", &[node.devices()]);
    late.attached(1).await;
    let grown = node.process().memory().saturating_sub(before);
    assert!(grown < 16 << 20, "2,000 strangers cost {grown} bytes");
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn random_bytes_never_end_the_process() {
    let node = Node::gateway(&[]).await;
    let bystander = Bystander::attach(&node.api(), node.devices(), node.backends()).await;
    let seed = std::process::id();
    println!("seed {seed}");
    let mut random = Random(u64::from(seed));
    for listener in [node.devices(), node.plain(), node.backends(), node.http()] {
        for _ in 0..300 {
            let mut wire = Wire::connect(listener).await;
            let len = 1 + random.below(600);
            let mut bytes: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
            // Half of them get past the frame layer, into the messages.
            if random.below(2) == 0 {
                bytes = framed_raw(&bytes);
            }
            wire.write(&bytes).await;
        }
    }
    bystander.is_undisturbed().await;
    let log = node.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// `body` as a frame.
fn framed_raw(body: &[u8]) -> Vec<u8> {
    struct Raw<'a>(&'a [u8]);
    impl serde::Serialize for Raw<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = serializer.serialize_tuple(self.0.len())?;
            self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
            tuple.end()
        }
    }
    let mut out = vec![0; body.len() + 16];
    let len = frame::encode(&Raw(body), &mut out).expect("room for the frame");
    out.truncate(len);
    out
}

/// xorshift64*, so that a seed replays a run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

#[tokio::test]
async fn a_cursor_from_the_far_future_is_refused() {
    let node = Node::gateway(&[]).await;
    node.api().provision_plain("liar").await;
    let cursor = Cursor::new((1 << 53) - 1, 9);
    let (_, answer) = Wire::attach(node.plain(), Hello { cursor, ..hello("liar") }).await;
    assert!(matches!(answer.read(), ToDevice::Reject { code: RejectCode::Cursor, .. }), "{answer:?}");
}

#[tokio::test]
async fn strangers_show_in_a_metric_until_they_are_gone() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    let is = async |count: f64| {
        eventually(&format!("{count} half-open connections"), SOON, async || {
            (api.metric("imlink_server_half_open", "").await == count).then_some(())
        })
        .await;
    };
    let strangers = [Wire::connect(node.plain()).await, Wire::connect(node.plain()).await];
    is(2.0).await;
    drop(strangers);
    is(0.0).await;
}

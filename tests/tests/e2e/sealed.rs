//! Hostile peers at the sealed port: whatever they write, nothing is opened, taken over or spent, nobody else
//! notices, and a counter says what it was.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use imlink_protocol::KeyMark;
use imlink_protocol::limits::{GRANT_LEN_MAX, HELLO_FRAME_LEN_MAX};
use imlink_protocol::message::{FromDevice, Hello, RejectCode, ToDevice};
use imlink_protocol::seal::{ToStranger, take};
use imlink_protocol::ticket::{self, Ticket};
use imlink_tests::api::Api;
use imlink_tests::node::{CLUSTER_SECRET, Node};
use imlink_tests::sealed::{Flashed, Shaken, attach, claim, knock, random};
use imlink_tests::wait::eventually;
use imlink_tests::wire::{Wire, framed, hello};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::bystander::Bystander;

const SOON: Duration = Duration::from_secs(5);

/// What a stranger may hear.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Silence,
    Refused(RejectCode),
    Rejected(RejectCode),
    Other(Vec<u8>),
}

/// Writes `bytes` as a stranger and says what came until the connection was closed.
pub(crate) async fn heard(address: SocketAddr, bytes: &[u8]) -> Heard {
    let came = knock(address, bytes, SOON).await.expect("an end of the connection");
    read_heard(&came)
}

pub(crate) fn read_heard(came: &[u8]) -> Heard {
    if came.is_empty() {
        return Heard::Silence;
    }
    if let Ok(Some((body, len))) = take(came, HELLO_FRAME_LEN_MAX)
        && len == came.len()
        && let Ok(ToStranger::Refuse { code, .. }) = ToStranger::decode(body)
    {
        return Heard::Refused(code);
    }
    match imlink_protocol::frame::split(came, HELLO_FRAME_LEN_MAX)
        .map(|frame| frame.and_then(|frame| imlink_protocol::frame::decode::<ToDevice<'_>>(frame.body).ok()))
    {
        Ok(Some(ToDevice::Reject { code, .. })) => Heard::Rejected(code),
        _ => Heard::Other(came.to_vec()),
    }
}

/// Bytes in which a frame's length is written.
pub(crate) fn length_of(frame: &[u8]) -> usize {
    1 + frame.iter().take_while(|byte| **byte & 0x80 != 0).count()
}

/// What imlink knows of a device.
pub(crate) async fn view(api: &Api, device: &str) -> Value {
    let answer = api.get(&format!("/v1/devices/{device}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

pub(crate) async fn handshakes(api: &Api, reason: &str) -> f64 {
    api.metric("imlink_server_handshakes_total", &format!("reason=\"{reason}\"")).await
}

pub(crate) async fn closed(api: &Api, reason: &str) -> f64 {
    api.metric("imlink_server_closed_total", &format!("reason=\"{reason}\"")).await
}

/// Sessions opened and events stored so far: what no stranger may change.
pub(crate) async fn spent(api: &Api) -> (f64, f64) {
    (api.metric("imlink_server_attaches_total", "").await, api.metric("imlink_server_events_total", "").await)
}

/// A grant as a holder of `secret` would make it for `device` at `server`.
fn granted(secret: &str, server: &str, device: &str, mark: KeyMark, expires_s: u64) -> Vec<u8> {
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let key = ticket::derive(secret.as_bytes(), server, ticket::day_of(now_s));
    let ticket = Ticket { is_plain: false, tenant: "-", device, epoch_floor: 0, expires_s, key: mark };
    let (nonce, _) = random().split_first_chunk().map(|(nonce, rest)| (*nonce, rest.len())).expect("24 of 32 bytes");
    let mut out = [0; GRANT_LEN_MAX];
    let len = ticket::grant(&ticket, &key, &nonce, &mut out).expect("a grant fits");
    out[..len].to_vec()
}

#[tokio::test]
async fn what_is_no_handshake_is_told_so_and_counted() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    let bystander = Bystander::attach(&api, node.devices(), node.backends()).await;
    let flashed = Flashed::provision(&api, "lamp").await;
    let login = flashed.login(claim(1, 1)).frame;
    let mut version = login.clone();
    // Behind the length and the kind.
    version[length_of(&login) + 1] = 99;
    let malformed = Heard::Refused(RejectCode::Malformed);
    let long = [&[0x81, 0x04][..], &[0x40; 600]].concat();
    let plain = framed(&FromDevice::Hello(hello("lamp")));
    // Name, bytes, what is heard, and by which of the two counters under which reason.
    let cases = [
        ("garbage", vec![0xff; 64], &malformed, "closed", "bad-length"),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(8), &malformed, "handshakes", "bad-body"),
        ("a length that is not minimal", vec![0x85, 0x00, 1, 2, 3], &malformed, "closed", "bad-length"),
        ("more than a stranger may send", long, &malformed, "closed", "frame-too-long"),
        ("an empty frame", vec![0], &malformed, "closed", "frame-too-short"),
        ("a kind that does not exist", vec![3, 0x77, 1, 2], &malformed, "handshakes", "bad-body"),
        ("a login cut short", vec![5, 0x40, 1, 2, 3, 4], &malformed, "handshakes", "bad-body"),
        ("another version", version, &Heard::Refused(RejectCode::Version), "handshakes", "version"),
        ("a plain Hello", plain, &Heard::Rejected(RejectCode::Unsealed), "handshakes", "plain"),
    ];
    let before = view(&api, "lamp").await;
    for (what, bytes, expected, counter, reason) in cases {
        let (name, label) = (format!("imlink_server_{counter}_total"), format!("reason=\"{reason}\""));
        let count = api.metric(&name, &label).await;
        assert_eq!(heard(node.devices(), &bytes).await, *expected, "{what}");
        assert!(api.metric(&name, &label).await > count, "{what}: {name}{{{label}}} stayed at {count}");
    }
    // Cut anywhere, it is nothing.
    for cut in 0..login.len() {
        let mut wire = Wire::connect(node.devices()).await;
        wire.write(&login[..cut]).await;
    }
    eventually("only the bystander's connection is left", SOON, async || {
        (api.metric("imlink_server_connections", "").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(view(&api, "lamp").await, before);
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_device_that_writes_byte_by_byte_is_served() {
    let node = Node::gateway(&[]).await;
    let flashed = Flashed::provision(&node.api(), "slow").await;
    let begun = flashed.login(claim(1, 1));
    let mut link = begun.shake_slowly(node.devices()).await.sealed();
    let greeting = link.seal(&FromDevice::Hello(imlink_tests::sealed::sealed_hello()));
    let ping = link.seal(&FromDevice::Ping { next_ms: 60_000 });
    for byte in [greeting, ping].concat() {
        assert!(link.write(&[byte]).await);
        tokio::task::yield_now().await;
    }
    let (welcome, pong) = (link.next().await.unwrap(), link.next().await.unwrap());
    assert!(matches!(welcome.read(), ToDevice::Welcome(_)), "{welcome:?}");
    assert!(matches!(pong.read(), ToDevice::Pong { .. }), "{pong:?}");
}

#[tokio::test]
async fn a_handshake_that_does_not_end_in_time_is_cut_however_far_it_came() {
    let node = Node::gateway(&["server.hello_deadline_s=1"]).await;
    let api = node.api();
    let bystander = Bystander::attach(&api, node.devices(), node.backends()).await;
    let flashed = Flashed::provision(&api, "lamp").await;
    let before = (view(&api, "lamp").await, spent(&api).await);
    let login = flashed.login(claim(1, 1)).frame;
    // Nothing, or half a first frame; and one byte now and then, which does not renew the time.
    let mut dripping = TcpStream::connect(node.devices()).await.unwrap();
    let began = Instant::now();
    let drip = async {
        for byte in &login[..login.len() - 1] {
            if dripping.write_all(&[*byte]).await.is_err() || began.elapsed() > SOON {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        began.elapsed()
    };
    let (silent, half, dripped) =
        tokio::join!(heard(node.devices(), &[]), heard(node.devices(), &login[..login.len() / 2]), drip);
    let malformed = Heard::Refused(RejectCode::Malformed);
    assert_eq!((silent, half), (malformed, Heard::Refused(RejectCode::Malformed)));
    assert!((Duration::from_secs(1)..SOON).contains(&dripped), "{dripped:?}");
    // An answer does not renew it either, nor does half of the record that should follow.
    for part in [0, 20] {
        let mut link = flashed.login(claim(1, 2)).shake(node.devices()).await.sealed();
        let record = link.seal(&FromDevice::Hello(imlink_tests::sealed::sealed_hello()));
        assert!(link.write(&record[..part]).await);
        let words = link.last_words(SOON).await;
        let is_told = matches!(words[..], [ref word] if matches!(word.read(), ToDevice::Reject { code: RejectCode::Malformed, .. }));
        assert!(is_told, "{words:?}");
    }
    eventually("no stranger is left", SOON, async || {
        (api.metric("imlink_server_half_open", "").await == 0.0).then_some(())
    })
    .await;
    assert_eq!((view(&api, "lamp").await, spent(&api).await), before);
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn who_does_not_hold_the_right_keys_is_not_let_in() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    let bystander = Bystander::attach(&api, node.devices(), node.backends()).await;
    let flashed = Flashed::provision(&api, "lamp").await;
    let revoked = Flashed::provision(&api, "revoked").await;
    assert_eq!(api.revoke("revoked").await.status, 200);
    let before = (view(&api, "lamp").await, spent(&api).await);
    let other = Flashed { private: imlink_protocol::key_pair::PrivateKey::new(random()), ..flashed.clone() };
    let nobody = Flashed { device: "nobody".into(), ..flashed.clone() };
    let name = node.name();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let key = KeyMark::of(&flashed.private.public().0);
    let good = granted(CLUSTER_SECRET, name, "lamp", key, now + 3600);
    let mut wrong_key = good.clone();
    wrong_key[0] ^= 1;
    let first = claim(1, 1);
    let cases = [
        ("another route's key", flashed.login_to(&random(), first), "silence", "mac"),
        ("another device key", other.login(first), "unknown-device", "unknown-key"),
        ("a device nobody provisioned", nobody.login(first), "unknown-device", "unknown-key"),
        ("a revoked device", revoked.login(first), "revoked", "revoked"),
        ("a made up ticket", attach(&[9; 120], first), "ticket", "ticket"),
        (
            "a ticket under another secret",
            attach(&granted("other", name, "lamp", key, now + 60), first),
            "ticket",
            "ticket",
        ),
        (
            "another server's ticket",
            attach(&granted(CLUSTER_SECRET, "server-2", "lamp", key, now + 60), first),
            "ticket",
            "ticket",
        ),
        (
            "a ticket past its time",
            attach(&granted(CLUSTER_SECRET, name, "lamp", key, now - 60), first),
            "ticket",
            "ticket-expired",
        ),
        (
            "a ticket for another key",
            attach(&granted(CLUSTER_SECRET, name, "lamp", KeyMark([1; 8]), now + 60), first),
            "sealed",
            "answered",
        ),
        ("a ticket without its key", attach(&wrong_key, first), "silence", "handshake"),
    ];
    for (what, begun, told, reason) in cases {
        let count = handshakes(&api, reason).await;
        assert_eq!(begun.shake(node.devices()).await.told(), told, "{what}");
        assert!(handshakes(&api, reason).await > count, "{what}: {reason} stayed at {count}");
    }
    assert_eq!((view(&api, "lamp").await, spent(&api).await), before);
    assert_eq!(view(&api, "revoked").await["session"], Value::Null);
    // The control: the same helper with the right things is let in.
    let session = attach(&good, first).shake(node.devices()).await.sealed().open().await;
    assert!(session.epoch > 0);
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn who_does_not_know_the_secret_of_the_fleet_gets_no_answer_that_opens_and_opens_nothing() {
    let node = Node::gateway(&[&format!("fleet_psk={}", "5a".repeat(32))]).await;
    let api = node.api();
    let flashed = Flashed::provision(&api, "lamp").await;
    assert_eq!(api.get("/v1/keys").await.json()["fleet_psk"], true);
    let before = (view(&api, "lamp").await, spent(&api).await);
    let Shaken::NotOpened(mut stream) = flashed.login(claim(1, 1)).shake(node.devices()).await else {
        panic!("the answer opens without the secret");
    };
    // It goes on all the same.
    let count = closed(&api, "bad-check").await;
    stream.write_all(&[&[40][..], &[7; 40]].concat()).await.unwrap();
    eventually("counted", SOON, async || (closed(&api, "bad-check").await > count).then_some(())).await;
    assert_eq!((view(&api, "lamp").await, spent(&api).await), before);
    let knowing = Flashed { psk: [0x5a; 32], ..flashed };
    assert!(knowing.attach(node.devices(), claim(1, 2)).await.epoch > 0);
}

#[tokio::test]
async fn no_changed_bit_of_a_first_message_is_answered() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    let flashed = Flashed::provision(&api, "lamp").await;
    let session = flashed.attach(node.devices(), claim(1, 1)).await;
    drop(session.link);
    eventually("it is detached", SOON, async || (!api.is_online("lamp").await).then_some(())).await;
    let before = (view(&api, "lamp").await, spent(&api).await);
    let frames = [("login", flashed.login(claim(2, 1)).frame), ("attach", attach(&session.grant, claim(2, 1)).frame)];
    for (what, frame) in &frames {
        println!("{what}: {} bytes", frame.len());
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A changed length may wait for more bytes.
            let is_length = bit / 8 < length_of(frame);
            let patience = if is_length { Duration::from_millis(100) } else { SOON };
            let came = knock(node.devices(), &bad, patience).await;
            assert!(came.is_some() || is_length, "{what}, bit {bit}: still open");
            let heard = came.map_or(Heard::Silence, |came| read_heard(&came));
            assert!(
                matches!(heard, Heard::Silence | Heard::Refused(_) | Heard::Rejected(_)),
                "{what}, bit {bit}: {heard:?}"
            );
        }
    }
    assert_eq!((view(&api, "lamp").await, spent(&api).await), before);
    // Unchanged, both are answered.
    for (_, frame) in frames {
        let came = knock(node.devices(), &frame, Duration::from_millis(500)).await;
        assert_eq!(came, None, "a good first message waits for a record");
    }
}

#[tokio::test]
async fn a_device_with_a_key_never_attaches_over_a_plain_link() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    let flashed = Flashed::provision(&api, "lamp").await;
    let session = flashed.attach(node.devices(), claim(1, 1)).await;
    let before = (view(&api, "lamp").await, spent(&api).await);
    let (key, ticket) = session.grant.split_at(32);
    assert_ne!(key, [0; 32]);
    let greeting = Hello { incarnation: 1, attempt: 9, ..hello("lamp") };
    let cases = [
        ("its id", greeting, RejectCode::UnknownDevice),
        ("its ticket", Hello { ticket, ..greeting }, RejectCode::Ticket),
        ("its grant", Hello { ticket: &session.grant[..168.min(session.grant.len())], ..greeting }, RejectCode::Ticket),
    ];
    for (what, greeting, expected) in cases {
        let (_, answer) = Wire::attach(node.plain(), greeting).await;
        assert!(matches!(answer.read(), ToDevice::Reject { code, .. } if code == expected), "{what}: {answer:?}");
    }
    for begun in [flashed.login(claim(1, 9)), attach(&session.grant, claim(1, 9))] {
        assert_eq!(heard(node.plain(), &begun.frame).await, Heard::Rejected(RejectCode::Malformed));
    }
    assert_eq!((view(&api, "lamp").await, spent(&api).await), before);
    assert!(api.is_online("lamp").await, "its own session goes on");
}

//! Hostile peers at a route's login port: whatever they write, nothing is changed, nobody else notices, and a counter
//! says what it was.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use imlink_protocol::limits::HELLO_FRAME_LEN_MAX;
use imlink_protocol::message::{FromDevice, RejectCode, ToDevice};
use imlink_protocol::seal::take;
use imlink_tests::api::Api;
use imlink_tests::cluster::Cluster;
use imlink_tests::node::Node;
use imlink_tests::proxy::Proxy;
use imlink_tests::sealed::{Flashed, Shaken, attach, claim, connect_from, knock, random, sealed_hello};
use imlink_tests::wait::eventually;
use imlink_tests::wire::{Wire, framed, hello};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hostile::source;
use crate::sealed::{Heard, heard, length_of, read_heard, view};
use crate::sealed_keys::redirected;

const SOON: Duration = Duration::from_secs(5);
/// Everybody has so long in all to say who comes.
const DEADLINE: Duration = Duration::from_secs(10);

async fn rejects(api: &Api, reason: &str) -> f64 {
    api.metric("imlink_route_rejects_total", &format!("reason=\"{reason}\"")).await
}

/// What no stranger may change: the device, and how many were sent to a server.
async fn state(api: &Api, device: &str) -> (Value, f64) {
    (view(api, device).await, api.metric("imlink_route_logins_total", "outcome=\"Redirected\"").await)
}

async fn all_are_gone(api: &Api) {
    eventually("nobody is half open", SOON, async || {
        (api.metric("imlink_route_half_open", "").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_login_is_told_so_and_counted() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let (route, api) = (cluster.routes[0].devices(), cluster.routes[0].api());
    let flashed = Flashed::provision(&api, "lamp").await;
    let revoked = Flashed::provision(&api, "revoked").await;
    assert_eq!(api.revoke("revoked").await.status, 200);
    let other = Flashed { private: imlink_protocol::key_pair::PrivateKey::new(random()), ..flashed.clone() };
    let nobody = Flashed { device: "nobody".into(), ..flashed.clone() };
    let first = claim(1, 1);
    let login = flashed.login(first).frame;
    let mut version = login.clone();
    // Behind the length and the kind.
    version[length_of(&login) + 1] = 99;
    let refused = Heard::Refused;
    let malformed = RejectCode::Malformed;
    let cases = [
        ("garbage", vec![0xff; 64], refused(malformed), "malformed"),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(8), refused(malformed), "bad-body"),
        ("more than a stranger may send", [&[0x81, 0x04][..], &[0x40; 600]].concat(), refused(malformed), "malformed"),
        ("an empty frame", vec![0], refused(malformed), "malformed"),
        ("a login cut short", vec![5, 0x40, 1, 2, 3, 4], refused(malformed), "bad-body"),
        ("another version", version, refused(RejectCode::Version), "version"),
        ("a ticket", attach(&[9; 120], first).frame, refused(RejectCode::Ticket), "ticket"),
        ("a plain Hello", framed(&FromDevice::Hello(hello("lamp"))), Heard::Rejected(RejectCode::Unsealed), "plain"),
        ("another route's key", flashed.login_to(&random(), first).frame, Heard::Silence, "mac"),
        ("another device key", other.login(first).frame, refused(RejectCode::UnknownDevice), "unknown-device"),
        ("nobody", nobody.login(first).frame, refused(RejectCode::UnknownDevice), "unknown-device"),
        ("a revoked device", revoked.login(first).frame, refused(RejectCode::Revoked), "revoked"),
    ];
    let before = state(&api, "lamp").await;
    for (what, bytes, expected, reason) in cases {
        let count = rejects(&api, reason).await;
        assert_eq!(heard(route, &bytes).await, expected, "{what}");
        assert!(rejects(&api, reason).await > count, "{what}: {reason} stayed at {count}");
    }
    // Cut anywhere, and whole without its record, it is nothing.
    for cut in 0..=login.len() {
        let mut wire = Wire::connect(route).await;
        wire.write(&login[..cut]).await;
    }
    all_are_gone(&api).await;
    assert_eq!(state(&api, "lamp").await, before);
    redirected(&flashed, route, claim(1, 2)).await;
}

#[tokio::test]
async fn no_changed_bit_of_a_login_is_answered() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let (route, api) = (cluster.routes[0].devices(), cluster.routes[0].api());
    let flashed = Flashed::provision(&api, "lamp").await;
    let before = state(&api, "lamp").await;
    let frame = flashed.login(claim(1, 1)).frame;
    // A changed length may wait for more bytes.
    for bit in length_of(&frame) * 8..frame.len() * 8 {
        let mut bad = frame.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let heard = heard(route, &bad).await;
        assert!(matches!(heard, Heard::Silence | Heard::Refused(_) | Heard::Rejected(_)), "bit {bit}: {heard:?}");
    }
    assert_eq!(state(&api, "lamp").await, before);
    assert_eq!(knock(route, &frame, Duration::from_millis(500)).await, None, "a good one waits for a record");
}

/// Writes `parts`, one a second: how long the connection lasted, and what came.
async fn lasted(stream: TcpStream, parts: Vec<Vec<u8>>) -> (Duration, Vec<u8>) {
    let began = Instant::now();
    let (mut read, mut write) = stream.into_split();
    let writing = tokio::spawn(async move {
        for part in parts {
            // It may be closed already.
            let _ = write.write_all(&part).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    });
    let mut came = Vec::new();
    let all = async { while matches!(read.read_buf(&mut came).await, Ok(1..)) {} };
    tokio::time::timeout(2 * DEADLINE, all).await.expect("an end of the connection");
    writing.abort();
    (began.elapsed(), came)
}

fn drops(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

/// Silence and slow bytes before and within the handshake and the first record, of which nothing renews the time.
/// What `told` says is all that anybody hears.
async fn slow_strangers_are_gone(port: &Node, flashed: &Flashed, grant: &[u8], told: impl Fn(&[u8]) -> bool) {
    let begun = |attempt| match grant {
        [] => flashed.login(claim(3, attempt)).frame,
        grant => attach(grant, claim(3, attempt)).frame,
    };
    let half = begun(1)[..60].to_vec();
    let cases = [
        ("silence", vec![]),
        ("a greeting in drops", drops(&begun(2))),
        ("half a greeting", vec![half]),
        ("a greeting, no record", vec![begun(3)]),
        ("a greeting, and a record in drops", [vec![begun(4)], drops(&[0x40; 60])].concat()),
    ];
    let mut running = Vec::new();
    for (number, (what, parts)) in cases.into_iter().enumerate() {
        let stream = connect_from(source(number), port.devices()).await.expect("a connection");
        running.push((what, tokio::spawn(lasted(stream, parts))));
    }
    for (what, lasted) in running {
        let (time, came) = lasted.await.expect("a connection that ends");
        assert!(time > DEADLINE - Duration::from_secs(1), "{what} ended after {time:?}");
        assert!(time < DEADLINE + Duration::from_secs(3), "{what} lasted {time:?}");
        // Behind the answer of a handshake.
        let answered = what.starts_with("a greeting,");
        let answer = if answered { take(&came, HELLO_FRAME_LEN_MAX).unwrap().expect("an answer").1 } else { 0 };
        assert!(told(&came[answer..]) || answered, "{what} heard {came:02x?}");
    }
}

#[tokio::test]
async fn whoever_is_silent_or_slow_is_gone_after_ten_seconds_in_all() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let (route, server) = (&cluster.routes[0], &cluster.servers[0]);
    let api = route.api();
    let flashed = Flashed::provision(&api, "lamp").await;
    let good = Flashed::provision(&api, "good").await;
    let (grant, _) = redirected(&flashed, route.devices(), claim(1, 1)).await;
    let before = state(&api, "lamp").await;
    let is_refused = |heard: &[u8]| read_heard(heard) == Heard::Refused(RejectCode::Malformed);
    tokio::join!(
        slow_strangers_are_gone(route, &flashed, &[], <[u8]>::is_empty),
        slow_strangers_are_gone(server, &flashed, &grant, is_refused),
        async {
            for attempt in 1..=20 {
                redirected(&good, route.devices(), claim(1, attempt)).await;
                tokio::time::sleep(DEADLINE / 20).await;
            }
        },
    );
    all_are_gone(&api).await;
    assert_eq!(state(&api, "lamp").await, (before.0, before.1 + 20.0));
}

#[tokio::test]
async fn a_recorded_login_said_again_or_reflected_changes_nothing() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let (route, api) = (cluster.routes[0].devices(), cluster.routes[0].api());
    let flashed = Flashed::provision(&api, "lamp").await;
    let proxy = Proxy::start(route).await;
    redirected(&flashed, proxy.address(), claim(1, 1)).await;
    let said = proxy.recorded().remove(0);
    let first = take(&said, HELLO_FRAME_LEN_MAX).unwrap().unwrap().1;
    assert!(said.len() > first, "a record follows");
    let before = state(&api, "lamp").await;
    let malformed = rejects(&api, "malformed").await;
    for number in 0..8 {
        // All at once, then as the device said it: the rest after the answer.
        let came = knock(route, &said, SOON).await.expect("the link is ended");
        let answer = take(&came, HELLO_FRAME_LEN_MAX).unwrap().expect("an answer").1;
        let mut stream = connect_from(source(number), route).await.expect("a connection");
        stream.write_all(&said[..first]).await.unwrap();
        stream.readable().await.unwrap();
        stream.write_all(&said[first..]).await.unwrap();
        drained(stream).await;
        // The route's own words, sent back to it as a first message, and behind one.
        // What is read as a version is random there.
        let heard = heard(route, &came[..answer]).await;
        assert!(matches!(heard, Heard::Refused(RejectCode::Version | RejectCode::Malformed)), "{heard:?}");
        let mut stream = connect_from(source(number), route).await.expect("a connection");
        stream.write_all(&said[..first]).await.unwrap();
        let mut back = vec![0; answer];
        stream.read_exact(&mut back).await.unwrap();
        stream.write_all(&back).await.unwrap();
        drained(stream).await;
    }
    assert!(rejects(&api, "malformed").await >= malformed + 24.0, "each of them is counted");
    all_are_gone(&api).await;
    assert_eq!(state(&api, "lamp").await, before);
    // A record that was opened does not open again, and none of another link does.
    let mut link = flashed.login(claim(1, 2)).shake(route).await.sealed();
    let mut other = flashed.login(claim(1, 3)).shake(route).await.sealed();
    let record = other.seal(&FromDevice::Hello(sealed_hello()));
    link.write(&record).await;
    let words = link.last_words(SOON).await;
    let code = words.iter().map(|word| word.read()).find_map(|word| match word {
        ToDevice::Reject { code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(code, Some(RejectCode::Malformed));
    assert_eq!(state(&api, "lamp").await, before);
}

async fn drained(mut stream: TcpStream) {
    let mut came = Vec::new();
    // A reset is an end as well.
    let read = async { while matches!(stream.read_buf(&mut came).await, Ok(1..)) {} };
    tokio::time::timeout(SOON, read).await.expect("an end of the connection");
}

#[tokio::test]
async fn two_handshakes_of_one_connection_are_open_and_a_third_is_told_to_come_back() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let (route, api) = (cluster.routes[0].devices(), cluster.routes[0].api());
    let flashed = Flashed::provision(&api, "lamp").await;
    let begun = || flashed.login(claim(1, 1));
    let open = [begun().shake(route).await.sealed(), begun().shake(route).await.sealed()];
    let count = rejects(&api, "attempt-open").await;
    let Shaken::Refused(code) = begun().shake(route).await else { panic!("a third is answered") };
    assert_eq!((code, rejects(&api, "attempt-open").await), (RejectCode::Overloaded, count + 1.0));
    redirected(&flashed, route, claim(1, 2)).await;
    drop(open);
    all_are_gone(&api).await;
    redirected(&flashed, route, claim(1, 1)).await;
}

#[tokio::test]
async fn the_oldest_of_many_silent_ones_makes_room_for_a_device() {
    let cluster = Cluster::start(1, 1, &["route.half_open_max=8"]).await;
    let (route, api): (SocketAddr, _) = (cluster.routes[0].devices(), cluster.routes[0].api());
    let flashed = Flashed::provision(&api, "lamp").await;
    let mut silent = Vec::new();
    for number in 0..8 {
        silent.push(connect_from(source(number), route).await.expect("a connection"));
    }
    eventually("all are in", SOON, async || (api.metric("imlink_route_half_open", "").await == 8.0).then_some(()))
        .await;
    for attempt in 1..=4 {
        redirected(&flashed, route, claim(1, attempt)).await;
    }
    assert_eq!(rejects(&api, "crowded-out").await, 1.0, "a device that came in has left its place");
    let mut came = Vec::new();
    silent[0].read_to_end(&mut came).await.unwrap();
    assert_eq!(read_heard(&came), Heard::Refused(RejectCode::Overloaded));
    assert_eq!(api.metric("imlink_route_logins_total", "outcome=\"CrowdedOut\"").await, 1.0);
}

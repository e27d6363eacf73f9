//! Bad input on the ports of a cluster: login at the route, devices at the server, nodes, backends.

use std::time::Duration;

use imlink_protocol::limits::LINK_FRAME_LEN_MAX;
use imlink_protocol::link::backend::{Failure, FromBackend, ToBackend};
use imlink_protocol::link::opening::{HANDSHAKE_LEN_MAX, Opening};
use imlink_protocol::message::{FromDevice, Hello, RejectCode, ToDevice};
use imlink_protocol::ticket::KEY_LEN;
use imlink_protocol::{VERSION, frame};
use imlink_tests::cluster::Cluster;
use imlink_tests::node::{Node, TOKEN};
use imlink_tests::wire::{Body, Wire, framed, hello};

use crate::bad_frames::before_hello;
use crate::bystander::Bystander;

const SOON: Duration = Duration::from_secs(5);

/// What the peer is told until it is cut.
async fn told(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<Body> {
    let mut wire = Wire::connect(address).await;
    wire.write(bytes).await;
    wire.last_words(SOON).await
}

#[tokio::test]
async fn a_route_tells_strangers_at_its_login_port_why_and_counts_them() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let route = &cluster.routes[0];
    let api = route.api();
    let bystander = Bystander::attach(&api, route.devices(), route.backends()).await;
    // What a session needs is the IM-server's to check.
    let sessions = ["no window", "a receive limit nothing fits"];
    for (what, bytes, code, _) in before_hello().into_iter().filter(|(what, ..)| !sessions.contains(what)) {
        let before = api.metric("imlink_route_rejects_total", "").await;
        let words = told(route.plain(), &bytes).await;
        let words: Vec<_> = words.iter().map(Body::read::<ToDevice<'_>>).collect();
        let is_told = matches!(words.as_slice(), [ToDevice::Reject { code: given, .. }] if *given == code);
        assert!(is_told, "{what}: {words:?}");
        let after = api.metric("imlink_route_rejects_total", "").await;
        assert!(after > before, "{what}: rejects_total stayed at {before}");
    }
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn a_server_of_a_cluster_takes_nobody_without_a_ticket_of_its_own() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let (route, server) = (&cluster.routes[0], &cluster.servers[0]);
    let bystander = Bystander::attach(&route.api(), route.devices(), route.backends()).await;
    route.api().provision_plain("lamp").await;
    for (what, bytes, code, _) in before_hello() {
        // Who comes without a ticket is not even looked up.
        let code =
            if code == RejectCode::UnknownDevice && what == "nobody we know" { RejectCode::Ticket } else { code };
        let words = told(server.plain(), &bytes).await;
        let words: Vec<_> = words.iter().map(Body::read::<ToDevice<'_>>).collect();
        let is_told = matches!(words.as_slice(), [ToDevice::Reject { code: given, .. }] if *given == code);
        assert!(is_told, "{what}: {words:?}");
    }
    // A real ticket, of another device, of another server, forged, and the right one.
    let (_, redirect) = Wire::attach(route.plain(), hello("lamp")).await;
    let ToDevice::Redirect { address, grant } = redirect.read() else { panic!("{redirect:?}") };
    let ticket = &grant[KEY_LEN..];
    assert_eq!(address, server.plain().to_string());
    let mut forged = ticket.to_vec();
    forged[3] ^= 1;
    for (what, hello) in [
        ("none", hello("lamp")),
        ("another device's", Hello { ticket, ..hello("bystander") }),
        ("forged", Hello { ticket: &forged, ..hello("lamp") }),
        ("cut", Hello { ticket: &ticket[..ticket.len() - 1], ..hello("lamp") }),
    ] {
        let (_, answer) = Wire::attach(server.plain(), hello).await;
        let is_refused = matches!(answer.read(), ToDevice::Reject { code: RejectCode::Ticket, .. });
        assert!(is_refused, "{what}: {answer:?}");
    }
    let (_, welcome) = Wire::attach(server.plain(), Hello { ticket, attempt: 2, ..hello("lamp") }).await;
    assert!(matches!(welcome.read(), ToDevice::Welcome(_)), "{welcome:?}");
    bystander.is_undisturbed().await;
}

/// A record of a handshake: its length and it.
fn record(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("a short record").to_be_bytes()[..], bytes].concat()
}

fn opening(opening: &Opening<'_>) -> Vec<u8> {
    let mut out = [0; HANDSHAKE_LEN_MAX];
    let len = frame::encode_body(opening, &mut out).expect("a short opening");
    record(&out[..len])
}

#[tokio::test]
async fn the_node_port_takes_only_enrolled_keys_and_cuts_nonsense_without_a_word() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let route = &cluster.routes[0];
    let api = route.api();
    let bystander = Bystander::attach(&api, route.devices(), route.backends()).await;
    let link = |version, server, route| opening(&Opening::Link { version, server, route });
    let join = |token, role| opening(&Opening::Join { version: VERSION, token, role, name: "hostile" });
    let noise = record(&[0x42; 48]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", vec![0xff; 64]),
        ("a long record", vec![0x01, 0x01]),
        ("an empty record", vec![0, 0]),
        ("a device's Hello", framed(&FromDevice::Hello(hello("lamp")))),
        ("another version", link(VERSION + 1, "server-1", "route-1")),
        ("nobody known", [link(VERSION, "hostile", "route-1"), noise.clone()].concat()),
        ("another route", [link(VERSION, "server-1", "route-2"), noise.clone()].concat()),
        ("a known name without its key", [link(VERSION, "server-1", "route-1"), noise.clone()].concat()),
        ("an unknown token", [join([7; 8], "server"), noise.clone()].concat()),
        ("a route's role", [join([7; 8], "route"), noise.clone()].concat()),
    ];
    for (what, bytes) in cases {
        let before = api.metric("imlink_route_links_ended_total", "reason=\"refused\"").await;
        let said = told(route.nodes(), &bytes).await;
        assert_eq!(said, [], "{what}");
        let after = api.metric("imlink_route_links_ended_total", "reason=\"refused\"").await;
        assert!(after > before, "{what} is not counted");
    }
    assert_eq!(api.servers().await.len(), 1);
    bystander.is_undisturbed().await;
}

#[tokio::test]
async fn the_backend_port_takes_only_the_token_and_cuts_nonsense() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    let bystander = Bystander::attach(&api, node.devices(), node.backends()).await;
    let greeting = |version, token: &'static str, name: &'static str| {
        framed(&FromBackend::Hello { version, token, name, tenant: "" })
    };
    let ended = async || api.metric("imlink_route_links_ended_total", "").await;
    let cases: Vec<(&str, Vec<u8>, Option<Failure>)> = vec![
        ("garbage", vec![0xff; 64], None),
        ("an oversized frame", framed_len(LINK_FRAME_LEN_MAX + 1), None),
        ("a Ping before Hello", framed(&FromBackend::Ping), Some(Failure::BadRequest)),
        ("another version", greeting(VERSION + 1, TOKEN, "b"), Some(Failure::BadRequest)),
        ("a wrong token", greeting(VERSION, "wrong-token-0123456789", "b"), Some(Failure::Unauthorized)),
        ("no token", greeting(VERSION, "", "b"), Some(Failure::Unauthorized)),
        ("a name that is none", greeting(VERSION, TOKEN, "a b"), Some(Failure::BadRequest)),
    ];
    for (what, bytes, failure) in cases {
        let before = ended().await;
        let words = told(node.backends(), &bytes).await;
        if let Some(expected) = failure {
            let said = words.first().map(Body::read::<ToBackend<'_>>);
            let is_said = matches!(said, Some(ToBackend::Failed { failure, detail, .. }) if failure == expected && !detail.is_empty());
            assert!(is_said, "{what}: {said:?}");
        }
        assert!(ended().await > before, "{what} is not counted");
    }
    let mut wire = Wire::connect(node.backends()).await;
    wire.write(&greeting(VERSION, TOKEN, "hostile")).await;
    let welcome = wire.next().await.expect("an answer");
    assert!(matches!(welcome.read(), ToBackend::Welcome { .. }), "{welcome:?}");
    let before = ended().await;
    let mut broken = framed(&FromBackend::Ping);
    *broken.last_mut().expect("a check") ^= 1;
    wire.write(&broken).await;
    wire.last_words(SOON).await;
    assert!(ended().await > before, "nonsense in a link is not counted");
    bystander.is_undisturbed().await;
}

/// The length of a frame, and nothing behind it.
fn framed_len(len: usize) -> Vec<u8> {
    vec![(len & 0x7f) as u8 | 0x80, (len >> 7 & 0x7f) as u8 | 0x80, (len >> 14) as u8]
}

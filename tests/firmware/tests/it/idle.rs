//! Half a day of an idle board.

use std::time::{Duration, Instant};

use imlink_firmware_tests::board::{Board, Setup};
use imlink_firmware_tests::capture::{Kind, Packet};
use imlink_protocol::frame;
use imlink_protocol::message::FromDevice;
use imlink_tests::node::Node;

use crate::DEVICE;

/// The board's clock runs this much faster than the gateway's. Faster still, a pause of this machine would be as long
/// as what a board waits for an answer (200 s, here 0.2 s).
const SPEED: u32 = 1000;
/// The idle time: a lease of a day is renewed at its half.
const IDLE_S: u32 = 13 * 3600;

#[tokio::test]
async fn thirteen_idle_hours_are_heartbeats_and_one_renewed_lease() {
    // Over a plain link, so that what the board says can be read on the cable.
    let node = Node::gateway(&[]).await;
    node.api().provision_plain(DEVICE).await;
    let board = Board::start(Setup::plain(DEVICE, &[node.plain()]).with(&format!("speed={SPEED}")));
    board.attached(1).await;
    let began = Instant::now();
    // The time itself is what is tested.
    tokio::time::sleep(Duration::from_secs((IDLE_S / SPEED).into())).await;
    let idle_s = began.elapsed().as_secs_f64() * f64::from(SPEED);
    let packets = board.packets();
    let (frames, other) = frames(&packets);
    // Before the first heartbeat: the power-on event, and the interface where it was asked for.
    let first = frames.iter().position(|frame| frame == "Ping").expect("a heartbeat");
    let (before, idle) = frames.split_at(first);
    println!("{idle_s:.0} s: {} frames, then {} heartbeats, {} bytes", before.len(), idle.len(), bytes(&packets));
    let day = |bytes: usize| (bytes as f64 * 86_400.0 / idle_s) as usize;
    let payload = |from: bool| {
        let len = |kind: &Kind| match kind {
            Kind::Tcp { is_from_board, payload, .. } if *is_from_board == from => payload.len(),
            _ => 0,
        };
        packets.iter().map(|packet| len(&packet.kind)).sum()
    };
    let (sent, received, cable) = (day(payload(true)), day(payload(false)), day(bytes(&packets)));
    println!("| an idle day at 300 s, from {:.0} h with power-on | {sent} | {received} | {cable} |", idle_s / 3600.0);
    assert!(
        before.iter().all(|frame| matches!(frame.as_str(), "Hello" | "Interface" | "Event" | "BlobAck")),
        "{before:?}"
    );
    assert!(idle.iter().all(|frame| frame == "Ping"), "{idle:?}");
    let expected = idle_s / 300.0;
    assert!((idle.len() as f64 - expected).abs() < 4.0, "{} heartbeats, about {expected:.0} expected", idle.len());
    // Its first tries may be too slow for a clock that runs so fast; from then on nothing ends.
    assert_eq!(board.count("attached, epoch"), 1);
    let log = board.log();
    let since = log.split("attached, epoch").nth(1).unwrap_or_default();
    assert!(!since.contains("connection ended"), "{log}");
    assert_eq!(other, 0, "packets that are neither TCP nor address resolution nor DHCP");
    let dhcp = packets.iter().filter(|packet| packet.kind == Kind::Dhcp { is_from_board: true }).count();
    // Two at the start. QEMU gives leases of a day, which are renewed at their half.
    assert!((3..=4).contains(&dhcp), "{dhcp} DHCP messages of the board");
}

/// What the board said over TCP, by name, and how many packets are none of TCP, ARP and DHCP.
fn frames(packets: &[Packet]) -> (Vec<String>, usize) {
    let (mut names, mut other, mut stream) = (Vec::new(), 0, Vec::new());
    for packet in packets {
        match &packet.kind {
            Kind::Tcp { is_from_board: true, payload, .. } => stream.extend_from_slice(payload),
            Kind::Other(_) => other += 1,
            _ => {}
        }
    }
    let mut rest = stream.as_slice();
    while let Ok(Some(whole)) = frame::split(rest, 4096) {
        let name = match frame::decode(whole.body).expect("the board sends frames") {
            FromDevice::Hello(_) => "Hello".into(),
            FromDevice::Interface { .. } => "Interface".into(),
            FromDevice::Event { .. } => "Event".into(),
            FromDevice::Ping { .. } => "Ping".into(),
            // That it takes part in transfers.
            FromDevice::BlobAck(_) => "BlobAck".into(),
            frame => format!("{frame:?}"),
        };
        names.push(name);
        rest = &rest[whole.len..];
    }
    assert!(rest.is_empty(), "bytes that are no frame: {rest:02x?}");
    (names, other)
}

fn bytes(packets: &[Packet]) -> usize {
    packets.iter().map(|packet| packet.len).sum()
}

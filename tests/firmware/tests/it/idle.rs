//! A day of an idle board.

use std::time::Duration;

use imlink_firmware_tests::board::{Board, Setup};
use imlink_firmware_tests::capture::{Kind, Packet, carried};
use imlink_firmware_tests::said::said;
use imlink_protocol::message::FromDevice;
use imlink_tests::node::Node;
use imlink_tests::wait::eventually;

use crate::DEVICE;

/// The board's clock runs this much faster than the gateway's, but where it waits for an answer: then at real speed, so
/// that a pause of this machine is not as long as what the board waits (200 s, else 0.07 s here).
const SPEED: &str = "speed=3000";
const PATIENCE: &str = "patience_ms=5000";
/// The idle time.
const IDLE: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn an_idle_day_is_heartbeats_and_a_renewed_lease() {
    // Over a plain link, so that what the board says can be read on the cable.
    let node = Node::gateway(&[]).await;
    node.api().provision_plain(DEVICE).await;
    let mut board = Board::start(Setup::plain(DEVICE, &[node.plain()]).with(SPEED).with(PATIENCE));
    board.attached(1).await;
    // Each heartbeat says how long it is until the next one; together they are the time that passed.
    eventually("a day of heartbeats", Duration::from_secs(55), async || {
        (announced(&frames(&board.packets()).0) >= IDLE).then_some(())
    })
    .await;
    // What it logs when the cable is out tells the time.
    board.plug(false);
    board.logged("network is down", 1).await;
    let packets = board.packets();
    let log = board.log();
    let idle = clock(&log, "network is down") - clock(&log, "attached, epoch");

    let (frames, other) = frames(&packets);
    // Around the first heartbeats: the power-on event, and the interface where it was asked for.
    let (beats, others): (Vec<_>, Vec<_>) =
        frames.iter().enumerate().partition(|(_, frame)| matches!(frame, Said::Ping(_)));
    let hours = idle.as_secs_f64() / 3600.0;
    let (from, to, all, _) = carried(&packets);
    println!("{hours:.2} h: {} heartbeats, {} other frames, {} bytes", beats.len(), others.len(), all);
    let day = |bytes: usize| (bytes as f64 * 24.0 / hours) as usize;
    let (sent, received, cable) = (day(from), day(to), day(all));
    println!("| an idle day at 300 s, from {hours:.0} h with power-on | {sent} | {received} | {cable} |");
    let opening = ["Hello", "Interface", "Event", "BlobAck"];
    for (index, other) in others {
        let is_opening = matches!(other, Said::Other(name) if opening.contains(&name.as_str()));
        assert!(is_opening && index < 10, "{other:?} is frame {index}");
    }
    // The last one has just been sent, and its time has not passed; a third of a second in which this machine did
    // something else is a quarter of an hour.
    let late = idle.as_secs_f64() - announced(&frames).as_secs_f64();
    assert!((-400.0..3600.0).contains(&late), "{idle:?} passed, {:?} were announced", announced(&frames));
    assert_eq!(log.matches("attached, epoch").count(), 1, "{log}");
    // Its first tries may be too slow for a clock that runs so fast; from then on nothing ends.
    let since = log.split("attached, epoch").nth(1).unwrap_or_default();
    let attached = since.split("network is down").next().unwrap_or_default();
    assert!(!attached.contains("connection ended"), "{log}");
    assert_eq!(other, 0, "packets that are neither TCP nor address resolution nor DHCP");
    let dhcp = packets.iter().filter(|packet| packet.kind == Kind::Dhcp { is_from_board: true }).count();
    // Two at the start. QEMU gives leases of a day, which are renewed at their half: here once, or twice at the end.
    assert!((3..=4).contains(&dhcp), "{dhcp} DHCP messages of the board");
}

/// What a frame of the board is.
#[derive(Debug)]
enum Said {
    /// A heartbeat, and the time until the next.
    Ping(Duration),
    Other(String),
}

/// The time for which heartbeats were announced.
fn announced(frames: &[Said]) -> Duration {
    frames.iter().map(|frame| if let Said::Ping(next) = frame { *next } else { Duration::ZERO }).sum()
}

/// The board's time in front of the first line of `log` that has `text`.
fn clock(log: &str, text: &str) -> Duration {
    let line = log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in {log}"));
    let ms = line.trim_start_matches('[').split(' ').next().and_then(|ms| ms.parse().ok());
    Duration::from_millis(ms.unwrap_or_else(|| panic!("no time in {line:?}")))
}

/// What the board said over TCP, and how many packets are none of TCP, ARP and DHCP.
fn frames(packets: &[Packet]) -> (Vec<Said>, usize) {
    let (mut other, mut stream) = (0, Vec::new());
    for packet in packets {
        match &packet.kind {
            Kind::Tcp { is_from_board: true, payload, .. } => stream.extend_from_slice(payload),
            Kind::Other(_) => other += 1,
            _ => {}
        }
    }
    let (said, rest) = said(&stream, |frame| match frame {
        FromDevice::Ping { next_ms } => Said::Ping(Duration::from_millis(next_ms.into())),
        FromDevice::Hello(_) => Said::Other("Hello".into()),
        FromDevice::Interface { .. } => Said::Other("Interface".into()),
        FromDevice::Event { .. } => Said::Other("Event".into()),
        // That it takes part in transfers.
        FromDevice::BlobAck(_) => Said::Other("BlobAck".into()),
        frame => Said::Other(format!("{frame:?}")),
    });
    assert!(rest.is_empty(), "bytes that are no frame: {rest:02x?}");
    (said, other)
}

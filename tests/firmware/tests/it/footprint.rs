//! What a device costs on the wire, and of its stack. Lines that begin with `|` go into docs/FOOTPRINT.md.

use std::time::Duration;

use imlink_firmware_interface::Settings;
use imlink_firmware_tests::board::{Board, Setup};
use imlink_firmware_tests::capture::{Kind, Packet, carried};
use imlink_protocol::limits::HELLO_FRAME_LEN_MAX;
use imlink_protocol::seal::{FromStranger, take};
use imlink_tests::node::Node;
use imlink_tests::wait::eventually;

use crate::{DEVICE, attached};

/// Each instruction takes 2^SHIFT nanoseconds of the board's time.
const SHIFT: u32 = 4;
/// Instructions in a millisecond at 64 MHz and one for each cycle.
const PER_MS: f64 = 64_000.0;
/// How often each is done.
const ROUNDS: usize = 3;
/// Most instructions of a handshake, a little above what they were when this was written.
const LOGIN_MAX: f64 = 13e6;
const ATTACH_MAX: f64 = 5e6;

/// Bytes of what the board's cable carried since packet `first`.
fn since(board: &Board, first: usize) -> (usize, usize, usize, usize) {
    carried(board.packets().get(first..).unwrap_or_default())
}

fn print(what: &str, (sent, received, cable, packets): (usize, usize, usize, usize)) {
    println!("| {what} | {sent} | {received} | {cable} in {packets} packets |");
}

/// Waits until nothing has been on the cable for a moment; how many packets there were.
async fn quiet(board: &Board) -> usize {
    let mut last = (board.packets().len(), std::time::Instant::now());
    eventually("the cable is quiet", Duration::from_secs(30), async || {
        let now = board.packets().len();
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(600)).then_some(now)
    })
    .await
}

#[tokio::test]
async fn footprint_of_a_device_on_the_wire_and_of_its_stack() {
    let (_node, mut board, backend) = attached(&[], |setup| setup).await;
    backend.do_now("led/set", &true).await;
    let mut first = quiet(&board).await;
    print("power-on: DHCP, login, interface, one event", since(&board, 0));

    backend.do_now("settings/set", &Settings::default()).await;
    first = {
        let next = quiet(&board).await;
        let command = since(&board, first);
        print("a command of 2 bytes, acknowledged", command);
        // Sealed: each frame has a tag of 16 bytes in the place of a check of 4.
        assert!(command.0 <= 20 && command.1 <= 36, "{command:?}");
        next
    };
    let _: bool = backend.call("led/get").await;
    first = {
        let next = quiet(&board).await;
        print("a call, answered with 1 byte", since(&board, first));
        next
    };
    backend.do_now("led/set", &false).await;
    first = {
        let next = quiet(&board).await;
        print("a command and the event it causes", since(&board, first));
        next
    };
    board.plug(false);
    board.logged("network is down", 1).await;
    first = first.max(board.packets().len());
    board.plug(true);
    board.attached(2).await;
    quiet(&board).await;
    let reconnect = since(&board, first);
    print("reconnect after the cable was out, DHCP and the old connection's end included", reconnect);
    // Alone it takes at most 400 bytes; here what is left of the old connection is counted, too, and that the board
    // takes part in transfers.
    assert!(reconnect.0 + reconnect.1 <= 460, "a reconnect takes at most 460 bytes both ways: {reconnect:?}");
    let status = backend.status().await;
    println!("| stack, the whole image's high-water mark | {} of {} |", status.stack_used, status.stack_size);
}

/// The first exchange of a connection, in instructions of the board between packets on its cable.
struct Opening {
    /// Whether it is sealed by a login, or by a ticket; a plain one is neither.
    is_login: Option<bool>,
    /// From the server's half of the TCP handshake to the board's first frame.
    first: f64,
    /// From the server's answer to it to the board's second frame.
    second: f64,
}

/// The board's connections so far, as far as they went.
fn openings(packets: &[Packet]) -> Vec<Opening> {
    let is_tcp = |packet: &&Packet| matches!(packet.kind, Kind::Tcp { .. });
    let tcp: Vec<_> = packets.iter().filter(is_tcp).collect();
    // The next packet with a payload, from the board or to it.
    let said = |from: usize, by_board: bool| {
        let is_it = |packet: &&Packet| match &packet.kind {
            Kind::Tcp { is_from_board, payload, .. } => *is_from_board == by_board && !payload.is_empty(),
            _ => false,
        };
        tcp.iter().skip(from).position(is_it).map(|at| from + at)
    };
    let instructions = |from: &Packet, to: &Packet| (to.at - from.at).as_nanos() as f64 / f64::from(1 << SHIFT);
    let mut found = Vec::new();
    for (opened, packet) in tcp.iter().enumerate() {
        let Kind::Tcp { is_from_board: false, is_opening: true, .. } = packet.kind else { continue };
        let Some(first) = said(opened, true) else { continue };
        let Some(answer) = said(first, false) else { continue };
        let Some(second) = said(answer, true) else { continue };
        let Kind::Tcp { payload, .. } = &tcp[first].kind else { continue };
        let frame = take(payload, HELLO_FRAME_LEN_MAX).ok().flatten();
        let handshake = frame.and_then(|(body, _)| FromStranger::decode(body).ok());
        found.push(Opening {
            is_login: handshake.map(|handshake| matches!(handshake, FromStranger::Login(_))),
            first: instructions(packet, tcp[first]),
            second: instructions(tcp[answer], tcp[second]),
        });
    }
    found
}

/// Starts a board whose time is counted in instructions.
fn counted(setup: Setup) -> Board {
    Board::start(setup.with_qemu(&["-icount", &format!("shift={SHIFT}")]))
}

/// The shortest of the parts of `openings`: now and then the board sleeps within one, which is no instructions.
fn least(openings: &[Opening], is_login: Option<bool>) -> (f64, f64) {
    let all: Vec<_> = openings.iter().filter(|opening| opening.is_login == is_login).collect();
    assert!(all.len() >= ROUNDS, "{} of {ROUNDS} connections with is_login = {is_login:?}", all.len());
    let least = |part: fn(&Opening) -> f64| all.iter().map(|opening| part(opening)).fold(f64::INFINITY, f64::min);
    (least(|opening| opening.first), least(|opening| opening.second))
}

#[tokio::test]
async fn footprint_of_handshakes_in_instructions() {
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    node.api().provision_plain("board-2").await;
    let mut board = counted(Setup::new(DEVICE, &[node.devices()]));
    let mut plain_board = counted(Setup::plain("board-2", &[node.plain()]));
    for round in 1..=ROUNDS {
        board.attached(2 * round - 1).await;
        // It comes back by the ticket that it was given; after a reset it has none.
        board.plug(false);
        board.logged("network is down", round).await;
        board.plug(true);
        board.attached(2 * round).await;
        plain_board.attached(round).await;
        quiet(&board).await;
        quiet(&plain_board).await;
        if round < ROUNDS {
            board.reset();
            plain_board.reset();
        }
    }
    let (hello, _) = least(&openings(&plain_board.packets()), None);
    println!(
        "| handshake: none, a plain `Hello` with what TCP takes | {hello:.0} | | {hello:.0} | {:.1} |",
        hello / PER_MS
    );
    let sealed = openings(&board.packets());
    for (what, is_login, max) in [("login, IKpsk2", true, LOGIN_MAX), ("attach by a ticket, NNpsk0", false, ATTACH_MAX)]
    {
        let (first, second) = least(&sealed, Some(is_login));
        let all = first + second;
        println!("| handshake: {what} | {first:.0} | {second:.0} | {all:.0} | {:.0} |", all / PER_MS);
        assert!(all < max, "{what}: {all} instructions, {max} are allowed");
        assert!(hello < first / 10.0, "what is counted is the handshake, not the network");
    }
}

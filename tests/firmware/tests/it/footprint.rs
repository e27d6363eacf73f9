//! What a device costs on the wire, and of its stack. Lines that begin with `|` go into docs/FOOTPRINT.md.

use std::time::Duration;

use imlink_firmware_interface::Settings;
use imlink_firmware_tests::board::Board;
use imlink_firmware_tests::capture::Kind;
use imlink_tests::wait::eventually;

use crate::attached;

/// Bytes of what the board's cable carried since packet `first`: TCP payloads from and to the board, all packets.
fn since(board: &Board, first: usize) -> (usize, usize, usize, usize) {
    let packets = board.packets();
    let packets = packets.get(first..).unwrap_or_default();
    let payload = |from: bool| {
        let len = |kind: &Kind| match kind {
            Kind::Tcp { is_from_board, payload } if *is_from_board == from => payload.len(),
            _ => 0,
        };
        packets.iter().map(|packet| len(&packet.kind)).sum()
    };
    (payload(true), payload(false), packets.iter().map(|packet| packet.len).sum(), packets.len())
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

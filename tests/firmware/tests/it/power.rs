//! Power that fails in the middle of a command.

use std::time::Duration;

use imlink_firmware_interface::{Counter, Settings};
use imlink_firmware_tests::backend::Backend;
use imlink_firmware_tests::board::Setup;
use imlink_protocol::MessageId;
use imlink_tests::wait::eventually;

use crate::attached;

/// How long the handler of the interrupted command works, in milliseconds.
const WORK_MS: u16 = 3000;

async fn acked(backend: &Backend, id: MessageId) {
    eventually("the command is acknowledged", Duration::from_secs(40), async || {
        (backend.state(id).await == "acked").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_board_that_keeps_its_cursor_gets_only_the_command_it_had_begun_again() {
    let (_node, mut board, backend) = attached(&[], |setup| setup).await;
    let mut expected = Counter::default();
    for number in 1..=5 {
        let id = backend.add(number, 0).await;
        acked(&backend, id).await;
        expected.add(id, false, number);
    }
    let begun = backend.add(6, WORK_MS).await;
    let later = backend.add(7, 0).await;
    board.logged(&format!("message {begun}"), 1).await;
    board.power_cycle();
    acked(&backend, later).await;
    // The one it had begun is marked, since nobody knows how far it came; it had not counted it yet.
    expected.add(begun, true, 6);
    expected.add(later, false, 7);
    assert_eq!(backend.counter().await, expected);
    assert_eq!(board.count(&format!("message {begun}, perhaps again")), 1);
    assert_eq!(board.count("perhaps again"), 1);
    assert_eq!(expected.redelivered, 1);
}

#[tokio::test]
async fn a_board_without_flash_gets_what_it_had_not_acknowledged_again_and_marked() {
    let (_node, mut board, backend) = attached(&[], |setup| setup.with("flash=no")).await;
    let done = backend.add(1, 0).await;
    acked(&backend, done).await;
    let begun = backend.add(2, WORK_MS).await;
    let waiting = backend.add(3, 0).await;
    board.logged(&format!("message {begun}"), 1).await;
    board.power_cycle();
    acked(&backend, waiting).await;
    let mut expected = Counter::default();
    expected.add(begun, true, 2);
    // Offered before the power failed, though its handler never saw it.
    expected.add(waiting, true, 3);
    assert_eq!(backend.counter().await, expected);
    assert_eq!(board.count(&format!("message {done}")), 1, "what was acknowledged does not come again");
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_command_is_no_different() {
    let (_node, mut board, backend) = attached(&[], |setup| setup).await;
    let begun = backend.add(1, WORK_MS).await;
    board.logged(&format!("message {begun}"), 1).await;
    board.reset();
    acked(&backend, begun).await;
    let counter = backend.counter().await;
    assert_eq!((counter.count, counter.sum, counter.redelivered, counter.repeated), (1, 1, 1, 0));
}

#[tokio::test]
async fn power_that_fails_at_any_moment_never_makes_a_command_count_twice_or_not_at_all() {
    let (_node, mut board, backend) = attached(&["route.mailbox_max=2000"], |setup| setup).await;
    let mut last = MessageId::default();
    for round in 1..=6u32 {
        for number in 0..20 {
            last = backend.add(round * 100 + number, 10).await;
        }
        // Somewhere in the middle of the twenty.
        eventually("the board is at work", Duration::from_secs(40), async || {
            (board.count("message ") >= round as usize * 10).then_some(())
        })
        .await;
        board.power_cycle();
    }
    acked(&backend, last).await;
    let counter = backend.counter().await;
    let sum: u64 = (1..=6u64).flat_map(|round| (0..20).map(move |number| round * 100 + number)).sum();
    assert_eq!((counter.count, counter.sum), (120, sum));
    assert!(counter.redelivered <= 6, "at most one for each power loss: {counter:?}");
}

#[tokio::test]
async fn settings_outlive_a_power_loss() {
    let (_node, mut board, backend) = attached(&[], |setup: Setup| setup).await;
    let settings = Settings { report_s: 0, led_at_boot: true };
    backend.set(settings).await;
    assert!(!board.is_led_on());
    board.power_cycle();
    board.attached(2).await;
    assert_eq!(backend.call::<Settings>("settings/get").await, settings);
    assert!(board.is_led_on());
}

//! What a board does on a good day.

use std::time::{Duration, Instant};

use imlink_firmware_interface::{BOOTED, Booted, Counter, Reading, SENSOR_READING, Settings};
use imlink_firmware_tests::backend::{Backend, payload};
use imlink_firmware_tests::board::{Board, Setup};
use imlink_protocol::Key;
use imlink_tests::api::Events;
use imlink_tests::node::Node;
use imlink_tests::wait::eventually;

use crate::{DEVICE, attached};

/// Commands of the test of order.
const COMMANDS: u32 = 1000;
/// Most bytes of stack the whole firmware may use: main stack, interrupts, network, client and transfers of blobs.
const STACK_MAX: u32 = 18 * 1024;

#[tokio::test]
async fn a_board_acknowledges_its_first_command_soon_after_power_on() {
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let began = Instant::now();
    let mut board = Board::start(Setup::new(DEVICE, &[node.devices()]));
    // Its paths are known from then on.
    board.attached(1).await;
    let backend = Backend::new(node.api(), DEVICE);
    backend.do_now("led/set", &true).await;
    let took = began.elapsed();
    assert!(board.is_led_on());
    backend.do_now("led/set", &false).await;
    assert!(!board.is_led_on());
    println!("power-on to first acknowledged command: {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn a_thousand_commands_are_handled_once_each_in_order() {
    let (_node, _board, backend) = attached(&["route.mailbox_max=2000"], |setup| setup).await;
    let mut expected = Counter::default();
    let mut last = Default::default();
    let began = Instant::now();
    for number in 1..=COMMANDS {
        last = backend.add(number, 0).await;
        expected.add(last, false, number);
    }
    eventually("the last one is acknowledged", Duration::from_secs(50), async || {
        (backend.state(last).await == "acked").then_some(())
    })
    .await;
    println!("{COMMANDS} commands in {:?}", began.elapsed());
    assert_eq!(backend.counter().await, expected);
    let status = backend.status().await;
    assert_eq!((status.sessions, status.failures, status.flash_failures), (1, 0, 0));
    println!("stack: {} of {} bytes", status.stack_used, status.stack_size);
    assert!(status.stack_used < STACK_MAX, "{} bytes of stack were used, {STACK_MAX} are allowed", status.stack_used);
}

#[tokio::test]
async fn calls_are_answered_and_typed() {
    let (_node, mut board, backend) = attached(&[], |setup| setup).await;
    backend.do_now("led/set", &true).await;
    assert!(backend.call::<bool>("led/get").await);
    assert!(board.is_led_on());
    let settings = Settings { report_s: 0, led_at_boot: true };
    backend.set(settings).await;
    assert_eq!(backend.call::<Settings>("settings/get").await, settings);
    let wrong = backend.send("settings/set", "?wait=acked&timeout=20", &7u8).await;
    assert_eq!((wrong.text("state"), wrong.json()["code"].to_string()), ("rejected".into(), "2".into()), "{wrong:?}");
    let unknown = backend.send("fan/set", "", &7u8).await;
    assert_eq!((unknown.status, unknown.problem()), (404, "unknown-path".into()), "{unknown:?}");
}

#[tokio::test]
async fn events_tell_of_power_on_and_what_the_sensor_measures() {
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let mut events = node.api().events("", None).await;
    let mut board = Board::start(Setup::new(DEVICE, &[node.devices()]));
    assert_eq!(next::<Booted>(&mut events, BOOTED).await, Booted { boots: 1, version: (0, 1, 0) });
    board.set_temperature(21_500);
    let backend = Backend::new(node.api(), DEVICE);
    backend.set(Settings { report_s: 1, led_at_boot: false }).await;
    let reading = next::<Reading>(&mut events, SENSOR_READING).await;
    assert_eq!(reading.millicelsius, 21_500);
    // A board has no clock: it knows the time from its server.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis();
    assert!(now.abs_diff(reading.time_ms.into()) < 10_000, "{} is not {now}", reading.time_ms);
    board.set_temperature(-7_500);
    eventually("the sensor shows the new temperature", Duration::from_secs(20), async || {
        let reading = next::<Reading>(&mut events, SENSOR_READING).await;
        (reading.millicelsius == -7_500).then_some(())
    })
    .await;
}

/// The next event of `key`; the paths of a new interface are not known yet when its first event comes.
async fn next<T: serde::de::DeserializeOwned>(events: &mut Events, key: Key) -> T {
    loop {
        let event = events.next().await.expect("the stream goes on");
        if event.data["key"] == key.to_string() {
            return payload(&event.data);
        }
    }
}

#[tokio::test]
async fn a_reboot_is_acknowledged_and_done_once() {
    let (_node, board, backend) = attached(&[], |setup| setup).await;
    backend.do_now("reboot", &0u8).await;
    board.attached(2).await;
    backend.do_now("led/set", &true).await;
    assert_eq!(board.count("restarting"), 1);
}

#[tokio::test]
async fn a_message_larger_than_the_board_takes_is_refused_at_send() {
    let (_node, board, backend) = attached(&[], |setup| setup).await;
    let refused = backend.api.send(DEVICE, "text/show", "?wait=acked&timeout=20", vec![b'x'; 600]).await;
    assert_eq!((refused.status, refused.problem()), (413, "too-large".into()), "{refused:?}");
    // The largest that fits: a frame of 512 bytes with its length of up to 3, less what a message adds.
    let largest = 509 - imlink_protocol::limits::PAYLOAD_OVERHEAD;
    let taken = backend.api.send(DEVICE, "text/show", "?wait=acked&timeout=20", vec![b'x'; largest]).await;
    assert_eq!(taken.text("state"), "acked", "{taken:?}");
    assert_eq!(board.count(&format!("text of {largest} bytes")), 1);
    let status = backend.status().await;
    assert_eq!((status.sessions, status.failures), (1, 0), "it was not disturbed");
}

//! Events that are kept in flash.

use imlink_firmware_interface::{BOOTED, Booted, Settings};
use imlink_firmware_tests::backend::{Backend, payload};
use imlink_firmware_tests::board::{Board, Setup};
use imlink_tests::api::Events;
use imlink_tests::node::Node;
use imlink_tests::proxy::{Fault, Proxy};
use imlink_tests::redis::{Keep, Redis};
use serde_json::Value;

use crate::DEVICE;

/// A reading each second.
const REPORTS: Settings = Settings { report_s: 1, led_at_boot: false };

#[tokio::test]
async fn what_is_published_while_the_gateway_is_away_arrives_once_and_in_order_after_power_cycles() {
    let redis = Redis::start(Keep::Everything).await;
    let mut node = Node::gateway(&[&format!("store={}", redis.url())]).await;
    node.api().provision(DEVICE).await;
    let begin = node.api().events("", None).await.next().await.expect("the stream opens").position;
    // Twenty readings a second.
    let mut board = Board::start(Setup::new(DEVICE, &[node.devices()]).with("speed=20"));
    board.attached(1).await;
    let backend = Backend::new(node.api(), DEVICE);
    backend.set(REPORTS).await;
    board.logged("is kept", 3).await;
    node.kill();
    // Far more than the 512 bytes of its memory hold, each time.
    for _ in 0..2 {
        let before = kept(&board).len();
        board.logged("is kept", before + 60).await;
        board.power_cycle();
    }
    let before = kept(&board).len();
    board.logged("is kept", before + 60).await;
    let waiting = kept(&board);
    assert_eq!(board.count("an event is lost"), 0);
    node.restart().await;
    let mut events = node.api().events("", Some(&begin)).await;
    let came = until(&mut events, *waiting.last().expect("events were kept")).await;
    let numbers: Vec<u64> = came.iter().map(number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(waiting, numbers[..waiting.len()], "all that were said to be kept, in that order");
    assert!(came.iter().all(|event| event["queue"] == came[0]["queue"]), "of one queue");
    let boots = came.iter().filter(|event| event["key"] == BOOTED.to_string()).map(booted);
    assert_eq!(boots.collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn an_event_whose_acknowledgement_was_lost_with_the_power_is_stored_once() {
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let mut events = node.api().events("", None).await;
    let proxy = Proxy::start(node.devices()).await;
    let mut board = Board::start(Setup::new(DEVICE, &[proxy.address()]));
    board.attached(1).await;
    let backend = Backend::new(node.api(), DEVICE);
    let first = until(&mut events, 1).await;
    backend.set(REPORTS).await;
    board.logged("is kept", 2).await;
    // From here on events are stored, and the board does not hear of it.
    proxy.set(Fault::HoldAnswers);
    let last = kept(&board).len() as u64 + 2;
    let unacknowledged = until(&mut events, last).await;
    board.power_cycle();
    proxy.set(Fault::None);
    board.attached(2).await;
    let after = until(&mut events, last + 4).await;
    let came: Vec<_> = [first, unacknowledged, after].concat();
    let numbers: Vec<u64> = came.iter().map(number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "each once, in order");
    assert!(came.iter().all(|event| event["queue"] == came[0]["queue"]), "of one queue");
    let boots = came.iter().filter(|event| event["key"] == BOOTED.to_string()).map(booted);
    assert_eq!(boots.collect::<Vec<_>>(), [1, 2]);
}

/// Numbers of the events that the board said to be kept, over all power-ons.
fn kept(board: &Board) -> Vec<u64> {
    let log = board.log();
    let numbers = log.lines().filter_map(|line| line.split_once("event ")?.1.strip_suffix(" is kept"));
    numbers.map(|number| number.trim().parse().expect("a number")).collect()
}

/// The events up to number `last`.
async fn until(events: &mut Events, last: u64) -> Vec<Value> {
    let mut came = Vec::new();
    while came.last().is_none_or(|event| number(event) < last) {
        let event = events.next().await.expect("the stream goes on");
        assert_ne!(event.kind, "end", "{event:?}");
        if event.kind == "event" {
            came.push(event.data);
        }
    }
    came
}

fn number(event: &Value) -> u64 {
    event["sequence"].as_u64().unwrap_or_else(|| panic!("no sequence: {event}"))
}

fn booted(event: &Value) -> u32 {
    payload::<Booted>(event).boots
}

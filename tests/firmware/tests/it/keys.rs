//! Keys that fit, and keys that do not.

use imlink_firmware_tests::board::{Board, Setup};
use imlink_protocol::key_pair::{PrivateKey, PublicKey};
use imlink_tests::device::private_key;
use imlink_tests::node::{Node, ROUTE_KEYS, TOKEN, run};

use crate::DEVICE;

/// A board with this private key that pins these keys of routes.
fn board(node: &Node, private_key: &PrivateKey, route_keys: &[PublicKey]) -> Board {
    let mut setup =
        Setup::plain(DEVICE, &[node.devices()]).with(&format!("private_key={}", private_key.reveal())).with("speed=20");
    for key in route_keys {
        setup = setup.with(&format!("route_key={key}"));
    }
    Board::start(setup)
}

fn route_key(number: usize) -> PublicKey {
    PrivateKey::new(ROUTE_KEYS[number]).public()
}

#[tokio::test]
async fn a_board_whose_first_pinned_key_is_old_gets_in_by_the_second() {
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let old = PrivateKey::new([9; 32]).public();
    let board = board(&node, &private_key(DEVICE), &[old, route_key(1)]);
    board.attached(1).await;
}

#[tokio::test]
async fn a_board_with_a_wrong_key_stays_out_and_says_so() {
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let mut board = board(&node, &PrivateKey::new([8; 32]), &[route_key(0)]);
    board.logged("unknown-device", 1).await;
    assert!(!node.api().is_online(DEVICE).await);
    assert!(board.is_running());
}

#[tokio::test]
async fn a_board_that_pins_other_routes_tells_them_nothing() {
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let other = PrivateKey::new([9; 32]).public();
    let mut board = board(&node, &private_key(DEVICE), &[other]);
    board.logged("the server closed the connection", 2).await;
    assert!(!node.api().is_online(DEVICE).await);
    let dropped = node.api().metric("imlink_server_handshakes_total", "reason=\"mac\"").await;
    assert!(dropped >= 2.0, "{dropped} logins were dropped");
    assert!(board.is_running());
}

#[tokio::test]
async fn a_board_makes_its_key_at_first_power_on_and_comes_back_with_it() {
    let node = Node::gateway(&[]).await;
    let mut setup = Setup::plain(DEVICE, &[node.devices()]).with("private_key=flash");
    setup = setup.with(&format!("route_key={}", route_key(0)));
    let mut board = Board::start(setup);
    board.logged("unknown-device", 1).await;
    let log = board.log();
    let told = log.lines().find_map(|line| line.split_once("imlink device add "));
    let (_, command) = told.unwrap_or_else(|| panic!("no command in {log}"));
    // What a person would paste.
    let url = format!("http://{}", node.http());
    let mut arguments = vec!["device", "add", "--url", &url, "--token", TOKEN];
    arguments.extend(command.split(' '));
    run(&arguments);
    // It would try again after the wait that the server asked for, a minute.
    board.power_cycle();
    board.attached(1).await;
    let public = command.rsplit(' ').next().expect("a key");
    assert_eq!(board.count("a new key pair"), 1, "it is drawn once");
    assert_eq!(board.count(&format!("public key {public}")), 1, "and kept");
}

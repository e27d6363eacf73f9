//! What imlink promises, asked of firmware in QEMU.

mod blobs;
mod events;
mod faults;
mod footprint;
mod heartbeat;
mod hostile;
mod hostile_sealed;
mod idle;
mod keys;
mod main_job;
mod power;
mod template;

use imlink_firmware_tests::backend::Backend;
use imlink_firmware_tests::board::{Board, Setup};
use imlink_tests::node::Node;

/// Id of the board in every test: each has a gateway of its own.
pub(crate) const DEVICE: &str = "board-1";

/// A gateway with `settings`, a board attached to it, and its backend.
pub(crate) async fn attached(settings: &[&str], setup: impl FnOnce(Setup) -> Setup) -> (Node, Board, Backend) {
    let node = Node::gateway(settings).await;
    node.api().provision(DEVICE).await;
    let board = Board::start(setup(Setup::new(DEVICE, &[node.devices()])));
    board.attached(1).await;
    let backend = Backend::new(node.api(), DEVICE);
    (node, board, backend)
}

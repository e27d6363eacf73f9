//! How often a board gives a sign of life.

use std::time::Duration;

use imlink_firmware_tests::board::{Board, Setup};
use imlink_firmware_tests::said::said;
use imlink_protocol::message::FromDevice;
use imlink_tests::node::Node;
use imlink_tests::proxy::{Fault, Proxy};
use imlink_tests::wait::eventually;

use crate::DEVICE;

/// The board's clock runs this much faster than the proxy's.
const SPEED: u32 = 60;
/// After this much of the board's time without a byte the path forgets its connection.
const FORGETS_S: u32 = 200;

#[tokio::test]
async fn an_adaptive_board_finds_the_longest_interval_that_its_path_survives() {
    // Over a plain link, so that what the board announces can be read on the way.
    let node = Node::gateway(&[]).await;
    node.api().provision_plain(DEVICE).await;
    let proxy = Proxy::start(node.plain()).await;
    proxy.set(Fault::Forget(Duration::from_secs(FORGETS_S.into()) / SPEED));
    let setup = Setup::plain(DEVICE, &[proxy.address()]).with("heartbeat=adaptive").with(&format!("speed={SPEED}"));
    let board = Board::start(setup);
    board.attached(1).await;
    // From 60 s on it tries longer ones until the path forgets it, and keeps to one that it survived.
    let connections = eventually("an interval is kept", Duration::from_secs(55), async || {
        let connections = announced(&proxy.recorded());
        let kept = connections.last().and_then(|last| last.rchunks(3).next()).unwrap_or_default();
        let is_kept = kept.len() == 3 && kept.iter().all(|ms| *ms == kept[0] && *ms > 120_000);
        is_kept.then_some(connections)
    })
    .await;
    println!("announced, connection by connection: {connections:?}");
    let kept = connections.last().and_then(|last| last.last()).expect("an interval is kept") / 1000;
    assert!((150..FORGETS_S).contains(&kept), "{kept} s");
    assert_eq!(connections.first().and_then(|first| first.first()), Some(&60_000));
    assert!((2..=5).contains(&connections.len()), "{connections:?}");
}

/// The intervals that the `Ping`s of each connection announced, in milliseconds.
fn announced(recorded: &[Vec<u8>]) -> Vec<Vec<u32>> {
    let pings = |bytes: &Vec<u8>| {
        let interval =
            |frame: FromDevice<'_>| if let FromDevice::Ping { next_ms } = frame { Some(next_ms) } else { None };
        said(bytes, interval).0.into_iter().flatten().collect()
    };
    recorded.iter().map(pings).collect()
}

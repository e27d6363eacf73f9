//! A log that nobody reads: a full pipe.

use std::time::Duration;

use imlink_tests::node::{Node, Role};
use imlink_tests::sealed::knock;
use imlink_tests::wait::eventually;

use crate::bystander::Bystander;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_gateway_whose_log_nobody_reads_serves_on_counts_what_it_drops_and_leaves_when_asked() {
    let mut node = Node::launch_unread(Role::Gateway, "gateway", &["log_level=debug"]);
    node.ready().await;
    let api = node.api();
    let bystander = Bystander::attach(&api, node.devices(), node.backends()).await;
    // Each writes a line or two. A pipe takes 64 KiB, and 8,192 lines wait.
    eventually("lines are dropped", Duration::from_secs(60), async || {
        let knocks = (0..64).map(|_| tokio::spawn(knock(node.devices(), &[0xff; 64], SOON)));
        for knock in knocks.collect::<Vec<_>>() {
            knock.await.expect("a knock").expect("an end of the connection");
        }
        (api.metric("imlink_log_lines_dropped_total", "").await > 0.0).then_some(())
    })
    .await;
    bystander.is_undisturbed().await;
    let status = node.leave(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
}

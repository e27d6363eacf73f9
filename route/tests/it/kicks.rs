//! Kicks: the replaced, the revoked and the removed.

use imlink_protocol::Fingerprint;
use imlink_protocol::link::backend::{Failure, Wait};
use imlink_protocol::link::node::ToRoute;

use crate::support::{Got, Node, Setup, call, send, until};

fn kick(node: &Node, at: &Node, incarnation: u64) {
    node.say(&ToRoute::Kick { request: 7, device: "-/lamp", epoch: 1, server: &at.name, incarnation });
}

#[tokio::test]
async fn a_kick_reaches_the_server_that_holds_the_session_and_its_outcome_the_asker() {
    let setup = Setup::start().await;
    let mut one = Node::start(&setup, "im-1").await;
    let mut two = Node::start(&setup, "im-2").await;
    setup.attached("lamp", &one).await;
    kick(&two, &one, one.incarnation);
    let expected = Got::Kick { device: "-/lamp".into(), epoch: 1, revoked: false };
    assert_eq!(one.next().await, expected);
    assert_eq!(two.next().await, Got::KickDone("Kicked".into()));
    kick(&two, &one, one.incarnation);
    assert_eq!(two.next().await, Got::KickDone("NotHere".into()));
}

#[tokio::test]
async fn a_kick_of_a_dead_incarnation_is_gone_and_of_an_unlinked_one_unreachable() {
    let setup = Setup::start().await;
    let dead = Node::unreachable(&setup, "im-1").await;
    let mut two = Node::start(&setup, "im-2").await;
    dead.sender.close();
    until(async || !setup.store.servers().await.unwrap().iter().any(|one| one.name == "im-1")).await;
    kick(&two, &dead, dead.incarnation);
    assert_eq!(two.next().await, Got::KickDone("Gone".into()));

    let elsewhere = imlink_store::lease::Server {
        name: "im-3".into(),
        incarnation: 77,
        device_address: "127.0.0.1:1".into(),
        capacity: 1,
        labels: String::new(),
    };
    setup.store.register_server(&elsewhere, std::time::Duration::from_secs(15)).await.unwrap();
    two.say(&ToRoute::Kick { request: 8, device: "-/lamp", epoch: 1, server: "im-3", incarnation: 77 });
    assert_eq!(two.next().await, Got::KickDone("Unreachable".into()));
    two.say(&ToRoute::Kick { request: 9, device: "-/lamp", epoch: 1, server: "im-3", incarnation: 76 });
    assert_eq!(two.next().await, Got::KickDone("Gone".into()), "another incarnation has its name");
}

#[tokio::test]
async fn a_revoked_device_is_kicked_and_takes_nothing_more() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    setup.route().revoke("-", "lamp").await.unwrap();
    assert!(matches!(node.next().await, Got::Kick { revoked: true, .. }));
    let failed = setup.route().send(send("lamp", Wait::Stored)).await.unwrap_err();
    assert_eq!(failed.failure, Failure::Revoked);
    let failed = setup.route().revoke("-", "nobody").await.unwrap_err();
    assert_eq!(failed.failure, Failure::UnknownDevice);
}

#[tokio::test]
async fn a_removed_device_is_kicked_and_unknown() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    let device = setup.attached("lamp", &node).await;
    setup.attach(&device, &node, Fingerprint::NONE).await;
    let second = node.epoch("lamp");
    setup.route().remove("-", "lamp").await.unwrap();
    assert!(matches!(node.next().await, Got::Kick { epoch, revoked: true, .. } if epoch == second));
    let failed = setup.route().call(call("lamp", std::time::Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(failed.failure, Failure::UnknownDevice);
    assert!(setup.route().devices("-", "", 10).await.unwrap().is_empty());
}

//! Calls: at most once, answered by their deadline, honest about what may have run.

use std::time::{Duration, Instant};

use imlink_protocol::Fingerprint;
use imlink_protocol::link::backend::Failure;
use imlink_protocol::link::node::ToRoute;
use imlink_protocol::message::Code;

use crate::support::{Got, Manner, Node, Setup, call};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_call_reaches_the_device_and_its_answer_the_caller() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    let replied = setup.route().call(call("lamp", SECOND)).await.unwrap();
    assert_eq!((replied.status, &replied.payload[..]), (Code::OK, &b"?"[..]));
    let Got::Call { device, epoch, remaining_ms, .. } = node.next().await else { panic!() };
    assert_eq!((device.as_str(), epoch), ("-/lamp", node.epoch("lamp")));
    assert!((900..=1000).contains(&remaining_ms), "{remaining_ms}");
}

#[tokio::test]
async fn a_device_without_a_session_or_with_a_dead_server_is_offline() {
    let setup = Setup::start().await;
    setup.device("away").await;
    let failed = setup.route().call(call("away", SECOND)).await.unwrap_err();
    assert_eq!(failed.failure, Failure::Offline);
    assert!(failed.detail.contains("did not run"), "{}", failed.detail);

    let node = Node::unreachable(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    drop(node.sender.clone());
    node.sender.close();
    drop(node);
    let failed = setup.route().call(call("lamp", 4 * SECOND)).await.unwrap_err();
    assert!(matches!(failed.failure, Failure::Offline | Failure::Disconnected), "{failed}");
    let failed = setup.route().call(call("nobody", SECOND)).await.unwrap_err();
    assert_eq!(failed.failure, Failure::UnknownDevice);
}

#[tokio::test]
async fn a_silent_device_ends_in_deadline_on_time_and_its_server_hears_of_it() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    node.behave(Manner::Mute);
    let began = Instant::now();
    let failed = setup.route().call(call("lamp", Duration::from_millis(300))).await.unwrap_err();
    assert_eq!(failed.failure, Failure::Deadline);
    assert!(failed.detail.contains("may have run"), "{}", failed.detail);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let Got::Call { request, .. } = node.next().await else { panic!() };
    assert_eq!(node.next().await, Got::Cancel(request));
}

#[tokio::test]
async fn a_call_that_nobody_awaits_any_more_is_cancelled() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    node.behave(Manner::Mute);
    let route = setup.route().clone();
    let asked = tokio::spawn(async move { route.call(call("lamp", 60 * SECOND)).await });
    let Got::Call { request, .. } = node.next().await else { panic!() };
    asked.abort();
    assert_eq!(node.next().await, Got::Cancel(request));
}

#[tokio::test]
async fn a_denied_call_goes_where_the_store_says() {
    let setup = Setup::start().await;
    let mut one = Node::start(&setup, "im-1").await;
    let mut two = Node::start(&setup, "im-2").await;
    let device = setup.attached("lamp", &one).await;
    setup.route().call(call("lamp", SECOND)).await.unwrap();
    // The device moves; the route still believes in the first server.
    let first = one.epoch("lamp");
    setup.attach(&device, &two, Fingerprint::NONE).await;
    one.lose(&device);
    let replied = setup.route().call(call("lamp", SECOND)).await.unwrap();
    assert_eq!(replied.status, Code::OK);
    assert!(matches!(one.next().await, Got::Call { epoch, .. } if epoch == first));
    assert!(matches!(one.next().await, Got::Call { epoch, .. } if epoch == first));
    let second = two.epoch("lamp");
    assert!(second > first);
    assert!(matches!(two.next().await, Got::Call { epoch, .. } if epoch == second));
}

#[tokio::test]
async fn a_server_that_denies_the_device_twice_makes_it_offline() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    let device = setup.attached("lamp", &node).await;
    node.lose(&device);
    let failed = setup.route().call(call("lamp", 5 * SECOND)).await.unwrap_err();
    assert_eq!(failed.failure, Failure::Offline);
    assert!(failed.detail.contains("denies"), "{}", failed.detail);
}

#[tokio::test]
async fn a_lost_link_leaves_its_calls_disconnected_and_never_sends_them_again() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    node.behave(Manner::Mute);
    let route = setup.route().clone();
    let asked = tokio::spawn(async move { route.call(call("lamp", 60 * SECOND)).await });
    assert!(matches!(node.next().await, Got::Call { .. }));
    node.sender.close();
    let failed = asked.await.unwrap().unwrap_err();
    assert_eq!(failed.failure, Failure::Disconnected);
    assert!(failed.detail.contains("may have run"), "{}", failed.detail);
}

#[tokio::test]
async fn an_unanswered_call_whose_device_moved_is_ended_by_a_kick_not_sent_twice() {
    let setup = Setup::start().await;
    let mut one = Node::start(&setup, "im-1").await;
    let mut two = Node::start(&setup, "im-2").await;
    let device = setup.attached("lamp", &one).await;
    one.behave(Manner::Mute);
    let route = setup.route().clone();
    let asked = tokio::spawn(async move { route.call(call("lamp", 2 * SECOND)).await });
    assert!(matches!(one.next().await, Got::Call { .. }));
    let first = one.epoch("lamp");
    setup.attach(&device, &two, Fingerprint::NONE).await;
    let began = Instant::now();
    let failed = asked.await.unwrap().unwrap_err();
    assert_eq!(failed.failure, Failure::Disconnected);
    assert!(began.elapsed() < Duration::from_millis(1500), "before the deadline");
    assert!(matches!(one.next().await, Got::Kick { epoch, revoked: false, .. } if epoch == first));
    assert!(two.got.try_recv().is_err(), "the call went nowhere else");
}

#[tokio::test]
async fn replies_of_another_server_are_not_believed() {
    let setup = Setup::start().await;
    let mut one = Node::start(&setup, "im-1").await;
    let two = Node::start(&setup, "im-2").await;
    setup.attached("lamp", &one).await;
    one.behave(Manner::Mute);
    let route = setup.route().clone();
    let asked = tokio::spawn(async move { route.call(call("lamp", SECOND)).await });
    let Got::Call { request, .. } = one.next().await else { panic!() };
    two.say(&ToRoute::Replied { request, status: Code::OK, payload: b"forged" });
    assert_eq!(asked.await.unwrap().unwrap_err().failure, Failure::Deadline);
}

#[tokio::test]
async fn failures_on_the_way_have_their_names() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    let mut busy = call("lamp", SECOND);
    busy.payload = b"busy".as_slice().into();
    let failed = setup.route().call(busy).await.unwrap_err();
    assert_eq!(failed.failure, Failure::Busy);
    assert!(failed.retry_after.is_some());
    assert!(matches!(node.next().await, Got::Call { .. }));

    node.behave(Manner::Mute);
    for (status, failure) in
        [(Code::UNKNOWN_PATH, Failure::UnknownPath), (Code::BUSY, Failure::Busy), (Code::DEADLINE, Failure::Deadline)]
    {
        let route = setup.route().clone();
        let asked = tokio::spawn(async move { route.call(call("lamp", SECOND)).await });
        let Got::Call { request, .. } = node.next().await else { panic!() };
        node.say(&ToRoute::Replied { request, status, payload: b"" });
        assert_eq!(asked.await.unwrap().unwrap_err().failure, failure);
    }
    let route = setup.route().clone();
    let asked = tokio::spawn(async move { route.call(call("lamp", SECOND)).await });
    let Got::Call { request, .. } = node.next().await else { panic!() };
    node.say(&ToRoute::Replied { request, status: Code(300), payload: b"why" });
    let replied = asked.await.unwrap().unwrap();
    assert_eq!((replied.status, &replied.payload[..]), (Code(300), &b"why"[..]));
}

//! Stored messages: append, hint, acknowledgement, honest answers.

use std::time::Duration;

use imlink_protocol::link::backend::{Failure, State, Wait};
use imlink_protocol::link::node::Load;
use imlink_protocol::message::Code;
use imlink_protocol::{Fingerprint, MessageId};
use imlink_route::Limits;

use crate::support::{Got, Manner, Node, Setup, send, until};

#[tokio::test]
async fn a_message_is_stored_hinted_acknowledged_and_known_as_acked() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    let sent = setup.route().send(send("lamp", Wait::Acked)).await.unwrap();
    assert_eq!(sent.state, State::Acked);
    let Got::Deliver { device, id, report, payload } = node.next().await else { panic!() };
    assert_eq!((device.as_str(), id, report, &payload[..]), ("-/lamp", sent.id, true, &b"on"[..]));
    assert_eq!(setup.route().state("-", "lamp", sent.id).await.unwrap(), State::Acked);
}

#[tokio::test]
async fn a_message_for_a_device_that_is_away_waits_and_is_answered_when_it_comes() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    let device = setup.device("lamp").await;
    let route = setup.route().clone();
    let waiting = tokio::spawn(async move { route.send(send("lamp", Wait::Acked)).await });
    until(async || setup.store.identity(&device).await.unwrap().unwrap().mailbox.waiting == 1).await;
    let session = setup.attach(&device, &node, Fingerprint::NONE).await;
    let ack = imlink_store::mailbox::Acknowledge {
        device,
        epoch: session.epoch,
        upto: session.entries[0].id,
        rejected: Vec::new(),
    };
    setup.store.acknowledge(&[ack]).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().state, State::Acked);
}

#[tokio::test]
async fn an_ack_of_another_epoch_is_not_believed_but_makes_the_route_ask_the_store() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    node.behave(Manner::WrongEpoch);
    let began = std::time::Instant::now();
    let sent = setup.route().send(send("lamp", Wait::Acked)).await.unwrap();
    assert_eq!(sent.state, State::Acked);
    assert!(began.elapsed() < Duration::from_millis(900), "it did not wait for the usual look-up");
}

#[tokio::test]
async fn a_message_that_the_device_refuses_is_rejected_with_its_code() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    node.behave(Manner::Refuses);
    let sent = setup.route().send(send("lamp", Wait::Acked)).await.unwrap();
    assert_eq!(sent.state, State::Rejected { code: Code(300) });
}

#[tokio::test]
async fn at_the_deadline_the_answer_is_the_state_as_it_is() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    setup.device("away").await;
    node.behave(Manner::Mute);
    for (device, state) in [("lamp", State::Sent), ("away", State::Waiting)] {
        let mut request = send(device, Wait::Acked);
        request.timeout = Some(Duration::from_millis(200));
        let began = std::time::Instant::now();
        let sent = setup.route().send(request).await.unwrap();
        assert_eq!(sent.state, state);
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(200) && took < Duration::from_millis(600), "{took:?}");
    }
}

#[tokio::test]
async fn a_backend_that_hangs_up_does_not_take_the_message_with_it() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    let route = setup.route().clone();
    node.behave(Manner::Mute);
    let request = tokio::spawn(async move { route.send(send("lamp", Wait::Acked)).await });
    let Got::Deliver { id, .. } = node.next().await else { panic!() };
    request.abort();
    assert_eq!(setup.route().state("-", "lamp", id).await.unwrap(), State::Sent);
}

#[tokio::test]
async fn wrong_requests_are_refused_with_what_is_allowed() {
    let limits = Limits { mailbox_max: 1, payload_len_max: 5000, ..Limits::default() };
    let setup = Setup::with(limits).await;
    let node = Node::start(&setup, "im-1").await;
    let stored = |device: &str| send(device, Wait::Stored);
    let refused = async |request| setup.route().send(request).await.unwrap_err();

    let failed = refused(stored("nobody")).await;
    assert_eq!(failed.failure, Failure::UnknownDevice);
    let failed = refused(stored("no/body")).await;
    assert_eq!(failed.failure, Failure::BadRequest);
    assert!(failed.detail.contains("allowed"), "{}", failed.detail);

    setup.device("full").await;
    setup.route().send(stored("full")).await.unwrap();
    let failed = refused(stored("full")).await;
    assert_eq!(failed.failure, Failure::MailboxFull);
    assert!(failed.retry_after.is_some() && failed.detail.contains("at most 1"), "{}", failed.detail);

    setup.attached("small", &node).await;
    let mut large = stored("small");
    large.payload = vec![0; 4500].into();
    let failed = refused(large).await;
    assert_eq!(failed.failure, Failure::TooLarge);
    assert!(failed.detail.contains("4050"), "{}", failed.detail);
    let mut larger = stored("small");
    larger.payload = vec![0; 5001].into();
    assert_eq!(refused(larger).await.failure, Failure::TooLarge);

    let mut bad_path = stored("small");
    bad_path.path = "led set".into();
    assert_eq!(refused(bad_path).await.failure, Failure::BadRequest);
    let mut for_ever = stored("small");
    for_ever.timeout = Some(Duration::from_secs(100_000));
    assert_eq!(refused(for_ever).await.failure, Failure::BadRequest);
}

#[tokio::test]
async fn an_idempotency_key_gives_the_first_message_again_and_conflicts_over_another_body() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    let keyed = |payload: &'static [u8], wait| {
        let mut request = send("lamp", wait);
        request.idempotency_key = Some("order-17".into());
        request.payload = payload.into();
        request
    };
    let first = setup.route().send(keyed(b"on", Wait::Stored)).await.unwrap();
    until(async || setup.route().state("-", "lamp", first.id).await.unwrap() == State::Acked).await;
    let again = setup.route().send(keyed(b"on", Wait::Acked)).await.unwrap();
    assert_eq!((again.id, again.state), (first.id, State::Acked));
    let failed = setup.route().send(keyed(b"off", Wait::Stored)).await.unwrap_err();
    assert_eq!(failed.failure, Failure::Conflict);
    let other = setup.route().send(send("lamp", Wait::Stored)).await.unwrap();
    assert_eq!(other.id.sequence, first.id.sequence + 1, "the repeated one was not stored twice");
}

#[tokio::test]
async fn only_a_message_that_waits_can_be_taken_back() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    setup.device("away").await;
    let sent = setup.route().send(send("away", Wait::Stored)).await.unwrap();
    assert_eq!(setup.route().cancel("-", "away", sent.id).await.unwrap(), State::Cancelled);
    assert_eq!(setup.route().state("-", "away", sent.id).await.unwrap(), State::Cancelled);

    setup.attached("lamp", &node).await;
    let sent = setup.route().send(send("lamp", Wait::Acked)).await.unwrap();
    let failed = setup.route().cancel("-", "lamp", sent.id).await.unwrap_err();
    assert_eq!(failed.failure, Failure::Conflict);
    assert!(failed.detail.contains("acked"), "{}", failed.detail);
    let unknown = setup.route().state("-", "lamp", MessageId::new(5, 5)).await.unwrap();
    assert_eq!(unknown, State::Unknown);
}

#[tokio::test]
async fn the_interface_of_a_device_gives_its_paths_their_keys() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    let device = setup.device("lamp").await;
    let interface = crate::support::interface(&[("led/set", true), ("led/get", false)]);
    let fingerprint = Fingerprint([7; 16]);
    setup.store.put_interface("-", fingerprint, &interface).await.unwrap();
    setup.attach(&device, &node, fingerprint).await;
    let sent = setup.route().send(send("lamp", Wait::Acked)).await.unwrap();
    assert_eq!(sent.state, State::Acked);
    let mut wrong = send("lamp", Wait::Stored);
    wrong.path = "led/get".into();
    let failed = setup.route().send(wrong).await.unwrap_err();
    assert_eq!(failed.failure, Failure::UnknownPath);
    assert!(failed.detail.contains("its paths for messages: led/set"), "{}", failed.detail);
    let device = setup.route().identity("-", "lamp").await.unwrap();
    assert!(device.is_online);
    assert_eq!(device.paths.unwrap().len(), 2);
}

#[tokio::test]
async fn a_new_interface_is_noticed_by_the_next_message() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    let device = setup.device("lamp").await;
    let (old, new) = (Fingerprint([1; 16]), Fingerprint([2; 16]));
    let interface = crate::support::interface(&[("led/set", true)]);
    setup.store.put_interface("-", old, &interface).await.unwrap();
    let interface = crate::support::interface(&[("led/put", true)]);
    setup.store.put_interface("-", new, &interface).await.unwrap();
    setup.attach(&device, &node, old).await;
    setup.route().send(send("lamp", Wait::Acked)).await.unwrap();
    setup.attach(&device, &node, new).await;
    let failed = setup.route().send(send("lamp", Wait::Stored)).await.unwrap_err();
    assert_eq!(failed.failure, Failure::UnknownPath);
    let mut right = send("lamp", Wait::Acked);
    right.path = "led/put".into();
    assert_eq!(setup.route().send(right).await.unwrap().state, State::Acked);
}

#[tokio::test]
async fn past_the_limit_of_requests_the_newest_is_refused() {
    let setup = Setup::with(Limits { requests_max: 3, ..Limits::default() }).await;
    setup.device("away").await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let route = setup.route().clone();
        held.push(tokio::spawn(async move { route.send(send("away", Wait::Acked)).await }));
    }
    let device = imlink_store::DeviceKey::single("away").unwrap();
    until(async || setup.store.identity(&device).await.unwrap().unwrap().mailbox.waiting == 3).await;
    let failed = setup.route().send(send("away", Wait::Stored)).await.unwrap_err();
    assert_eq!(failed.failure, Failure::Overloaded);
    held.into_iter().for_each(|one| one.abort());
    until(async || setup.route().send(send("away", Wait::Stored)).await.is_ok()).await;
}

#[tokio::test]
async fn a_gateways_server_is_served_over_a_link_within_the_process() {
    let setup = Setup::start().await;
    let (here, there) = imlink_link::pair(imlink_link::OUTBOX_LEN_DEFAULT);
    setup.route().accept_link("im-1", here);
    let node = Node::over(there, setup.store.clone(), "im-1", true).await;
    node.load(Load::default());
    setup.attached("lamp", &node).await;
    let sent = setup.route().send(send("lamp", Wait::Acked)).await.unwrap();
    assert_eq!(sent.state, State::Acked);
}

//! The binary backend link, through its client.

use std::collections::HashSet;
use std::time::Duration;

use imlink_backend_client::{Call, Client, ConnectError, Error, Message, Outcome, Pipeline};
use imlink_link::{OUTBOX_LEN_DEFAULT, over_tcp};
use imlink_protocol::link::backend::{Failure, FromBackend, State};
use imlink_route::Limits;
use tokio::net::TcpStream;

use crate::support::{Manner, Node, Setup, TOKEN, until};

#[tokio::test]
async fn sends_calls_states_and_cancels_are_answered_over_the_link() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    setup.device("away").await;
    let client = setup.client().await;

    let sent = client.send(&Message::new("lamp", "led/set", b"on").acked()).await.unwrap();
    assert_eq!(sent.state, State::Acked);
    assert_eq!(client.state("lamp", sent.id).await.unwrap(), State::Acked);
    let replied = client.call(&Call::new("lamp", "led/get", b"?")).await.unwrap();
    assert_eq!(&replied.payload[..], b"?");
    let waiting = client.send(&Message::new("away", "led/set", b"on")).await.unwrap();
    assert_eq!(client.cancel("away", waiting.id).await.unwrap(), State::Cancelled);

    let error = client.call(&Call::new("away", "led/get", b"?")).await.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::Offline));
    let error = client.send(&Message::new("nobody", "led/set", b"on")).await.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::UnknownDevice));
    assert!(!error.may_be_done());
}

#[tokio::test]
async fn many_requests_in_flight_are_each_answered_once_and_stored_in_order() {
    let setup = Setup::start().await;
    let mut node = Node::start(&setup, "im-1").await;
    for device in 0..10 {
        setup.attached(&format!("d{device}"), &node).await;
    }
    let address = setup.running.backend.unwrap().to_string();
    let mut pipeline = Pipeline::connect(&address, TOKEN, "bulk").await.unwrap();
    let mut done = Vec::new();
    for tag in 0..5000u64 {
        let (device, payload) = (format!("d{}", tag % 10), tag.to_le_bytes());
        pipeline.send(tag, &Message::new(&device, "led/set", &payload).acked()).unwrap();
        if tag % 100 == 99 {
            pipeline.receive(&mut done).await.unwrap();
        }
    }
    while pipeline.in_flight() > 0 {
        pipeline.receive(&mut done).await.unwrap();
    }
    assert_eq!(done.iter().map(|one| one.tag).collect::<HashSet<_>>().len(), 5000);
    assert_eq!(done.len(), 5000);
    for one in &done {
        assert!(matches!(&one.outcome, Ok(Outcome::Sent(sent)) if sent.state == State::Acked), "{one:?}");
    }
    let mut last = [None; 10];
    for _ in 0..5000 {
        let crate::support::Got::Deliver { payload, .. } = node.next().await else { panic!() };
        let tag = u64::from_le_bytes(payload.try_into().unwrap());
        let last = &mut last[(tag % 10) as usize];
        assert!(*last < Some(tag), "{tag} after {last:?}");
        *last = Some(tag);
    }
}

#[tokio::test]
async fn a_wrong_token_or_a_wrong_first_frame_gets_no_link() {
    let setup = Setup::start().await;
    let address = setup.running.backend.unwrap().to_string();
    let refused = Client::connect(&address, "another token", "tests").await.err().unwrap();
    let ConnectError::Refused { error, .. } = refused else { panic!("{refused}") };
    assert_eq!(error.failure(), Some(Failure::Unauthorized));
    let refused = Client::connect(&address, TOKEN, "a b").await.err().unwrap();
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");

    let stream = TcpStream::connect(&address).await.unwrap();
    let mut link = over_tcp(stream, OUTBOX_LEN_DEFAULT).unwrap();
    link.sender.send(&FromBackend::Ping).unwrap();
    while let Ok(Some(_)) = link.receiver.receive().await {}
}

#[tokio::test]
async fn past_the_requests_of_a_link_the_next_is_refused_as_overloaded() {
    let setup = Setup::with(Limits { link_requests_max: 4, ..Limits::default() }).await;
    setup.device("away").await;
    let address = setup.running.backend.unwrap().to_string();
    let mut pipeline = Pipeline::connect(&address, TOKEN, "bulk").await.unwrap();
    let message = Message::new("away", "led/set", b"on").acked().timeout(Duration::from_millis(300));
    for tag in 0..4 {
        pipeline.send(tag, &message).unwrap();
    }
    assert_eq!(pipeline.send(4, &message), Err(Error::Full { max: 4 }));
    let mut done = Vec::new();
    while pipeline.in_flight() > 0 {
        pipeline.receive(&mut done).await.unwrap();
    }
    for one in done {
        assert!(matches!(one.outcome, Ok(Outcome::Sent(sent)) if sent.state == State::Waiting));
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_makes_room() {
    let setup = Setup::with(Limits { requests_max: 1, ..Limits::default() }).await;
    setup.device("away").await;
    let client = setup.client().await;
    let waiting = Message::new("away", "led/set", b"on").acked().timeout(Duration::from_secs(60));
    let dropped = tokio::time::timeout(Duration::from_millis(100), client.send(&waiting)).await;
    assert!(dropped.is_err());
    until(async || client.send(&Message::new("away", "led/set", b"on")).await.is_ok()).await;
}

#[tokio::test]
async fn requests_on_a_lost_link_may_be_done_and_the_client_links_again() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    setup.attached("lamp", &node).await;
    node.behave(Manner::Mute);
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, route) = (proxy.local_addr().unwrap().to_string(), setup.running.backend.unwrap());
    let (cut, mut cut_now) = tokio::sync::mpsc::channel::<()>(1);
    tokio::spawn(async move {
        loop {
            let (mut there, _) = proxy.accept().await.unwrap();
            let mut here = TcpStream::connect(route).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut there, &mut here) => {}
                _ = cut_now.recv() => {}
            }
        }
    });
    let client = Client::connect(&at, TOKEN, "tests").await.unwrap();
    let unkeyed = client.clone();
    let lost = tokio::spawn(async move { unkeyed.send(&Message::new("lamp", "led/set", b"on").acked()).await });
    let keyed = client.clone();
    let kept =
        tokio::spawn(
            async move { keyed.send(&Message::new("lamp", "led/set", b"2").acked().idempotency_key("two")).await },
        );
    let device = imlink_store::DeviceKey::single("lamp").unwrap();
    until(async || setup.store.identity(&device).await.unwrap().unwrap().mailbox.waiting == 2).await;
    cut.send(()).await.unwrap();
    let error = lost.await.unwrap().unwrap_err();
    assert!(error == Error::Lost && error.may_be_done());
    let identity = setup.store.identity(&device).await.unwrap().unwrap();
    let last = imlink_protocol::MessageId::new(identity.mailbox.generation, identity.mailbox.last);
    let ack = imlink_store::mailbox::Acknowledge {
        device,
        epoch: identity.session.unwrap().epoch,
        upto: last,
        rejected: Vec::new(),
    };
    setup.store.acknowledge(&[ack]).await.unwrap();
    let kept = kept.await.unwrap().unwrap();
    assert_eq!(kept.state, State::Acked);
    assert!(kept.id <= last, "it was not stored again");
}

//! An IM-server with real sockets: sessions, messages, calls, events and their ends.

#[allow(dead_code, unreachable_pub, reason = "each test program uses its own part of it")]
mod support;

use imlink_protocol::id::{MessageId, TokenId};
use imlink_protocol::link::node::{CallDevice, CallFailure, ToRoute, ToServer};
use imlink_protocol::message::{Code, FromDevice, ToDevice};
use imlink_server::Limits;
use imlink_store::mailbox::State;
use imlink_store::token::Token;
use support::{KEY, Peer, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_the_device_and_its_acknowledgement_the_route() {
    let mut rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let (mut peer, epoch) = Peer::attach(rig.address, "lamp", 9, 1).await;
    assert!(epoch > 0);
    for sequence in 1..=20 {
        let stored = rig.send(&lamp, b"on").await;
        assert_eq!(peer.message().await, (sequence, false, b"on".to_vec()));
        peer.write(&FromDevice::Ack { sequence }).await;
        assert_eq!(rig.acked().await, stored.id);
    }
    assert_eq!(rig.store.identity(&lamp).await.unwrap().unwrap().mailbox.waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_stored_without_a_hint_come_with_the_next_heartbeat() {
    let rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let (mut peer, _) = Peer::attach(rig.address, "lamp", 9, 1).await;
    rig.append(&lamp, b"lost hint").await;
    peer.write(&FromDevice::Ping { next_ms: 300_000 }).await;
    assert!(peer.read(|message| matches!(message, ToDevice::Pong { .. })).await);
    assert_eq!(peer.message().await.2, b"lost hint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_larger_than_the_window_arrives_in_order_and_once() {
    let mut rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let (mut peer, _) = Peer::attach(rig.address, "lamp", 9, 1).await;
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(rig.send(&lamp, b"x").await.id);
    }
    for sequence in 1..=100 {
        assert_eq!(peer.message().await.0, sequence);
        peer.write(&FromDevice::Ack { sequence }).await;
    }
    let mut acked: Vec<MessageId> = Vec::new();
    while acked.len() < 100 {
        acked.push(rig.acked().await);
    }
    assert_eq!(acked, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn unacknowledged_messages_come_again_marked_on_the_next_connection() {
    let rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let (mut first, _) = Peer::attach(rig.address, "lamp", 9, 1).await;
    rig.send(&lamp, b"x").await;
    assert!(!first.message().await.1);
    let (mut second, _) = Peer::attach(rig.address, "lamp", 9, 2).await;
    assert_eq!(second.message().await, (1, true, b"x".to_vec()));
    assert_eq!(first.last_words().await, ["GoAway { reason: Replaced, reconnect_after_s: 0 }"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_by_number_in_any_order() {
    let mut rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let (mut peer, epoch) = Peer::attach(rig.address, "lamp", 9, 1).await;
    for request in [100, 101] {
        let call =
            CallDevice { request, device: lamp.as_str(), epoch, key: KEY, remaining_ms: 5000, payload: b"state?" };
        rig.route.sender.send(&ToServer::CallDevice(call)).unwrap();
    }
    let mut asked = Vec::new();
    for _ in 0..2 {
        asked.push(
            peer.read(|message| match message {
                ToDevice::Call { request, .. } => *request,
                other => panic!("{other:?}"),
            })
            .await,
        );
    }
    for request in asked.iter().rev() {
        peer.write(&FromDevice::Reply { request: *request, status: Code::OK, payload: b"on" }).await;
    }
    let reply = |message: &ToRoute<'_>| match message {
        ToRoute::Replied { request, .. } => Some(*request),
        _ => None,
    };
    assert_eq!((rig.told(reply).await, rig.told(reply).await), (101, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_fails_as_disconnected_when_the_device_goes() {
    let mut rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let (mut peer, epoch) = Peer::attach(rig.address, "lamp", 9, 1).await;
    let call = CallDevice { request: 5, device: lamp.as_str(), epoch, key: KEY, remaining_ms: 5000, payload: b"" };
    rig.route.sender.send(&ToServer::CallDevice(call)).unwrap();
    peer.read(|_| ()).await;
    drop(peer);
    let failed = |message: &ToRoute<'_>| match message {
        ToRoute::CallFailed { request, why } => Some((*request, *why)),
        _ => None,
    };
    assert_eq!(rig.told(failed).await, (5, CallFailure::Disconnected));
    let call = CallDevice { request: 6, device: lamp.as_str(), epoch, key: KEY, remaining_ms: 5000, payload: b"" };
    rig.route.sender.send(&ToServer::CallDevice(call)).unwrap();
    let denied = |message: &ToRoute<'_>| matches!(message, ToRoute::NotHere { request: 6, epoch: 0, .. }).then_some(());
    rig.told(denied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_acknowledged_once_they_are_stored() {
    let rig = Rig::new(Limits::default()).await;
    rig.provision("lamp").await;
    let (mut peer, _) = Peer::attach(rig.address, "lamp", 9, 1).await;
    for sequence in 1..=3 {
        peer.write(&FromDevice::Event { sequence, key: KEY, payload: b"21.5" }).await;
    }
    let mut stored = 0;
    while stored < 3 {
        stored = peer
            .read(|message| match message {
                ToDevice::EventAck { sequence } => *sequence,
                other => panic!("{other:?}"),
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kick_closes_the_session_up_to_its_epoch_and_no_newer_one() {
    let mut rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let (mut peer, epoch) = Peer::attach(rig.address, "lamp", 9, 1).await;
    let kicked = |message: &ToRoute<'_>| match message {
        ToRoute::Kicked { request, closed } => Some((*request, *closed)),
        _ => None,
    };
    for (request, upto, closed) in [(1, epoch - 1, false), (2, epoch, true), (3, epoch, false)] {
        let kick = ToServer::Kick { request, device: lamp.as_str(), epoch: upto, revoked: true };
        rig.route.sender.send(&kick).unwrap();
        assert_eq!(rig.told(kicked).await, (request, closed));
    }
    assert_eq!(peer.last_words().await, ["GoAway { reason: Revoked, reconnect_after_s: 0 }"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_leaves_is_detached() {
    let rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let (mut peer, _) = Peer::attach(rig.address, "lamp", 9, 1).await;
    peer.write(&FromDevice::Bye).await;
    let gone = async {
        while rig.store.identity(&lamp).await.unwrap().unwrap().session.is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), gone).await.expect("still attached");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_sends_every_device_away_and_ends() {
    let rig = Rig::new(Limits { drain: std::time::Duration::from_secs(2), ..Limits::default() }).await;
    rig.provision("lamp").await;
    let (mut peer, _) = Peer::attach(rig.address, "lamp", 9, 1).await;
    rig.shutdown.cancel();
    assert_eq!(peer.last_words().await, ["GoAway { reason: Draining, reconnect_after_s: 0 }"]);
    drop(peer);
    rig.stopped.await.unwrap();
}

/// Puts an expired token in the store.
async fn add_token(rig: &Rig, number: u8) -> TokenId {
    let id = TokenId([number; 8]);
    let token = Token {
        id,
        secret_hash: [0; 32],
        tenant: "-".into(),
        name: String::new(),
        scopes: "send".into(),
        rate: 0,
        created_ms: 1,
        expires_ms: 2,
        revoked_ms: 0,
    };
    rig.store.add_token(&token).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_revoked_token_sent_is_rejected_in_its_turn_and_what_an_expired_one_sent_arrives() {
    let rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let (revoked, expired) = (add_token(&rig, 1).await, add_token(&rig, 2).await);
    let mut ids = Vec::new();
    for (payload, token) in
        [(&b"1"[..], revoked), (b"2", revoked), (b"3", expired), (b"4", revoked), (b"5", TokenId::NONE)]
    {
        ids.push(rig.append_of(&lamp, payload, token).await.id);
    }
    rig.store.revoke_token("-", revoked).await.unwrap();
    rig.revocation_is_known(revoked).await;
    let (mut peer, _) = Peer::attach(rig.address, "lamp", 9, 1).await;
    assert_eq!(peer.message().await, (3, false, b"3".to_vec()));
    assert_eq!(peer.message().await, (5, false, b"5".to_vec()));
    for place in [0, 1, 3] {
        let state = rig.store.message_state(&lamp, ids[place]).await.unwrap().unwrap();
        assert_eq!(state, State::Rejected { code: Code::FORBIDDEN }, "message {place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_of_a_revoked_token_is_rejected_for_an_attached_device_and_the_next_one_arrives() {
    let mut rig = Rig::new(Limits::default()).await;
    let lamp = rig.provision("lamp").await;
    let token = add_token(&rig, 1).await;
    let (mut peer, _) = Peer::attach(rig.address, "lamp", 9, 1).await;
    let first = rig.append_of(&lamp, b"before", token).await;
    rig.hint_of(&lamp, &first, b"before", token);
    assert_eq!(peer.message().await.2, b"before");
    rig.store.revoke_token("-", token).await.unwrap();
    rig.revocation_is_known(token).await;
    let second = rig.append_of(&lamp, b"after", token).await;
    rig.hint_of(&lamp, &second, b"after", token);
    let third = rig.send(&lamp, b"of another").await;
    // What the device had in flight stays its own.
    peer.write(&FromDevice::Ack { sequence: 1 }).await;
    assert_eq!(peer.message().await, (3, false, b"of another".to_vec()));
    peer.write(&FromDevice::Ack { sequence: 3 }).await;
    assert_eq!(rig.acked().await, first.id);
    assert_eq!(rig.acked().await, third.id);
    let state = rig.store.message_state(&lamp, second.id).await.unwrap().unwrap();
    assert_eq!(state, State::Rejected { code: Code::FORBIDDEN });
}

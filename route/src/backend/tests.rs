//! Who may ask what over a backend link: each kind of message, without its scope and from another tenant.

use std::net::SocketAddr;
use std::time::Duration;

use imlink_link::{Batch, Link, OUTBOX_LEN_DEFAULT, over_tcp};
use imlink_protocol::frame;
use imlink_protocol::id::{Fingerprint, MessageId, TokenId};
use imlink_protocol::key::Key;
use imlink_protocol::link::backend::{Failure, FromBackend, Send, ToBackend, Wait};
use imlink_store::event::EventBatch;
use imlink_store::session::Proof;
use imlink_store::{DeviceKey, Store};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::need;
use crate::access::{Caller, Scopes, Verb};
use crate::administration::Wanted;
use crate::{Config, Running};

const CONFIGURED: &str = "token-of-the-tests-0123";

/// Place of a kind in [`samples`]; a new kind does not compile until it has one, and fails until it has a sample.
fn place(message: &FromBackend<'_>) -> usize {
    match message {
        FromBackend::Hello { .. } => 0,
        FromBackend::Send(_) => 1,
        FromBackend::Call { .. } => 2,
        FromBackend::State { .. } => 3,
        FromBackend::Cancel { .. } => 4,
        FromBackend::Abandon { .. } => 5,
        FromBackend::Subscribe { .. } => 6,
        FromBackend::Credit { .. } => 7,
        FromBackend::Commit { .. } => 8,
        FromBackend::Ping => 9,
    }
}

const KINDS: usize = 10;

/// The verb that each kind is promised to need.
fn promised(message: &FromBackend<'_>) -> Option<Verb> {
    match message {
        FromBackend::Send(_) => Some(Verb::Send),
        FromBackend::Call { .. } => Some(Verb::Call),
        FromBackend::State { .. } => Some(Verb::State),
        FromBackend::Cancel { .. } => Some(Verb::Cancel),
        FromBackend::Subscribe { .. } | FromBackend::Credit { .. } | FromBackend::Commit { .. } => Some(Verb::Events),
        FromBackend::Hello { .. } | FromBackend::Abandon { .. } | FromBackend::Ping => None,
    }
}

fn samples(id: MessageId) -> Vec<FromBackend<'static>> {
    let send = Send {
        request: 11,
        device: "lamp-1",
        path: "led/set",
        ttl_s: 0,
        wait: Wait::Stored,
        timeout_ms: 1000,
        idempotency_key: "",
        payload: b"x",
    };
    vec![
        FromBackend::Hello { version: 1, token: CONFIGURED, name: "again", tenant: "" },
        FromBackend::Send(send),
        FromBackend::Send(Send { idempotency_key: "key", ..send }),
        FromBackend::Call { request: 12, device: "lamp-1", path: "led/get", timeout_ms: 1000, payload: b"x" },
        FromBackend::State { request: 13, device: "lamp-1", id },
        FromBackend::Cancel { request: 14, device: "lamp-1", id },
        FromBackend::Abandon { request: 15 },
        FromBackend::Subscribe { request: 16, group: "g", position: "", credit: 10 },
        FromBackend::Credit { request: 17, events: 10 },
        FromBackend::Commit { request: 18, position: "" },
        FromBackend::Ping,
    ]
}

/// A route whose tenant `-` has a device with a waiting message.
struct World {
    running: Running,
    store: Store,
    at: SocketAddr,
    id: MessageId,
    _shutdown: tokio_util::sync::DropGuard,
}

/// What a link was answered, in words.
type Told = Vec<(u64, Result<String, Failure>)>;

impl World {
    async fn new() -> Self {
        let store = Store::memory(imlink_store::Config::default());
        let config = Config {
            http_listen: None,
            backend_listen: Some(([127, 0, 0, 1], 0).into()),
            node_listen: None,
            device_listen: None,
            token: CONFIGURED.into(),
            cluster_secret: "secret-of-the-tests-0123".into(),
            ..Config::default()
        };
        let shutdown = CancellationToken::new();
        let running = crate::start(config, store.clone(), Registry::default(), shutdown.clone()).await.unwrap();
        let lamp = DeviceKey::single("lamp-1").unwrap();
        store.provision(&lamp, Proof::Plain).await.unwrap();
        let send = crate::request::Send {
            tenant: "-".into(),
            device: "lamp-1".into(),
            path: "led/set".into(),
            ttl_s: None,
            wait: Wait::Stored,
            timeout: None,
            idempotency_key: None,
            token: TokenId::NONE,
            payload: bytes::Bytes::from_static(b"on"),
        };
        let id = running.route.send(send).await.unwrap().id;
        let at = running.backend.unwrap();
        Self { running, store, at, id, _shutdown: shutdown.drop_guard() }
    }

    async fn token(&self, tenant: &str, scopes: &str) -> (TokenId, String) {
        let wanted = Wanted { name: String::new(), scopes: scopes.parse().unwrap(), rate: 0, lifetime: None };
        let (token, text) = self.running.route.add_token(&Caller::of_configuration(tenant), wanted).await.unwrap();
        (token.id, text)
    }

    /// A link that was welcomed, or why it was not.
    async fn link(&self, token: &str, tenant: &str) -> Result<Link, Failure> {
        let stream = tokio::net::TcpStream::connect(self.at).await.unwrap();
        let mut link = over_tcp(stream, OUTBOX_LEN_DEFAULT).unwrap();
        link.sender.send(&FromBackend::Hello { version: 1, token, name: "tests", tenant }).unwrap();
        let batch = link.receiver.receive().await.unwrap().unwrap();
        match frame::decode(batch.frames().next().unwrap().unwrap()).unwrap() {
            ToBackend::Welcome { .. } => Ok(link),
            ToBackend::Failed { failure, .. } => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    /// Sends `message` and takes what comes until `Pong` answers a `Ping` behind it, or for a moment longer if
    /// nothing came.
    async fn tell(link: &mut Link, message: &FromBackend<'_>) -> Told {
        link.sender.send(message).unwrap();
        let mut told = Told::new();
        let mut is_pinged = false;
        loop {
            match tokio::time::timeout(Duration::from_millis(100), link.receiver.receive()).await {
                Ok(Ok(Some(batch))) => {
                    if read(&batch, &mut told) {
                        return told;
                    }
                }
                Ok(_) => return told,
                Err(_) if is_pinged => return told,
                Err(_) => {
                    is_pinged = true;
                    link.sender.send(&FromBackend::Ping).unwrap();
                }
            }
        }
    }

    async fn state(&self) -> String {
        let lamp = DeviceKey::single("lamp-1").unwrap();
        format!(
            "{:?} {:?} {:?}",
            self.store.identity(&lamp).await.unwrap(),
            self.store.message_state(&lamp, self.id).await.unwrap(),
            self.store.committed_events("-", "g").await.unwrap(),
        )
    }
}

/// Whether a `Pong` was among it.
fn read(batch: &Batch, told: &mut Told) -> bool {
    let mut is_over = false;
    for body in batch.frames() {
        match frame::decode::<ToBackend<'_>>(body.unwrap()).unwrap() {
            ToBackend::Failed { request, failure, .. } => told.push((request, Err(failure))),
            ToBackend::Pong => is_over = true,
            ToBackend::Message { request, state, .. } => told.push((request, Ok(format!("{state:?}")))),
            ToBackend::Event(event) => told.push((event.request, Ok(event.device.into()))),
            other => told.push((0, Ok(format!("{other:?}")))),
        }
    }
    is_over
}

fn all_but(verb: Verb) -> String {
    let others = Verb::ALL.iter().filter(|other| **other != verb && !other.is_of_cluster());
    others.map(|verb| verb.name()).collect::<Vec<_>>().join(",")
}

#[test]
fn every_kind_of_message_has_a_sample() {
    let places: Vec<usize> = samples(MessageId::new(1, 1)).iter().map(place).collect();
    for kind in 0..KINDS {
        assert!(places.contains(&kind), "kind {kind} has no sample");
    }
    // A kind beyond the known ones is malformed, so the list is whole.
    assert!(frame::decode::<FromBackend<'_>>(&[KINDS as u8; 64]).is_err());
}

#[tokio::test]
async fn without_its_scope_every_message_is_refused_under_its_number_and_nothing_happens() {
    let world = World::new().await;
    let before = world.state().await;
    let mut checked = 0;
    for sample in samples(world.id) {
        let Some(verb) = promised(&sample) else { continue };
        let is_of_device = verb != Verb::Events;
        let mut lacking = vec![all_but(verb)];
        if is_of_device {
            lacking.push(format!("{0},{1}:lamp,{1}:lamp-10*", all_but(verb), verb.name()));
        }
        for scopes in lacking {
            let (_, token) = world.token("-", &scopes).await;
            let mut link = world.link(&token, "").await.unwrap();
            let told = World::tell(&mut link, &sample).await;
            assert_eq!(told, [(need::number(&sample), Err(Failure::Forbidden))], "{sample:?} with {scopes}");
            assert_eq!(world.state().await, before, "{sample:?} had an effect");
            checked += 1;
        }
    }
    assert!(checked >= 13, "{checked}");
}

#[tokio::test]
async fn from_another_tenant_no_message_sees_or_changes_anything_here() {
    let world = World::new().await;
    let before = world.state().await;
    let (_, token) = world.token("acme", &all_but(Verb::Servers)).await;
    for sample in samples(world.id) {
        let mut link = world.link(&token, "").await.unwrap();
        let told = World::tell(&mut link, &sample).await;
        let number = need::number(&sample);
        let expected: Told = match sample {
            FromBackend::Send(_)
            | FromBackend::Call { .. }
            | FromBackend::State { .. }
            | FromBackend::Cancel { .. } => {
                vec![(number, Err(Failure::UnknownDevice))]
            }
            FromBackend::Hello { .. } => vec![(0, Err(Failure::BadRequest))],
            FromBackend::Abandon { .. }
            | FromBackend::Subscribe { .. }
            | FromBackend::Credit { .. }
            | FromBackend::Commit { .. }
            | FromBackend::Ping => vec![],
        };
        assert_eq!(told, expected, "{sample:?}");
        if let FromBackend::Subscribe { .. } = sample {
            let device = DeviceKey::single("lamp-1").unwrap();
            let events = vec![(1, Key::raw("t"), vec![7].into())];
            let batch = EventBatch { device, queue: 9, fingerprint: Fingerprint::NONE, events };
            world.store.append_events(&[batch]).await.unwrap();
            assert_eq!(World::tell(&mut link, &FromBackend::Ping).await, [], "an event of another tenant was sent");
        }
        assert_eq!(world.state().await, before, "{sample:?} had an effect");
    }
    assert_eq!(world.link(&token, "-").await.err(), Some(Failure::Forbidden));
}

#[tokio::test]
async fn the_configured_token_acts_in_the_tenant_it_names() {
    let world = World::new().await;
    world.store.provision(&DeviceKey::new("acme", "door-1").unwrap(), Proof::Plain).await.unwrap();
    let state = FromBackend::State { request: 1, device: "door-1", id: MessageId::new(1, 1) };
    let mut there = world.link(CONFIGURED, "acme").await.unwrap();
    assert_eq!(World::tell(&mut there, &state).await, [(1, Ok("Unknown".into()))]);
    let mut here = world.link(CONFIGURED, "").await.unwrap();
    assert_eq!(World::tell(&mut here, &state).await, [(1, Err(Failure::UnknownDevice))]);
    assert_eq!(world.link(CONFIGURED, "a/b").await.err(), Some(Failure::BadRequest));
}

#[tokio::test]
async fn the_link_of_a_revoked_token_ends_within_two_seconds() {
    let world = World::new().await;
    let (id, token) = world.token("-", "events,state").await;
    let mut link = world.link(&token, "").await.unwrap();
    world.store.revoke_token("-", id).await.unwrap();
    let mut told = Told::new();
    let ended = async {
        while let Ok(Some(batch)) = link.receiver.receive().await {
            read(&batch, &mut told);
        }
    };
    tokio::time::timeout(Duration::from_secs(2), ended).await.expect("within 2 s");
    assert_eq!(told, [(0, Err(Failure::Unauthorized))]);
    assert_eq!(world.link(&token, "").await.err(), Some(Failure::Unauthorized));
}

#[tokio::test]
async fn past_its_rate_a_link_is_told_when_to_come_back() {
    let world = World::new().await;
    let scopes: Scopes = "state".parse().unwrap();
    let wanted = Wanted { name: String::new(), scopes, rate: 2, lifetime: None };
    let made = world.running.route.add_token(&Caller::of_configuration("-"), wanted).await;
    let mut link = world.link(&made.unwrap().1, "").await.unwrap();
    let state = FromBackend::State { request: 1, device: "lamp-1", id: world.id };
    for _ in 0..6 {
        link.sender.send(&state).unwrap();
    }
    let told = World::tell(&mut link, &FromBackend::Ping).await;
    let refused = told.iter().filter(|(_, answer)| *answer == Err(Failure::RateLimited)).count();
    assert_eq!((told.len(), refused), (6, 4), "{told:?}");
}

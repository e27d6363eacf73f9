//! A running route and what the tests need around it.

mod node;

use std::time::Duration;

use bytes::Bytes;
use imlink_backend_client::Client;
use imlink_link::seal::NodeKey;
use imlink_protocol::link::backend::Wait;
use imlink_protocol::{Fingerprint, KeyMark, MessageId};
use imlink_route::request::{Call, Send};
use imlink_route::{Config, Limits, Route, Running};
use imlink_store::session::{Attach, Attached, NewSession, Proof};
use imlink_store::{DeviceKey, Store};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

pub(crate) use node::{Got, Manner, Node, sealed};

pub(crate) const TOKEN: &str = "token-of-the-tests";
pub(crate) const SECRET: &str = "secret-of-the-cluster";

/// The key of every route here.
pub(crate) fn route_key() -> NodeKey {
    NodeKey::from_bytes([0xaa; 32]).unwrap()
}

/// The key of the IM-server `name`.
pub(crate) fn key_of(name: &str) -> NodeKey {
    let mut bytes = [0x55; 32];
    bytes.iter_mut().zip(name.bytes()).for_each(|(byte, of)| *byte = of);
    NodeKey::from_bytes(bytes).unwrap()
}

/// A route with its store; it leaves when `shutdown` is cancelled.
pub(crate) struct Setup {
    pub(crate) running: Running,
    pub(crate) store: Store,
    pub(crate) shutdown: CancellationToken,
}

pub(crate) fn config(limits: Limits) -> Config {
    let any = Some(([127, 0, 0, 1], 0).into());
    Config {
        name: "route-1".into(),
        http_listen: None,
        backend_listen: any,
        node_listen: any,
        device_listen: None,
        plain_listen: any,
        token: TOKEN.into(),
        cluster_secret: SECRET.into(),
        node_key: Some(route_key()),
        limits,
        ..Config::default()
    }
}

impl Setup {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::over(Store::memory(imlink_store::Config::default()), limits).await
    }

    pub(crate) async fn over(store: Store, limits: Limits) -> Self {
        let shutdown = CancellationToken::new();
        let registry = Registry::default();
        let running = imlink_route::start(config(limits), store.clone(), registry, shutdown.clone()).await;
        Self { running: running.unwrap(), store, shutdown }
    }

    pub(crate) fn route(&self) -> &Route {
        &self.running.route
    }

    pub(crate) async fn client(&self) -> Client {
        let address = self.running.backend.unwrap().to_string();
        Client::connect(&address, TOKEN, "tests").await.unwrap()
    }

    /// A provisioned device.
    pub(crate) async fn device(&self, device: &str) -> DeviceKey {
        let key = DeviceKey::single(device).unwrap();
        self.store.provision(&key, Proof::Plain).await.unwrap();
        key
    }

    /// A device attached to `node`.
    pub(crate) async fn attached(&self, device: &str, node: &Node) -> DeviceKey {
        let key = self.device(device).await;
        self.attach(&key, node, Fingerprint::NONE).await;
        key
    }

    pub(crate) async fn attach(&self, device: &DeviceKey, node: &Node, fingerprint: Fingerprint) -> NewSession {
        let attach = Attach {
            device: device.clone(),
            server: node.name.clone(),
            server_incarnation: node.incarnation,
            incarnation: 1,
            attempt: node.next_attempt(),
            key: KeyMark::PLAIN,
            epoch_floor: 0,
            cursor: MessageId::new(0, 0),
            fingerprint,
            receive_limit: 4096,
            event_queue: 0,
            window: 16,
        };
        match self.store.attach(&attach).await.unwrap() {
            Attached::Session(session) => {
                node.hold(device, session.epoch);
                *session
            }
            other => panic!("not attached: {other:?}"),
        }
    }
}

pub(crate) fn send(device: &str, wait: Wait) -> Send {
    Send {
        tenant: "-".into(),
        device: device.into(),
        path: "led/set".into(),
        ttl_s: None,
        wait,
        timeout: Some(Duration::from_secs(5)),
        idempotency_key: None,
        token: imlink_protocol::TokenId::NONE,
        payload: Bytes::from_static(b"on"),
    }
}

pub(crate) fn call(device: &str, timeout: Duration) -> Call {
    Call {
        tenant: "-".into(),
        device: device.into(),
        path: "led/get".into(),
        timeout: Some(timeout),
        payload: Bytes::from_static(b"?"),
    }
}

/// Waits for a condition, at most 5 s.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "the condition did not come true in 5 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An interface of raw paths; `true` for a message's, `false` for a call's.
pub(crate) fn interface(paths: &[(&str, bool)]) -> Vec<u8> {
    use imlink_protocol::frame;
    use imlink_protocol::interface::{Entry, Kind};
    let mut all = Vec::new();
    for &(path, is_message) in paths {
        let kind = if is_message { Kind::Message } else { Kind::Call };
        let key = imlink_protocol::Key::raw(path);
        let mut out = [0; 256];
        let len = frame::encode(&Entry { kind, key, path, schema: &[] }, &mut out).unwrap();
        // An entry is a frame's body: one byte of length before it, four of check behind it.
        all.extend_from_slice(&out[1..len - frame::CHECK_LEN]);
    }
    all
}

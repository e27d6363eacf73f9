//! A real IM-server with a memory store, a route's end of its link, and devices that speak frames over TCP.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use imlink_link::{Link, OUTBOX_LEN_DEFAULT};
use imlink_protocol::frame;
use imlink_protocol::id::{Fingerprint, MessageId, TokenId};
use imlink_protocol::key::Key;
use imlink_protocol::link::node::{Deliver, Registered, ToRoute, ToServer};
use imlink_protocol::message::{FromDevice, Hello, ToDevice};
use imlink_server::metrics::Metrics;
use imlink_server::{Config, Limits, Login, Server};
use imlink_store::mailbox::{Append, Appended, Stored};
use imlink_store::session::Proof;
use imlink_store::{DeviceKey, RevokedTokens, Store};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

pub const KEY: Key = Key::raw("led/set");
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Rig {
    pub store: Store,
    pub address: SocketAddr,
    pub route: Link,
    told: VecDeque<Vec<u8>>,
    revoked: RevokedTokens,
    pub shutdown: CancellationToken,
    pub stopped: tokio::task::JoinHandle<()>,
}

impl Rig {
    pub async fn new(limits: Limits) -> Self {
        let store = Store::memory(imlink_store::Config::default());
        let config = Config {
            name: "im-1".into(),
            listen: Some(([127, 0, 0, 1], 0).into()),
            advertise: String::new(),
            plain_listen: Some(([127, 0, 0, 1], 0).into()),
            plain_advertise: String::new(),
            allow_plain: false,
            labels: String::new(),
            login: Login::Direct,
            keys: None,
            fleet_psks: Default::default(),
            node_key: None,
            io_threads: 2,
            handshake_threads: 1,
            limits,
        };
        let server = Server::start(config, store.clone(), Metrics::default()).unwrap();
        let (there, mut route) = imlink_link::pair(OUTBOX_LEN_DEFAULT);
        server.add_link(there);
        let batch = route.receiver.receive().await.unwrap().unwrap();
        let register = batch.frames().next().unwrap().unwrap().to_vec();
        assert!(matches!(frame::decode(&register), Ok(ToRoute::Register(_))));
        let keys = Registered { route: "r", day: 1, ticket_key_today: [1; 32], ticket_key_yesterday: [2; 32] };
        route.sender.send(&ToServer::Registered(keys)).unwrap();
        let address = server.plain_address().unwrap();
        let revoked = server.revoked_tokens();
        let shutdown = CancellationToken::new();
        let stopped = tokio::spawn(server.run(shutdown.clone(), CancellationToken::new()));
        Self { store, address, route, told: VecDeque::new(), revoked, shutdown, stopped }
    }

    pub async fn provision(&self, device: &str) -> DeviceKey {
        let key = DeviceKey::single(device).unwrap();
        self.store.provision(&key, Proof::Plain).await.unwrap();
        key
    }

    /// Stores a message and gives the server the hint, as a route does.
    pub async fn send(&self, device: &DeviceKey, payload: &'static [u8]) -> Stored {
        let stored = self.append(device, payload).await;
        self.hint(device, &stored, payload);
        stored
    }

    pub async fn append(&self, device: &DeviceKey, payload: &'static [u8]) -> Stored {
        self.append_of(device, payload, TokenId::NONE).await
    }

    /// Stores a message that `token` sent.
    pub async fn append_of(&self, device: &DeviceKey, payload: &'static [u8], token: TokenId) -> Stored {
        let append = Append {
            device: device.clone(),
            id: getrandom::u64().unwrap().to_le_bytes().repeat(2).try_into().unwrap(),
            retry: false,
            key: KEY,
            fingerprint: Fingerprint::NONE,
            token,
            ttl_s: 0,
            payload: payload.into(),
            mailbox_max: 1000,
        };
        match self.store.append(&append).await.unwrap() {
            Appended::Stored(stored) => stored,
            other => panic!("not stored: {other:?}"),
        }
    }

    pub fn hint(&self, device: &DeviceKey, stored: &Stored, payload: &[u8]) {
        self.hint_of(device, stored, payload, TokenId::NONE);
    }

    pub fn hint_of(&self, device: &DeviceKey, stored: &Stored, payload: &[u8], token: TokenId) {
        let deliver = Deliver {
            device: device.as_str(),
            epoch: stored.session.as_ref().map_or(0, |session| session.epoch),
            id: stored.id,
            key: KEY,
            expires_ms: stored.expires_ms,
            report: true,
            token,
            payload,
        };
        self.route.sender.send(&ToServer::Deliver(deliver)).unwrap();
    }

    /// Waits until the server knows that `token` was revoked.
    pub async fn revocation_is_known(&self, token: TokenId) {
        let known = async {
            while !self.revoked.contains(token) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), known).await.expect("the revocation is known within 2 s");
    }

    /// The next thing the server tells the route that `pick` takes; loads are passed over.
    pub async fn told<T>(&mut self, pick: impl Fn(&ToRoute<'_>) -> Option<T>) -> T {
        let next = async {
            loop {
                while let Some(body) = self.told.pop_front() {
                    if let Some(found) = pick(&frame::decode(&body).unwrap()) {
                        return found;
                    }
                }
                let batch = self.route.receiver.receive().await.unwrap().expect("the link closed");
                self.told.extend(batch.frames().map(|body| body.unwrap().to_vec()));
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the route was not told in time")
    }

    pub async fn acked(&mut self) -> MessageId {
        self.told(|message| match message {
            ToRoute::Acked { id, .. } => Some(*id),
            _ => None,
        })
        .await
    }
}

/// A device as bytes on a socket.
pub struct Peer {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    /// Connects and attaches; the epoch of its session.
    pub async fn attach(address: SocketAddr, device: &str, incarnation: u64, attempt: u32) -> (Self, u64) {
        let mut peer = Self::connect(address).await;
        peer.write(&FromDevice::Hello(hello(device, incarnation, attempt))).await;
        let epoch = peer
            .read(|message| match message {
                ToDevice::Welcome(welcome) => welcome.epoch,
                other => panic!("no welcome: {other:?}"),
            })
            .await;
        (peer, epoch)
    }

    pub async fn write(&mut self, message: &impl Serialize) {
        let mut frame = Vec::new();
        imlink_link::encode_onto(message, &mut frame).unwrap();
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next frame, passed to `take`.
    pub async fn read<T>(&mut self, take: impl FnOnce(&ToDevice<'_>) -> T) -> T {
        loop {
            if let Some(frame) = frame::split(&self.buffer, 1 << 16).unwrap() {
                let taken = take(&frame::decode(frame.body).unwrap());
                let len = frame.len;
                self.buffer.drain(..len);
                return taken;
            }
            let mut chunk = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut chunk)).await;
            let len = read.expect("no frame in time").unwrap();
            assert!(len > 0, "the server closed the connection");
            self.buffer.extend_from_slice(&chunk[..len]);
        }
    }

    /// The next message; a new generation on the way is answered.
    pub async fn message(&mut self) -> (u64, bool, Vec<u8>) {
        loop {
            let next = self
                .read(|message| match message {
                    ToDevice::Message { sequence, flags, payload, .. } => {
                        Ok((*sequence, flags.is_redelivered(), payload.to_vec()))
                    }
                    ToDevice::Generation { generation } => Err(*generation),
                    other => panic!("no message: {other:?}"),
                })
                .await;
            match next {
                Ok(message) => return message,
                Err(generation) => self.write(&FromDevice::Generation { generation }).await,
            }
        }
    }

    /// Reads until the server closes; everything it said before.
    pub async fn last_words(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        let all = async {
            let mut rest = std::mem::take(&mut self.buffer);
            self.stream.read_to_end(&mut rest).await.ok();
            let mut at = 0;
            while let Ok(Some(frame)) = frame::split(&rest[at..], 1 << 16) {
                words.push(format!("{:?}", frame::decode::<ToDevice<'_>>(frame.body).unwrap()));
                at += frame.len;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("the server did not close");
        words
    }
}

pub fn hello(device: &str, incarnation: u64, attempt: u32) -> Hello<'_> {
    Hello {
        version: imlink_protocol::VERSION,
        tenant: "-",
        device,
        incarnation,
        attempt,
        epoch: 0,
        cursor: MessageId::default(),
        receive_limit: 512,
        window: 4,
        fingerprint: Fingerprint::NONE,
        event_queue: 77,
        ticket: &[],
    }
}

//! A small IM-server: it speaks the node link, acknowledges in the store and answers calls as told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imlink_link::seal::{self, NodeKey, SealError};
use imlink_link::{Link, OUTBOX_LEN_DEFAULT, Sender};
use imlink_protocol::blob::{BlobFrame, Done, Outcome};
use imlink_protocol::link::node::{CallDevice, CallFailure, Deliver, Load, Register, ToRoute, ToServer};
use imlink_protocol::message::Code;
use imlink_protocol::{Epoch, MessageId, VERSION, frame};
use imlink_store::mailbox::Acknowledge;
use imlink_store::node::NodeRole;
use imlink_store::{DeviceKey, Store};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{Setup, key_of, route_key, until};

/// What a node does with what it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Acknowledges messages, echoes calls.
    #[default]
    Good,
    /// Says nothing about messages and calls.
    Mute,
    /// Acknowledges in the store and reports another epoch than the session's.
    WrongEpoch,
    /// Refuses every message with an application's code.
    Refuses,
}

/// Something that the route sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Registered { day: u32 },
    Refused(String),
    Deliver { device: String, id: MessageId, report: bool, payload: Vec<u8> },
    Call { request: u64, device: String, epoch: Epoch, remaining_ms: u32 },
    Cancel(u64),
    Kick { device: String, epoch: Epoch, revoked: bool },
    KickDone(String),
}

/// The day and its ticket key, as the route told them.
pub(crate) type Keys = Arc<Mutex<Option<(u32, [u8; 32])>>>;

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) incarnation: u64,
    pub(crate) sender: Sender,
    pub(crate) got: mpsc::UnboundedReceiver<Got>,
    pub(crate) keys: Keys,
    held: Arc<Mutex<HashMap<String, Epoch>>>,
    manner: Arc<Mutex<Manner>>,
    attempts: AtomicU32,
    /// Where its devices would connect; probes find it while this lives.
    _devices: Option<TcpListener>,
}

/// A sealed link to `route-1` at `at`, under `key` as the server `name`.
pub(crate) async fn sealed(at: SocketAddr, name: &str, key: &NodeKey) -> Result<Link, SealError> {
    let stream = TcpStream::connect(at).await.unwrap();
    seal::connect(stream, name, "route-1", key, &route_key().public(), OUTBOX_LEN_DEFAULT).await
}

static INCARNATIONS: AtomicU64 = AtomicU64::new(1000);

impl Node {
    /// A registered node over TCP.
    pub(crate) async fn start(setup: &Setup, name: &str) -> Self {
        Self::dial(setup.running.node.unwrap(), setup.store.clone(), name, true).await
    }

    /// One whose device address answers nobody.
    pub(crate) async fn unreachable(setup: &Setup, name: &str) -> Self {
        Self::dial(setup.running.node.unwrap(), setup.store.clone(), name, false).await
    }

    pub(crate) async fn dial(at: SocketAddr, store: Store, name: &str, is_reachable: bool) -> Self {
        store.enrol_node(NodeRole::Server, name, key_of(name).public().0, None).await.unwrap();
        let link = sealed(at, name, &key_of(name)).await.unwrap();
        Self::over(link, store, name, is_reachable).await
    }

    /// A registered node over `link`.
    pub(crate) async fn over(link: Link, store: Store, name: &str, is_reachable: bool) -> Self {
        let mut node = Self::silent(link, store, name, is_reachable).await;
        node.register();
        assert!(matches!(node.next().await, Got::Registered { .. }));
        node.load(Load::default());
        node
    }

    /// One that did not say anything yet.
    pub(crate) async fn silent(link: Link, store: Store, name: &str, is_reachable: bool) -> Self {
        let devices = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (tell, got) = mpsc::unbounded_channel();
        let node = Self {
            name: name.into(),
            incarnation: INCARNATIONS.fetch_add(1, Ordering::Relaxed),
            sender: link.sender.clone(),
            got,
            keys: Arc::default(),
            held: Arc::default(),
            manner: Arc::default(),
            attempts: AtomicU32::new(1),
            _devices: is_reachable.then_some(devices),
        };
        let peer = Peer {
            sender: link.sender,
            store,
            tell,
            keys: node.keys.clone(),
            held: node.held.clone(),
            manner: node.manner.clone(),
        };
        tokio::spawn(peer.serve(link.receiver));
        node
    }

    pub(crate) fn address(&self) -> String {
        match &self._devices {
            Some(devices) => devices.local_addr().unwrap().to_string(),
            // Port 1 of this machine is nobody's.
            None => "127.0.0.1:1".into(),
        }
    }

    pub(crate) fn register(&self) {
        let address = self.address();
        let register = Register {
            version: VERSION,
            incarnation: self.incarnation,
            device_address: &address,
            plain_address: &address,
            capacity: 1000,
            labels: "zone=eu",
        };
        self.say(&ToRoute::Register(register));
    }

    pub(crate) fn load(&self, load: Load) {
        self.say(&ToRoute::Load(load));
    }

    pub(crate) fn say(&self, message: &ToRoute<'_>) {
        self.sender.send(message).unwrap();
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub(crate) fn hold(&self, device: &DeviceKey, epoch: Epoch) {
        self.held.lock().unwrap().insert(device.as_str().into(), epoch);
    }

    /// The epoch in which it holds `device`.
    pub(crate) fn epoch(&self, device: &str) -> Epoch {
        let held = self.held.lock().unwrap();
        held.get(&format!("-/{device}")).copied().unwrap_or_default()
    }

    pub(crate) fn lose(&self, device: &DeviceKey) {
        self.held.lock().unwrap().remove(device.as_str());
    }

    pub(crate) fn next_attempt(&self) -> u32 {
        // Attempts of one boot only grow, over all servers of a test.
        static ATTEMPTS: AtomicU32 = AtomicU32::new(1);
        self.attempts.fetch_add(1, Ordering::Relaxed);
        ATTEMPTS.fetch_add(1, Ordering::Relaxed)
    }

    /// What the route sent next.
    pub(crate) async fn next(&mut self) -> Got {
        let got = tokio::time::timeout(Duration::from_secs(5), self.got.recv()).await;
        got.expect("the route sent nothing for 5 s").expect("the link ended")
    }

    /// Until the route knows it.
    pub(crate) async fn known(&self, setup: &Setup) {
        until(async || {
            let servers = setup.route().servers();
            servers.iter().any(|one| one.incarnation == self.incarnation && one.age.is_some())
        })
        .await;
    }
}

struct Peer {
    sender: Sender,
    store: Store,
    tell: mpsc::UnboundedSender<Got>,
    keys: Keys,
    held: Arc<Mutex<HashMap<String, Epoch>>>,
    manner: Arc<Mutex<Manner>>,
}

impl Peer {
    async fn serve(self, mut receiver: imlink_link::Receiver) {
        while let Ok(Some(batch)) = receiver.receive().await {
            for body in batch.frames() {
                match frame::decode::<ToServer<'_>>(body.unwrap()).unwrap() {
                    ToServer::Registered(keys) => {
                        *self.keys.lock().unwrap() = Some((keys.day, keys.ticket_key_today));
                        self.tell(Got::Registered { day: keys.day });
                    }
                    ToServer::Refused { why } => self.tell(Got::Refused(why.into())),
                    ToServer::Deliver(deliver) => self.deliver(deliver).await,
                    ToServer::CallDevice(call) => self.call(call),
                    ToServer::CancelCall { request } => self.tell(Got::Cancel(request)),
                    ToServer::Kick { request, device, epoch, revoked } => {
                        let closed = self.held.lock().unwrap().remove(device).is_some();
                        self.tell(Got::Kick { device: device.into(), epoch, revoked });
                        self.say(&ToRoute::Kicked { request, closed });
                    }
                    ToServer::KickDone { outcome, .. } => self.tell(Got::KickDone(format!("{outcome:?}"))),
                    ToServer::Ping => self.say(&ToRoute::Pong),
                    // Its devices take no part in transfers.
                    ToServer::Blob(blob) => {
                        let done = Done { transfer: 0, outcome: Outcome::Unsupported, detail: 0 };
                        self.say(&ToRoute::Blob { request: blob.request, frame: BlobFrame::Done(done) });
                    }
                }
            }
        }
    }

    async fn deliver(&self, deliver: Deliver<'_>) {
        let Deliver { device, epoch, id, report, payload, .. } = deliver;
        let manner = *self.manner.lock().unwrap();
        self.tell(Got::Deliver { device: device.into(), id, report, payload: payload.into() });
        if manner == Manner::Mute {
            return;
        }
        let rejected = match manner {
            Manner::Refuses => vec![(id, Code(300))],
            _ => Vec::new(),
        };
        let key = DeviceKey::parse(device).unwrap();
        let ack = Acknowledge { device: key, epoch, upto: id, rejected };
        self.store.acknowledge(&[ack]).await.unwrap();
        match (manner, report) {
            (_, false) => {}
            (Manner::Refuses, _) => self.say(&ToRoute::Settled { device, epoch, id }),
            (Manner::WrongEpoch, _) => self.say(&ToRoute::Acked { device, epoch: epoch + 1, id }),
            _ => self.say(&ToRoute::Acked { device, epoch, id }),
        }
    }

    fn call(&self, call: CallDevice<'_>) {
        let CallDevice { request, device, epoch, remaining_ms, payload, .. } = call;
        self.tell(Got::Call { request, device: device.into(), epoch, remaining_ms });
        let held = self.held.lock().unwrap().get(device).copied().unwrap_or_default();
        if *self.manner.lock().unwrap() == Manner::Mute {
            return;
        }
        if held != epoch {
            return self.say(&ToRoute::NotHere { device, request, epoch: held });
        }
        match payload {
            b"busy" => self.say(&ToRoute::CallFailed { request, why: CallFailure::Busy }),
            _ => self.say(&ToRoute::Replied { request, status: Code::OK, payload }),
        }
    }

    fn tell(&self, got: Got) {
        // A test that does not listen any more does not mind.
        let _ = self.tell.send(got);
    }

    fn say(&self, message: &ToRoute<'_>) {
        let _ = self.sender.send(message);
    }
}

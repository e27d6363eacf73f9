//! One device in the test's process: the real device client, with a handler that does what the test says.
//!
//! Dropping a [`Device`] is a power loss: its socket closes, what it had in memory is gone.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use imlink_device_client::tokio::{TokioClock, TokioRng, TokioStack};
use imlink_device_client::{
    Client, Code, Config, Keys, Link, Message, NoopRawMutex, Resume, State, Storage, interface,
};
use imlink_protocol::MessageId;
use imlink_protocol::interface::Kind;
use imlink_protocol::key_pair::PrivateKey;
use tokio::sync::{mpsc, watch};

use crate::ledger::Hash;
use crate::node::ROUTE_KEYS;
use crate::wait::eventually;

interface! {
    /// What the devices of the tests speak, all of it raw bytes.
    pub TESTED {
        Message LED_SET = "led/set";
        Message BULK_PUT = "bulk/put";
        Call ECHO = "echo";
        Call SLOW = "slow";
        Call FAIL = "fail";
        Event BUTTON = "button";
    }
}

/// The private key of the device `id`, of any test.
pub fn private_key(id: &str) -> PrivateKey {
    PrivateKey::new(imlink_protocol::ticket::mac(b"the devices of the tests", &[id.as_bytes()]))
}

/// Code with which the `fail` call fails.
pub const FAILURE: Code = Code(300);
/// Longest wait for something a device is to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the handler does with each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Is done with it at once.
    Ack,
    /// Works on it until told otherwise.
    Hold,
    /// Refuses it.
    Reject(Code),
}

/// A message as its handler got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// Its id.
    pub id: MessageId,
    /// Its path.
    pub path: &'static str,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Marked as possibly seen before.
    pub redelivered: bool,
}

impl Got {
    /// The hash that names it in a ledger.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.payload)
    }
}

/// A running device.
pub struct Device {
    id: String,
    record: Arc<Mutex<Record>>,
    handling: watch::Sender<Handling>,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    got: Vec<Got>,
    done: MessageId,
    started: MessageId,
    calls: Vec<Vec<u8>>,
    link: Option<Link>,
    events_stored: u32,
}

enum Order {
    Publish(Vec<u8>),
    Reconnect,
    PowerOff,
}

impl Device {
    /// A device that logs in at `routes`, whose handler acknowledges at once.
    pub fn start(id: &str, routes: &[SocketAddr]) -> Self {
        Self::resume(id, routes, Resume::default())
    }

    /// A device that goes on where an earlier power-on ended.
    pub fn resume(id: &str, routes: &[SocketAddr], resume: Resume) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let (handling, handle) = watch::channel(Handling::Ack);
        let (orders, taken) = mpsc::unbounded_channel();
        let (name, routes, kept) = (id.to_owned(), routes.to_vec(), record.clone());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(live(&name, &routes, resume, kept, handle, taken));
        };
        let thread = std::thread::Builder::new().name(id.into()).spawn(run).expect("a thread");
        Self { id: id.into(), record, handling, orders, thread: Some(thread) }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the handler does from now on, with the message it works on too.
    pub fn handle(&self, handling: Handling) {
        self.handling.send_replace(handling);
    }

    /// Queues an event.
    pub fn publish(&self, payload: impl Into<Vec<u8>>) {
        self.order(Order::Publish(payload.into()));
    }

    /// Leaves in good order and comes back.
    pub fn reconnect(&self) {
        self.order(Order::Reconnect);
    }

    /// Cuts its power and returns what it had kept in flash.
    pub fn power_off(mut self) -> Resume {
        self.end();
        let record = self.record();
        Resume { done: record.done, started: record.started }
    }

    /// Messages that its handler got so far, in order.
    pub fn got(&self) -> Vec<Got> {
        self.record().got.clone()
    }

    /// Payloads of the calls that it ran so far.
    pub fn calls(&self) -> Vec<Vec<u8>> {
        self.record().calls.clone()
    }

    /// How its link stands, `None` before it began.
    pub fn link(&self) -> Option<Link> {
        self.record().link
    }

    /// Events that it knows are stored.
    pub fn events_stored(&self) -> u32 {
        self.record().events_stored
    }

    /// Waits until it is attached, for the `sessions`th time since its power-on or later.
    pub async fn attached(&self, sessions: u32) -> Link {
        eventually(&format!("{} attached {sessions} times: {:?}", self.id, self.link()), PATIENCE, async || {
            self.link().filter(|link| link.is_attached() && link.sessions >= sessions)
        })
        .await
    }

    /// Waits until its handler got `count` messages.
    pub async fn has_got(&self, count: usize) -> Vec<Got> {
        eventually(&format!("{} got {count} messages", self.id), PATIENCE, async || {
            let got = self.got();
            (got.len() >= count).then_some(got)
        })
        .await
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no holder of this lock panics")
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the device runs");
    }

    fn end(&mut self) {
        // A device that is gone already cannot be told.
        let _ = self.orders.send(Order::PowerOff);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the device {} panicked", self.id);
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.end();
    }
}

/// One power-on, until the power is cut.
async fn live(
    id: &str,
    routes: &[SocketAddr],
    resume: Resume,
    record: Arc<Mutex<Record>>,
    mut handling: watch::Receiver<Handling>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut state = State::<NoopRawMutex, _, 4096, 4096, 16384, 4096, 4096>::new(TokioClock::new());
    let (private_key, route_keys) = (private_key(id), ROUTE_KEYS.map(|key| PrivateKey::new(key).public().0));
    let keys = Keys { private_key: private_key.bytes(), route_keys: &route_keys, psk: None };
    let routes: Vec<String> = routes.iter().map(SocketAddr::to_string).collect();
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let config = Config { interface: TESTED, resume, ..Config::new(id, &routes, keys) };
    let device = imlink_device_client::new(&mut state, config, TokioStack::default(), TokioRng);
    let imlink_device_client::Device { mut runner, client, messages } = device.expect("a valid configuration");
    let change = |change: &mut dyn FnMut(&mut Record)| change(&mut record.lock().expect("no holder panics"));
    change(&mut |record| (record.done, record.started) = (resume.done, resume.started));
    let mut messages = messages.kept_in(Flash(&record));
    let handle = messages.for_each(async |message| {
        let got = got(message);
        change(&mut |record| record.got.push(got.clone()));
        let now = handling.wait_for(|handling| *handling != Handling::Hold).await.map(|now| *now);
        match now {
            Ok(Handling::Reject(code)) => Err(code),
            _ => Ok(()),
        }
    });
    let answer = client.calls();
    let calls = || {
        answer.for_each(async |call| {
            let asked = call.payload(<[u8]>::to_vec).unwrap_or_default();
            change(&mut |record| record.calls.push(asked.clone()));
            match call.key() {
                FAIL => return Err(FAILURE),
                SLOW => tokio::time::sleep(Duration::from_secs(3)).await,
                _ => {}
            }
            Ok(asked)
        })
    };
    let watch = async {
        loop {
            change(&mut |record| {
                record.link = Some(client.link());
                record.events_stored = client.event_counts().stored;
            });
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = runner.run() => {}
        _ = handle => {}
        _ = calls() => {}
        // A slow call holds one handler, not the other.
        _ = calls() => {}
        () = watch => {}
        () = obey(&mut orders, client) => {}
    }
}

async fn obey<S: Storage>(orders: &mut mpsc::UnboundedReceiver<Order>, client: Client<'_, S>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Publish(payload) => client.publish(BUTTON, &payload).expect("room for an event"),
            Order::Reconnect => client.reconnect(),
            Order::PowerOff => return,
        }
    }
}

fn got<S: Storage>(message: &Message<'_, S, Flash<'_>>) -> Got {
    Got {
        id: message.id(),
        path: TESTED.path(Kind::Message, message.key()).unwrap_or_default(),
        payload: message.payload(<[u8]>::to_vec),
        redelivered: message.is_redelivered(),
    }
}

/// The two records of flash.
struct Flash<'a>(&'a Mutex<Record>);

impl imlink_device_client::CursorStore for Flash<'_> {
    async fn started(&mut self, id: MessageId) {
        self.0.lock().expect("no holder panics").started = id;
    }

    async fn done(&mut self, id: MessageId) {
        self.0.lock().expect("no holder panics").done = id;
    }
}

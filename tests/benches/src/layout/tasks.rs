//! An IM-server with one small tokio task for each connection, and one inbox for the whole thread.
//!
//! ```text
//! link ──▶ inbox ──▶ router task ──session──▶ out ──wake──▶ connection's task ──▶ write
//!                                           connection's task ──read──▶ session ──▶ acks
//! link ◀── Acked ◀── settling task (behind all that were ready) ◀── one `acknowledge` ◀──┘
//! ```
//!
//! It does for a push what the product's does: the same `Session`, store calls, tables and frames. It has no
//! calls, kicks or tickets: enough to compare the layouts, not to serve.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::task::Waker;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use hashbrown::HashTable;
use imlink_link::{Link, Sender};
use imlink_protocol::Instant;
use imlink_protocol::frame;
use imlink_protocol::link::node::{Deliver, Register, ToRoute, ToServer};
use imlink_protocol::message::ToDevice;
use imlink_protocol::serving::{Delivered, Outgoing, Session, Transmit};
use imlink_store::mailbox::Acknowledge;
use imlink_store::{DeviceKey, Store};
use slab::Slab;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::session_task;

/// A running server of this layout: one I/O thread, as the product has on two cores.
pub struct TaskServer {
    address: SocketAddr,
    inbox: mpsc::UnboundedSender<Command>,
}

pub(super) enum Command {
    LinkUp(Sender),
    FromRoute(Bytes),
}

/// What the tasks of the I/O thread share; they run on no other.
pub(super) struct Io {
    pub(super) store: Store,
    pub(super) started: Clock,
    pub(super) conns: Slab<Conn>,
    table: HashTable<u32>,
    hasher: hashbrown::DefaultHashBuilder,
    link: Option<Sender>,
    pub(super) acks: Vec<Acknowledge>,
    reports: Vec<(DeviceKey, u64, imlink_protocol::MessageId)>,
    pub(super) settle: Option<Waker>,
    spare: Vec<Vec<u8>>,
    pub(super) scratch: Vec<u8>,
}

/// A connection; its socket is its task's.
pub(super) struct Conn {
    pub(super) input: Vec<u8>,
    pub(super) out: Out,
    pub(super) waker: Option<Waker>,
    pub(super) device: Box<Device>,
}

/// As much as the product keeps of an attached device.
#[expect(dead_code, reason = "what only the product uses is there for its size")]
pub(super) struct Device {
    pub(super) name: DeviceKey,
    pub(super) incarnation: u64,
    pub(super) attempt: u32,
    pub(super) receive_limit: u32,
    pub(super) window: u8,
    pub(super) event_queue: u64,
    pub(super) session: Session,
    pub(super) reports: Vec<imlink_protocol::MessageId>,
}

#[derive(Default)]
pub(super) struct Out(pub(super) Vec<u8>);

impl Transmit for Out {
    fn transmit(&mut self, message: &ToDevice<'_>) {
        imlink_link::encode_onto(message, &mut self.0).expect("frames of the benchmark fit");
    }
}

thread_local! {
    pub(super) static IO: RefCell<Option<Io>> = const { RefCell::new(None) };
}

/// The state of this thread.
pub(super) fn with_io<T>(use_it: impl FnOnce(&mut Io) -> T) -> T {
    IO.with_borrow_mut(|io| use_it(io.as_mut().expect("set when the thread began")))
}

impl TaskServer {
    /// Listens on a free loopback port.
    pub fn start(store: Store) -> std::io::Result<Self> {
        let (inbox, commands) = mpsc::unbounded_channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("task-io".into()).spawn(move || {
            IO.set(Some(Io::new(store)));
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener of this process");
                tokio::spawn(settle());
                tokio::spawn(sweep());
                tokio::spawn(route(commands));
                accept(listener).await;
            });
        })?;
        Ok(Self { address, inbox })
    }

    /// Where devices connect.
    pub fn device_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the route at the other end.
    pub fn add_link(&self, mut link: Link) {
        let inbox = self.inbox.clone();
        let register = Register {
            version: imlink_protocol::VERSION,
            incarnation: 1,
            device_address: "",
            plain_address: "",
            capacity: 1,
            labels: "",
        };
        let _ = link.sender.send(&ToRoute::Register(register));
        let _ = inbox.send(Command::LinkUp(link.sender.clone()));
        tokio::spawn(async move {
            while let Ok(Some(batch)) = link.receiver.receive().await {
                for body in batch.frames() {
                    let Ok(body) = body else { return };
                    // As the product's link does: the frame says which thread it is for.
                    if let Ok(ToServer::Deliver(_)) = frame::decode(body) {
                        let _ = inbox.send(Command::FromRoute(batch.share(body)));
                    }
                }
            }
        });
    }
}

async fn accept(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        if stream.set_nodelay(true).is_ok() {
            tokio::spawn(session_task::serve(stream));
        }
    }
}

async fn route(mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut taken = Vec::new();
    while commands.recv_many(&mut taken, COMMANDS_MAX).await > 0 {
        with_io(|io| {
            let now = io.now();
            for command in taken.drain(..) {
                match command {
                    Command::LinkUp(sender) => io.link = Some(sender),
                    Command::FromRoute(body) => {
                        if let Ok(ToServer::Deliver(deliver)) = frame::decode(&body) {
                            io.handle_deliver(now, &deliver);
                        }
                    }
                }
            }
        });
    }
}

/// Runs behind the tasks that were ready when the first acknowledgement came: one store call for all of them.
async fn settle() {
    std::future::poll_fn::<(), _>(|context| {
        with_io(|io| {
            io.settle = Some(context.waker().clone());
            io.settle_acks();
        });
        std::task::Poll::Pending
    })
    .await;
}

async fn sweep() {
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let mut part = 0;
    loop {
        tick.tick().await;
        with_io(|io| {
            let now = io.now();
            for index in (part..io.conns.capacity()).step_by(4) {
                let Some(conn) = io.conns.get_mut(index) else { continue };
                let _ = conn.device.session.handle_timeout(now, &mut conn.out);
                conn.wake_if_owing();
            }
        });
        part = (part + 1) % 4;
    }
}

impl Io {
    fn new(store: Store) -> Self {
        Self {
            store,
            started: Clock::now(),
            conns: Slab::new(),
            table: HashTable::new(),
            hasher: Default::default(),
            link: None,
            acks: Vec::new(),
            reports: Vec::new(),
            settle: None,
            spare: Vec::new(),
            scratch: vec![0; READ_LEN],
        }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn insert(&mut self, conn: Conn) -> u32 {
        use std::hash::BuildHasher as _;
        let hash = self.hasher.hash_one(conn.device.name.as_str());
        let index = u32::try_from(self.conns.insert(conn)).expect("fewer connections than open files");
        let (conns, hasher) = (&self.conns, &self.hasher);
        let rehash = |other: &u32| conns.get(*other as usize).map_or(0, |c| hasher.hash_one(c.device.name.as_str()));
        self.table.insert_unique(hash, index, rehash);
        index
    }

    fn find(&self, name: &str) -> Option<u32> {
        use std::hash::BuildHasher as _;
        let is_it = |index: &u32| self.conns.get(*index as usize).is_some_and(|conn| conn.device.name.as_str() == name);
        self.table.find(self.hasher.hash_one(name), is_it).copied()
    }

    fn handle_deliver(&mut self, now: Instant, deliver: &Deliver<'_>) {
        let Some(index) = self.find(deliver.device) else { return };
        self.lend_buffer(index);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let message =
            Outgoing { id: deliver.id, key: deliver.key, expires_ms: deliver.expires_ms, payload: deliver.payload };
        if conn.device.session.handle_deliver(now, &message, &mut conn.out) == Delivered::Sent && deliver.report {
            conn.device.reports.push(deliver.id);
        }
        conn.wake_if_owing();
    }

    /// Gives a connection that is about to write a used buffer, so that idle ones need none.
    pub(super) fn lend_buffer(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index as usize)
            && conn.out.0.capacity() == 0
            && let Some(buffer) = self.spare.pop()
        {
            conn.out.0 = buffer;
        }
    }

    pub(super) fn take_back(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS {
            self.spare.push(buffer);
        }
    }

    pub(super) fn handle_acked(&mut self, index: u32, upto: imlink_protocol::MessageId) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let device = &mut conn.device;
        let (name, epoch) = (device.name.clone(), device.session.epoch());
        let reports = &mut self.reports;
        device.reports.retain(|id| {
            if *id <= upto {
                reports.push((name.clone(), epoch, *id));
            }
            *id > upto
        });
        if device.reports.is_empty() {
            device.reports = Vec::new();
        }
        self.acks.push(Acknowledge { device: name, epoch, upto, rejected: Vec::new() });
        if self.acks.len() == 1
            && let Some(settle) = &self.settle
        {
            settle.wake_by_ref();
        }
    }

    fn settle_acks(&mut self) {
        if self.acks.is_empty() {
            return;
        }
        let acks = std::mem::take(&mut self.acks);
        session_task::ready(self.store.acknowledge(&acks)).expect("the memory store takes acknowledgements");
        let mut frames = Vec::new();
        for (device, epoch, id) in self.reports.drain(..) {
            let acked = ToRoute::Acked { device: device.as_str(), epoch, id };
            imlink_link::encode_onto(&acked, &mut frames).expect("frames of the benchmark fit");
        }
        if let Some(link) = &self.link {
            let _ = link.send_encoded(&frames);
        }
    }
}

impl Conn {
    fn wake_if_owing(&self) {
        if !self.out.0.is_empty()
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }
}

const COMMANDS_MAX: usize = 1_024;
const READ_LEN: usize = 65_536;
const SPARE_BUFFERS: usize = 256;

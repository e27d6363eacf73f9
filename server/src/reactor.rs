//! An I/O thread: one readiness loop over its own connections.
//!
//! Each round takes what came (commands, sockets), lets the sessions answer, starts the store work that
//! gathered as one batch a kind, and only then writes: one `write` a socket, one append a link. Nothing
//! waits for company; a round is as long as what was ready when it began.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use imlink_link::Sender;
use imlink_protocol::Instant;
use imlink_protocol::link::node::ToRoute;
use imlink_protocol::message::{GoAwayReason, RejectCode, ToDevice};
use imlink_protocol::serving::Transmit;
use imlink_protocol::ticket::TicketKey;
use imlink_seal::{Buckets, Pool, RouteKeys};
use imlink_store::{DeviceKey, RevokedTokens, Store};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use parking_lot::RwLock;
use slab::Slab;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::batches::Batches;
use crate::call::Calls;
use crate::config::Config;
use crate::conn::{Conn, ConnId, Device, Phase};
use crate::contested::Contested;
use crate::handshake::Open;
use crate::inbox::{Command, Inbox, LinkId};
use crate::interface::Interfaces;
use crate::kick::Kicks;
use crate::metrics::Metrics;
use crate::store_work::Done;
use crate::sweep::Sweep;
use crate::table::Table;

const WAKER: Token = Token(usize::MAX);
/// Of sealed links, then of plain ones.
const LISTENERS: [Token; 2] = [Token(usize::MAX - 1), Token(usize::MAX - 2)];
/// Room for what one socket gives at once.
const READ_LEN: usize = 64 * 1024;
/// How long the peer may take the last frame.
const CLOSING: Duration = Duration::from_secs(2);

/// What all I/O threads of a server have in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) incarnation: u64,
    pub(crate) metrics: Metrics,
    pub(crate) store: Store,
    /// What these sent is not handed to devices.
    pub(crate) revoked: RevokedTokens,
    pub(crate) runtime: Handle,
    pub(crate) inboxes: Vec<Inbox>,
    pub(crate) ticket_keys: RwLock<Vec<(u32, TicketKey)>>,
    /// The keys by which devices that log in here know this gateway.
    pub(crate) route_keys: Option<RouteKeys>,
    /// Where handshakes are computed.
    pub(crate) pool: Pool,
    pub(crate) connections: AtomicUsize,
    /// Messages and calls that wait for a device or the store, by thread.
    pub(crate) queued: Vec<AtomicUsize>,
    /// Cancelled when an I/O thread ends.
    pub(crate) ended: CancellationToken,
    pub(crate) started: std::time::Instant,
}

impl Shared {
    pub(crate) fn now(&self) -> Instant {
        Instant::from_millis(self.started.elapsed().as_millis() as u64)
    }
}

/// Why a connection ends, and what its peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Before a session: `Reject`.
    Reject(RejectCode, u32),
    /// In a session: `GoAway`.
    GoAway(GoAwayReason, u32),
    /// The peer is gone or leaves: nothing to say.
    Gone(&'static str),
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Reject(code, _) => code.name(),
            Self::GoAway(reason, _) => reason.name(),
            Self::Gone(name) => name,
        }
    }
}

pub(crate) struct Reactor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Inbox,
    pub(crate) index: usize,
    pub(crate) poll: Poll,
    /// Of sealed links, then of plain ones.
    pub(crate) listeners: [Option<TcpListener>; 2],
    /// The listeners may have more: they tell only once.
    pub(crate) accept_at: Option<Instant>,
    /// Sockets that may have more to read: they tell only once.
    pub(crate) unread: Vec<ConnId>,
    pub(crate) conns: Slab<Conn>,
    pub(crate) serial: u32,
    pub(crate) table: Table,
    pub(crate) now: Instant,
    pub(crate) dirty: Vec<u32>,
    pub(crate) spare: Vec<Vec<u8>>,
    pub(crate) links: Vec<LinkOut>,
    pub(crate) ready: Vec<Done>,
    pub(crate) batches: Batches,
    pub(crate) interfaces: Interfaces,
    pub(crate) kicks: Kicks,
    pub(crate) contested: Contested,
    pub(crate) calls: Calls,
    pub(crate) sweep: Sweep,
    pub(crate) half_open: usize,
    /// Half-open connections in the order they came; may hold some that are so no longer.
    pub(crate) strangers: VecDeque<ConnId>,
    pub(crate) buckets: Buckets,
    pub(crate) open: Open,
    pub(crate) attaching: usize,
    pub(crate) is_stopped: bool,
}

/// Frames of this thread towards one route.
pub(crate) struct LinkOut {
    pub(crate) id: LinkId,
    sender: Sender,
    frames: Vec<u8>,
}

impl Reactor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        index: usize,
        inbox: Inbox,
        poll: Poll,
        mut listeners: [Option<TcpListener>; 2],
    ) -> io::Result<Self> {
        for (listener, token) in listeners.iter_mut().zip(LISTENERS) {
            if let Some(listener) = listener {
                poll.registry().register(listener, token, Interest::READABLE)?;
            }
        }
        let now = shared.now();
        Ok(Self {
            inbox,
            index,
            poll,
            listeners,
            accept_at: None,
            unread: Vec::new(),
            conns: Slab::new(),
            serial: 0,
            table: Table::new(),
            now,
            dirty: Vec::new(),
            spare: Vec::new(),
            links: Vec::new(),
            ready: Vec::new(),
            batches: Batches::default(),
            interfaces: Interfaces::default(),
            kicks: Kicks::default(),
            contested: Contested::default(),
            calls: Calls::new(),
            sweep: Sweep::new(now, &shared.config.limits),
            half_open: 0,
            strangers: VecDeque::new(),
            buckets: Buckets::new(shared.config.limits.rates),
            open: Open::default(),
            attaching: 0,
            is_stopped: false,
            shared,
        })
    }

    /// The token that wakes the loop.
    pub(crate) const fn waker_token() -> Token {
        WAKER
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        let _ended = self.shared.ended.clone().drop_guard();
        let mut events = Events::with_capacity(1024);
        let mut commands = Vec::new();
        let mut scratch = vec![0; READ_LEN];
        while !self.is_stopped {
            if let Err(error) = self.poll.poll(&mut events, Some(self.patience()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the readiness loop of an I/O thread broke");
                return;
            }
            self.now = self.shared.now();
            let unread = std::mem::take(&mut self.unread);
            self.inbox.take(&mut commands);
            for command in commands.drain(..) {
                self.handle_command(command);
            }
            for id in unread {
                self.read(id, true, &mut scratch);
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    token if LISTENERS.contains(&token) => self.accept(),
                    Token(index) => self.handle_ready(index as u32, event, &mut scratch),
                }
            }
            if self.accept_at.is_some_and(|at| at <= self.now) {
                self.accept();
            }
            self.sweep();
            self.settle();
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::FromRoute { link, body } => self.handle_route_frame(link, &body),
            Command::LinkUp { link, sender } => self.links.push(LinkOut { id: link, sender, frames: Vec::new() }),
            Command::LinkDown { link, is_clean } => {
                self.links.retain(|other| other.id != link);
                self.cancel_blobs(link);
                if !is_clean {
                    self.sweep.check_all_heads(self.now);
                }
            }
            Command::Adopt(moving) => self.adopt(*moving),
            Command::Done(done) => self.ready.push(done),
            Command::Shaken(conn, shaken) => self.handle_shaken(conn, shaken),
            Command::StoreBack => self.reassert_all(),
            Command::Admit(is_admitting) => self.sweep.set_admitting(is_admitting),
            Command::Drain(reason) => {
                if reason == GoAwayReason::Draining {
                    for mut listener in self.listeners.iter_mut().filter_map(Option::take) {
                        let _ = self.poll.registry().deregister(&mut listener);
                    }
                }
                self.sweep.start_drain(self.now, reason);
            }
            Command::Stop => self.is_stopped = true,
        }
    }

    /// How long the next wait for readiness may be.
    fn patience(&self) -> Duration {
        let accept = self.accept_at.map_or(Duration::MAX, |at| at.since(self.now));
        let read = if self.unread.is_empty() { Duration::MAX } else { Duration::ZERO };
        self.sweep.interval().min(accept).min(read)
    }

    /// Writes what gathered and starts what gathered, until nothing more comes of it.
    fn settle(&mut self) {
        loop {
            self.start_batches();
            if !self.ready.is_empty() {
                for done in std::mem::take(&mut self.ready) {
                    self.handle_done(done);
                }
            } else if !self.dirty.is_empty() {
                for index in std::mem::take(&mut self.dirty) {
                    self.flush(index);
                }
            } else {
                break;
            }
        }
        for link in &mut self.links {
            if !link.frames.is_empty() {
                if let Err(error) = link.sender.send_encoded(&link.frames) {
                    // What it was to be told is lost: the link ends, and then every hint is checked anew.
                    tracing::warn!(%error, "a link to a route is closed");
                    link.sender.close();
                }
                link.frames.clear();
            }
        }
    }

    fn handle_done(&mut self, done: Done) {
        match done {
            Done::Attached { conn, device, result } => self.handle_attached(conn, device, result),
            Done::Identified { conn, name, read, result } => self.handle_identified(conn, name, read, result),
            Done::Read { conn, result } => self.handle_read(conn, result),
            Done::Acknowledged { acks, reports, result } => self.handle_acknowledged(acks, reports, result),
            Done::Events { batches, result } => self.handle_events_stored(batches, result),
            Done::Heads { conns, result } => self.handle_heads(&conns, result),
            Done::Reasserted { asked, result } => self.handle_reasserted(asked, result),
            Done::Detached { device, epoch, result } => self.handle_detached(device, epoch, result),
            Done::Interface { tenant, fingerprint, result } => self.handle_interface(tenant, fingerprint, result),
            Done::InterfacePut { tenant, fingerprint, interface, result } => {
                self.handle_interface_put(tenant, fingerprint, interface, result);
            }
        }
    }

    /// Marks a connection as having something to write.
    pub(crate) fn mark(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index as usize)
            && !conn.is_dirty
        {
            conn.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// Ends a connection: tells the peer why, gives back what it held, fails what waited for it.
    pub(crate) fn close(&mut self, index: u32, end: End) {
        let closing = Phase::Closing { until: self.now.after(CLOSING) };
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let id = ConnId { index, serial: conn.serial };
        let peer = conn.peer();
        let phase = std::mem::replace(&mut conn.phase, closing);
        match phase {
            Phase::Closing { .. } => {
                // Told already; only a broken or finished socket ends it before its time.
                if let End::Gone(_) = end {
                    self.take_out(index);
                }
                return;
            }
            Phase::Greeting { .. } => self.half_open = self.half_open.saturating_sub(1),
            Phase::Shaking { comes, .. } | Phase::Hello { comes, .. } => {
                self.half_open = self.half_open.saturating_sub(1);
                if let Some(comes) = comes {
                    self.open.leave(&comes.who());
                }
            }
            Phase::Attaching(attaching) => {
                self.attaching = self.attaching.saturating_sub(1);
                self.release_attaching(id, *attaching);
            }
            Phase::Attached(device) => self.release_device(id, *device),
        }
        self.shared.metrics.count_closed(end.name());
        tracing::debug!(?peer, reason = end.name(), "connection closed");
        self.lend_buffer(index);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        match end {
            End::Reject(code, retry_after_s) => conn.out.transmit(&ToDevice::Reject { code, retry_after_s }),
            End::GoAway(reason, reconnect_after_s) => {
                conn.out.transmit(&ToDevice::GoAway { reason, reconnect_after_s })
            }
            End::Gone(_) => {
                self.take_out(index);
                return;
            }
        }
        self.mark(index);
    }

    fn release_device(&mut self, id: ConnId, mut device: Device) {
        self.shared.metrics.attached.dec();
        self.table.remove(device.about.name.as_str(), id.index);
        self.fail_blob(&mut device);
        self.fail_calls(device.calls);
        if !device.is_replaced {
            self.detach(device.about.name, device.session.epoch());
        }
    }

    /// The connection `id` names, if it is still that one.
    pub(crate) fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.index as usize).filter(|conn| conn.serial == id.serial)
    }

    /// The connection of a device.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.table.find(name, |index| name_of(&self.conns, index))
    }

    /// Puts a frame on the way to a route; whether that link is there.
    pub(crate) fn tell(&mut self, link: LinkId, message: &ToRoute<'_>) -> bool {
        let Some(out) = self.links.iter_mut().find(|out| out.id == link) else { return false };
        if imlink_link::encode_onto(message, &mut out.frames).is_err() {
            tracing::error!("a frame for a route is longer than the largest");
        }
        true
    }

    /// Starts store work; see [`store_work::start`](crate::store_work::start).
    pub(crate) fn start(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        crate::store_work::start(work, &self.shared.runtime, &self.inbox, &mut self.ready);
    }
}

/// The device's name of a connection in the slab.
pub(crate) fn name_of(conns: &Slab<Conn>, index: u32) -> Option<&DeviceKey> {
    conns.get(index as usize).and_then(Conn::name)
}

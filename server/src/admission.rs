//! From a connection's first byte to its session: limits, `Hello`, ticket, attach.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imlink_protocol::Instant;
use imlink_protocol::device::LinkKind;
use imlink_protocol::id::MessageId;
use imlink_protocol::limits::{
    EVENT_WINDOW_MAX, FRAME_LEN_MAX, GRANT_LEN_MAX, NUMBER_MAX, RECEIVE_LIMIT_MIN, TICKET_LEN_MAX, WINDOW_MAX,
};
use imlink_protocol::message::{GoAwayReason, Hello, RejectCode, ToDevice, Welcome};
use imlink_protocol::seal::Claim;
use imlink_protocol::serving::{Opening, Session, Transmit};
use imlink_protocol::ticket::{self, Ticket};
use imlink_store::session::{Attach, Attached, NewSession, Promoted, Proof};
use imlink_store::{DeviceKey, Error, Store};
use mio::net::TcpStream;

use crate::config::Login;
use crate::conn::{About, Arriving, Attaching, Comes, ConnId, Device, Moving, Phase, Shown};
use crate::reactor::{End, Reactor, Shared};
use crate::store_work::Done;
use crate::table::thread_of;

/// An attach that the store does not answer is given up after this long.
const ATTACH_PATIENCE: Duration = Duration::from_secs(10);

impl Shared {
    /// Messages that are kept in flight to a device: what it can hold, and what may wait for it here.
    fn window_of(&self, about: &About) -> u8 {
        let bytes = self.config.limits.out_len_max / 2 / (about.receive_limit as usize).max(1);
        about.window.min(bytes.clamp(1, WINDOW_MAX) as u8)
    }
}

impl Reactor {
    /// Lets a new socket in, or tells it to come back, before anything is spent on it.
    pub(crate) fn admit_stream(&mut self, stream: TcpStream, peer: SocketAddr, kind: LinkKind) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a new connection is gone already");
            return;
        }
        let limits = &self.shared.config.limits;
        let connections = self.shared.connections.load(Ordering::Relaxed);
        if connections >= limits.connections_max + limits.half_open_max {
            // Too many even to be told so.
            return;
        }
        let is_full = connections >= limits.connections_max;
        let is_crowded = self.half_open >= limits.half_open_max;
        let is_too_fast = !self.sweep.take_accept(self.now) || !self.take_address(peer.ip());
        let is_admitting = self.sweep.is_admitting();
        let since = self.now;
        let phase = match kind {
            LinkKind::Sealed => Phase::Greeting { since },
            LinkKind::Plain => Phase::Hello { since, comes: None },
        };
        let Some(id) = self.insert(stream, phase) else { return };
        self.half_open += 1;
        if is_full {
            self.close(id.index, End::Reject(RejectCode::Overloaded, 60));
        } else if is_too_fast {
            self.close(id.index, End::Reject(RejectCode::Overloaded, 5));
        } else if !is_admitting {
            self.close(id.index, End::Reject(RejectCode::NoServer, 5));
        } else {
            self.strangers.push_back(id);
            if is_crowded {
                self.crowd_out();
            }
        }
    }

    /// Makes room for a new stranger: the one that has been silent longest goes. A host that holds silent
    /// sockets crowds out its own, devices that say `Hello` get through.
    fn crowd_out(&mut self) {
        while let Some(oldest) = self.strangers.pop_front() {
            if self.conn(oldest).is_some_and(|conn| conn.is_stranger()) {
                self.shared.metrics.count_closed("crowded-out");
                return self.close(oldest.index, End::Reject(RejectCode::Overloaded, 5));
            }
        }
    }

    /// Forgets those at the front that are strangers no longer.
    pub(crate) fn forget_strangers(&mut self) {
        while let Some(oldest) = self.strangers.front().copied() {
            if self.conn(oldest).is_some_and(|conn| conn.is_stranger()) {
                return;
            }
            self.strangers.pop_front();
        }
    }

    /// The first frame of a connection.
    pub(crate) fn handle_hello(&mut self, index: u32, hello: &Hello<'_>, rest: &[u8]) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let Phase::Hello { since, comes } = &mut conn.phase else { return };
        let (since, comes) = (*since, comes.take());
        if let Some(comes) = &comes {
            self.open.leave(comes);
        }
        let attaching = match self.check_hello(hello, comes.map(|comes| *comes)) {
            Ok(attaching) => attaching,
            Err((code, retry_after_s)) => {
                tracing::info!(device = hello.device, %code, "device refused");
                return self.close(index, End::Reject(code, retry_after_s));
            }
        };
        let owner = thread_of(attaching.about.name.as_str(), self.shared.inboxes.len());
        let Some(inbox) = self.shared.inboxes.get(owner).filter(|_| owner != self.index).cloned() else {
            return self.begin_attach(index, attaching);
        };
        if let Some(conn) = self.take_out(index) {
            self.half_open = self.half_open.saturating_sub(1);
            let arriving = Arriving::Hello(attaching);
            let moving = Moving { stream: conn.stream, since, arriving, input: rest.to_vec() };
            inbox.put(crate::inbox::Command::Adopt(Box::new(moving)));
        }
    }

    fn check_hello(&self, hello: &Hello<'_>, comes: Option<Comes>) -> Result<Attaching, (RejectCode, u32)> {
        if hello.version != imlink_protocol::VERSION {
            return Err((RejectCode::Version, 3600));
        }
        let said = Claim { incarnation: hello.incarnation, attempt: hello.attempt };
        let claim = comes.as_ref().map_or(said, |comes| comes.claim);
        let receive = RECEIVE_LIMIT_MIN as u32..=FRAME_LEN_MAX as u32;
        if !receive.contains(&hello.receive_limit) || hello.window == 0 || claim.incarnation == 0 || claim.attempt == 0
        {
            return Err((RejectCode::Malformed, 3600));
        }
        if hello.epoch.max(hello.cursor.generation).max(hello.cursor.sequence) > NUMBER_MAX {
            return Err((RejectCode::Cursor, 60));
        }
        let is_silent = hello.tenant.is_empty() && hello.device.is_empty() && hello.ticket.is_empty();
        let comes = match comes {
            // The handshake said it; said again it would have to be compared.
            Some(comes) if is_silent && said == (Claim { incarnation: 0, attempt: 0 }) => comes,
            Some(_) => return Err((RejectCode::Malformed, 3600)),
            None => self.comes_plainly(hello)?,
        };
        Ok(Attaching {
            about: About::new(comes.name, claim, hello),
            shown: comes.how,
            epoch_floor: comes.epoch_floor.max(hello.epoch),
            cursor: hello.cursor,
            since: self.now,
            hinted: MessageId::default(),
            kicked: 0,
            calls: Vec::new(),
            reports: Vec::new(),
            predecessor: None,
        })
    }

    /// Who comes over a plain link, by its own word and a ticket for such links.
    fn comes_plainly(&self, hello: &Hello<'_>) -> Result<Comes, (RejectCode, u32)> {
        let name = DeviceKey::new(hello.tenant, hello.device).map_err(|_| (RejectCode::UnknownDevice, 60))?;
        let claim = Claim { incarnation: hello.incarnation, attempt: hello.attempt };
        if hello.ticket.is_empty() {
            return match self.shared.config.login {
                Login::Ticket => Err((RejectCode::Ticket, 0)),
                Login::Direct => Ok(Comes { name, claim, epoch_floor: 0, how: Shown::Nothing }),
            };
        }
        let mut room = [0; TICKET_LEN_MAX];
        let keys = self.shared.ticket_keys.read();
        let opened = ticket::open(hello.ticket, &keys, unix_s(), &mut room);
        let (ticket, _) = opened.map_err(|_| (RejectCode::Ticket, 0))?;
        // The ticket of a device that has a key is shown in clear: it proves nothing here.
        if !ticket.is_plain || ticket.tenant != hello.tenant || ticket.device != hello.device {
            return Err((RejectCode::Ticket, 0));
        }
        // Whether it is still provisioned as plain is asked all the same.
        Ok(Comes { name, claim, epoch_floor: ticket.epoch_floor, how: Shown::Nothing })
    }

    /// A connection from another I/O thread whose device belongs here.
    pub(crate) fn adopt(&mut self, moving: Moving) {
        let since = moving.since;
        let phase = match &moving.arriving {
            Arriving::Hello(_) => Phase::Hello { since, comes: None },
            Arriving::Ticket(..) | Arriving::Login(..) => Phase::Shaking { since, comes: None },
        };
        let Some(id) = self.insert(moving.stream, phase) else { return };
        self.half_open += 1;
        self.strangers.push_back(id);
        if let Some(conn) = self.conn(id) {
            conn.input = moving.input;
        }
        self.go_on(id, moving.arriving);
    }

    /// Enters the device in the table as attaching, then asks the store.
    pub(crate) fn begin_attach(&mut self, index: u32, mut attaching: Attaching) {
        let name = attaching.about.name.clone();
        if let Err((code, retry_after_s)) = self.check_attach(&attaching) {
            return self.close(index, End::Reject(code, retry_after_s));
        }
        if let Some(older) = self.find(name.as_str())
            && let Some(Phase::Attaching(_)) = self.conns.get(older as usize).map(|conn| &conn.phase)
        {
            // Its own newer connection overtook it.
            self.close(older, End::Reject(RejectCode::Stale, 0));
        }
        self.half_open = self.half_open.saturating_sub(1);
        self.attaching += 1;
        attaching.predecessor = self
            .find(name.as_str())
            .and_then(|older| self.conns.get(older as usize).map(|conn| ConnId { index: older, serial: conn.serial }));
        let conns = &self.conns;
        self.table.put(name.as_str(), index, |other| crate::reactor::name_of(conns, other));
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.phase = Phase::Attaching(Box::new(attaching));
            let id = ConnId { index, serial: conn.serial };
            self.start_attach(id);
        }
    }

    /// What speaks against an attach before the store is asked; known only to the thread of the device.
    fn check_attach(&mut self, attaching: &Attaching) -> Result<(), (RejectCode, u32)> {
        let about = &attaching.about;
        if self.attaching >= self.shared.config.limits.half_open_max {
            return Err((RejectCode::Overloaded, 5));
        }
        if let Some(delay_s) = self.contested.delay_s(&about.name, self.now) {
            self.shared.metrics.contested.inc();
            tracing::warn!(device = %about.name, delay_s, "two devices use one identity: slowed down; give each its own");
            return Err((RejectCode::Contested, delay_s));
        }
        let older = self.find(about.name.as_str()).and_then(|index| self.conns.get(index as usize));
        match older.map(|conn| &conn.phase) {
            Some(Phase::Attaching(older))
                if older.about.incarnation == about.incarnation && older.about.attempt >= about.attempt =>
            {
                Err((RejectCode::Stale, 0))
            }
            _ => Ok(()),
        }
    }

    /// Asks the store for the session; again while the socket lives and the store does not answer.
    pub(crate) fn start_attach(&mut self, id: ConnId) {
        let shared = self.shared.clone();
        let Some(conn) = self.conn(id) else { return };
        let Phase::Attaching(attaching) = &conn.phase else { return };
        let about = &attaching.about;
        let attach = Attach {
            device: about.name.clone(),
            server: shared.config.name.clone(),
            server_incarnation: shared.incarnation,
            incarnation: about.incarnation,
            attempt: about.attempt,
            epoch_floor: attaching.epoch_floor,
            cursor: attaching.cursor,
            fingerprint: about.fingerprint,
            receive_limit: about.receive_limit,
            event_queue: about.event_queue,
            window: shared.window_of(about).into(),
        };
        let shown = attaching.shown;
        let device = attach.device.clone();
        self.start(async move {
            let result = log_in_and_attach(&shared.store, attach, shown).await;
            Done::Attached { conn: id, device, result }
        });
    }

    pub(crate) fn handle_attached(&mut self, id: ConnId, device: DeviceKey, result: Result<Attached, Error>) {
        let now = self.now;
        let attaching = self.conn(id).and_then(|conn| match &conn.phase {
            Phase::Attaching(attaching) => Some(attaching),
            _ => None,
        });
        let Some(attaching) = attaching else {
            if let Ok(Attached::Session(session)) = result {
                self.undo_session(device, &session);
            }
            return;
        };
        let refusal = match result {
            Ok(Attached::Session(session)) if session.epoch > attaching.kicked => {
                return self.open_session(id, *session);
            }
            Ok(Attached::Session(_)) => (RejectCode::Stale, 0),
            Ok(Attached::UnknownDevice) => (RejectCode::UnknownDevice, 60),
            Ok(Attached::Revoked) => (RejectCode::Revoked, 3600),
            Ok(Attached::Stale) => (RejectCode::Stale, 0),
            Ok(Attached::Cursor) => (RejectCode::Cursor, 60),
            Err(error) if now.since(attaching.since) < ATTACH_PATIENCE => {
                tracing::debug!(%error, device = %attaching.about.name, "attach waits for the store");
                self.shared.metrics.count_retry("attach");
                return self.batches.attach_again.push(id);
            }
            Err(error) => {
                tracing::warn!(%error, device = %attaching.about.name, "attach refused");
                (RejectCode::StoreAway, 5)
            }
        };
        self.close(id.index, End::Reject(refusal.0, refusal.1));
    }

    fn open_session(&mut self, id: ConnId, new: NewSession) {
        let Some(conn) = self.conn(id) else { return };
        let closing = Phase::Closing { until: Instant::default() };
        let Phase::Attaching(attaching) = std::mem::replace(&mut conn.phase, closing) else { return };
        self.attaching = self.attaching.saturating_sub(1);
        self.replace_older(&attaching, &new);
        let generation = new.entries.first().map_or(new.generation, |entry| entry.id.generation);
        let mut session = Session::new(
            self.now,
            &Opening {
                epoch: new.epoch,
                generation,
                offered: new.offered,
                cursor: attaching.cursor,
                window: self.shared.window_of(&attaching.about),
                receive_limit: attaching.about.receive_limit,
                interval: self.shared.config.limits.heartbeat,
                event_position: new.event_position,
                store_ms: new.now_ms,
            },
        );
        session.handle_hint(attaching.hinted);
        let mut grant = [0; GRANT_LEN_MAX];
        let is_plain = self.conn(id).is_none_or(|conn| !conn.out.is_sealed());
        let grant_len = self.grant(&attaching.about.name, is_plain, new.epoch, &mut grant);
        self.lend_buffer(id.index);
        let since = self.now;
        let limits = self.shared.config.limits;
        let Attaching { about, calls, reports, .. } = *attaching;
        let interface = self.interfaces.of(&about);
        let is_interface_known = interface.is_known();
        let Some(conn) = self.conn(id) else { return };
        conn.out.transmit(&ToDevice::Welcome(Welcome {
            epoch: new.epoch,
            generation,
            heartbeat_s: limits.heartbeat.as_secs() as u16,
            frame_limit: limits.frame_len as u32,
            event_window: EVENT_WINDOW_MAX,
            event_position: new.event_position,
            time_ms: new.now_ms,
            grant: grant.get(..grant_len).unwrap_or_default(),
        }));
        conn.phase = Phase::Attached(Box::new(Device {
            about,
            session,
            reports,
            calls: Vec::new(),
            interface,
            is_read_due: false,
            since,
            is_head_due: false,
            blob: None,
            is_replaced: false,
        }));
        self.shared.metrics.attached.inc();
        self.shared.metrics.attaches.inc();
        self.mark(id.index);
        if is_interface_known {
            self.take_first_page(id, &new);
        } else {
            if let Some(device) = self.conn(id).and_then(|conn| conn.device()) {
                device.session.handle_read_failed();
            }
            self.learn_interface(id);
        }
        for call in calls {
            self.start_call(id.index, call);
        }
        let mut input = self.conn(id).map(|conn| std::mem::take(&mut conn.input)).unwrap_or_default();
        if !input.is_empty() {
            self.handle_bytes(id.index, &mut input);
        }
    }

    /// The socket was gone before its session was there: the session is given back, and the one it replaced,
    /// which the store no longer knows, is closed.
    fn undo_session(&mut self, device: DeviceKey, new: &NewSession) {
        self.close_replaced(device.as_str(), new.epoch.saturating_sub(1), GoAwayReason::Replaced);
        if let Some(replaced) = new.replaced.clone().filter(|older| older.incarnation != self.shared.incarnation) {
            self.kick_elsewhere(device.clone(), replaced);
        }
        self.detach(device, new.epoch);
    }

    /// Closes the session that this one replaced: here at once, elsewhere by way of the routes.
    fn replace_older(&mut self, attaching: &Attaching, new: &NewSession) {
        let name = &attaching.about.name;
        if let Some(older) = attaching.predecessor {
            // It may have ended meanwhile, and its place be another device's.
            if let Some(device) = self.conn(older).and_then(|conn| conn.device()) {
                device.is_replaced = true;
                if device.about.incarnation != attaching.about.incarnation {
                    self.contested.count(name, self.now);
                }
                self.close(older.index, End::GoAway(GoAwayReason::Replaced, 0));
            }
        }
        if let Some(replaced) = &new.replaced
            && replaced.incarnation != self.shared.incarnation
        {
            self.contested.count(name, self.now);
            self.kick_elsewhere(name.clone(), replaced.clone());
        }
    }

    /// Makes the grant for the device's next connection; 0 bytes while there is no key for it.
    fn grant(&self, name: &DeviceKey, is_plain: bool, epoch: u64, out: &mut [u8; GRANT_LEN_MAX]) -> usize {
        let keys = self.shared.ticket_keys.read();
        let mut nonce = [0; 24];
        let Some((_, key)) = keys.first().filter(|_| getrandom::fill(&mut nonce).is_ok()) else { return 0 };
        let expires_s = unix_s() + ticket::LIFETIME_S;
        let (tenant, device) = (name.tenant(), name.device());
        let ticket = Ticket { is_plain, tenant, device, epoch_floor: epoch, expires_s };
        ticket::grant(&ticket, key, &nonce, out).unwrap_or_default()
    }

    /// Undoes an attach that came to nothing: the older connection is the device's again.
    pub(crate) fn release_attaching(&mut self, id: ConnId, attaching: Attaching) {
        let name = attaching.about.name;
        self.table.remove(name.as_str(), id.index);
        let older = attaching.predecessor.filter(|older| self.conn(*older).is_some_and(|conn| conn.device().is_some()));
        if let Some(older) = older {
            let conns = &self.conns;
            self.table.put(name.as_str(), older.index, |other| crate::reactor::name_of(conns, other));
            if let Some(device) = self.conn(older).and_then(|conn| conn.device()) {
                if attaching.hinted != MessageId::default() {
                    device.session.handle_hint(attaching.hinted);
                }
                attaching.reports.into_iter().for_each(|report| device.keep_report(Some(report)));
            }
            self.read_on(older.index);
        }
        for call in attaching.calls {
            match older {
                Some(older) => self.start_call(older.index, call),
                None => self.deny_call(name.as_str(), &call),
            }
        }
    }
}

/// The store's part of an admission: who the device is, then its session.
async fn log_in_and_attach(store: &Store, mut attach: Attach, shown: Shown) -> Result<Attached, Error> {
    match shown {
        Shown::Ticket => {}
        Shown::Nothing => match store.identity(&attach.device).await? {
            None => return Ok(Attached::UnknownDevice),
            Some(identity) if identity.revoked => return Ok(Attached::Revoked),
            // A device that has a key never attaches over a plain link.
            Some(identity) if identity.proof != Proof::Plain => return Ok(Attached::UnknownDevice),
            Some(identity) => attach.epoch_floor = attach.epoch_floor.max(identity.epoch),
        },
        // Proved by the record that brought `Hello`: the key before it is over.
        Shown::Key(key) => match store.promote_key(&attach.device, &key).await? {
            Promoted::Promoted | Promoted::Current => {}
            Promoted::OtherKey | Promoted::UnknownDevice => return Ok(Attached::UnknownDevice),
            Promoted::Revoked => return Ok(Attached::Revoked),
        },
    }
    store.attach(&attach).await
}

/// Seconds since 1970 by this machine's clock.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

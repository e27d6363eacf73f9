//! The handshake of a sealed link, from its first frame to the answer.
//!
//! ```text
//! Attach ─ ticket opens? ─▶ the device's thread ─ its turn? ─▶ pool: answer ─▶ Hello
//! Login ── mac fits? ─▶ pool: read ─▶ the device's thread ─ the store knows the key? ─▶ pool: answer ─▶ Hello
//! ```
//!
//! What goes before a Diffie–Hellman costs a few microseconds, and nothing here is kept past the connection: the
//! first message may be a replay.

use std::net::IpAddr;

use imlink_protocol::message::RejectCode;
use imlink_protocol::seal::{Claim, FromStranger, Greeting, SealError};
use imlink_seal::{Answered, AttachRead, LoginRead, OpenHandshakes, Refused};
use imlink_store::session::{FORGED, Identity};
use imlink_store::{DeviceKey, Error};

use crate::admission::unix_s;
use crate::conn::{Arriving, Comes, ConnId, Moving, Phase, Shown};
use crate::inbox::Command;
use crate::reactor::{End, Reactor};
use crate::store_work::Done;
use crate::table::thread_of;

/// Whom an open handshake claims to be: a device, and which of its connections.
pub(crate) type Open = OpenHandshakes<(DeviceKey, Claim)>;

/// What the pool did.
pub(crate) enum Shaken {
    /// Read a login.
    Read(Result<Box<LoginRead>, Refused>),
    /// Answered a handshake.
    Answered(Result<Box<Answered>, Refused>),
}

impl Reactor {
    /// Whether an address may open another connection.
    pub(crate) fn take_address(&mut self, address: IpAddr) -> bool {
        self.buckets.take(address, self.now.as_millis())
    }

    /// The first frame of a sealed link.
    pub(crate) fn handle_greeting(&mut self, id: ConnId, body: &[u8], behind: &[u8]) {
        match FromStranger::decode(body) {
            Ok(FromStranger::Login(greeting)) => self.handle_login(id, &greeting, behind),
            Ok(FromStranger::Attach { ticket, noise, .. }) => self.handle_ticket(id, ticket, noise, behind),
            Err(error) => self.refuse_greeting(id, error),
        }
    }

    fn refuse_greeting(&mut self, id: ConnId, error: SealError) {
        let Some(conn) = self.conn(id) else { return };
        tracing::info!(peer = ?conn.peer(), %error, "no handshake");
        let code = match error {
            SealError::Plain => {
                conn.out.speak_plain();
                RejectCode::Unsealed
            }
            SealError::Version { .. } => RejectCode::Version,
            _ => RejectCode::Malformed,
        };
        self.shared.metrics.count_handshake(error.name());
        self.close(id.index, End::Reject(code, 60));
    }

    fn handle_ticket(&mut self, id: ConnId, ticket: &[u8], noise: &[u8], behind: &[u8]) {
        let read = {
            let keys = self.shared.ticket_keys.read();
            AttachRead::new(ticket, noise, &keys, unix_s())
        };
        match read {
            Ok(read) => match DeviceKey::new(&read.tenant, &read.device) {
                Ok(name) => {
                    let how = Shown::Ticket(read.key);
                    let comes = Comes { name, claim: read.claim, epoch_floor: read.epoch_floor, how };
                    self.arrive(id, Arriving::Ticket(comes, Box::new(read)), behind);
                }
                Err(_) => self.refuse_handshake(id, Refused::Ticket),
            },
            Err(refused) => self.refuse_handshake(id, refused),
        }
    }

    fn handle_login(&mut self, id: ConnId, greeting: &Greeting<'_>, behind: &[u8]) {
        let Some(keys) = &self.shared.route_keys else {
            // An IM-server of a cluster takes tickets only; a device that logs in went to the wrong port.
            return self.refuse_handshake(id, Refused::Ticket);
        };
        match keys.begin(greeting) {
            Ok(begun) => {
                let inbox = self.inbox.clone();
                let is_taken = self.shared.pool.submit(move || {
                    inbox.put(Command::Shaken(id, Shaken::Read(begun.read().map(Box::new))));
                });
                self.wait_for_pool(id, None, behind, is_taken);
            }
            Err(refused) => self.refuse_handshake(id, refused),
        }
    }

    /// Waits until the pool is done, unless it has too much to do.
    fn wait_for_pool(&mut self, id: ConnId, comes: Option<Box<Comes>>, behind: &[u8], is_taken: bool) {
        let Some(conn) = self.conn(id) else { return };
        if let Phase::Greeting { since } | Phase::Shaking { since, .. } = conn.phase {
            conn.phase = Phase::Shaking { since, comes };
        }
        if !is_taken {
            self.shared.metrics.count_handshake("pool-full");
            return self.close(id.index, End::Reject(RejectCode::Overloaded, 5));
        }
        if !behind.is_empty() {
            self.keep_rest(id, behind, true);
        }
    }

    /// Goes on at the thread of the device, which may be another one.
    pub(crate) fn arrive(&mut self, id: ConnId, arriving: Arriving, behind: &[u8]) {
        let Some(since) = self.conn(id).and_then(|conn| match conn.phase {
            Phase::Greeting { since } | Phase::Shaking { since, .. } | Phase::Hello { since, .. } => Some(since),
            _ => None,
        }) else {
            return;
        };
        let name = match &arriving {
            Arriving::Hello(attaching) => &attaching.about.name,
            Arriving::Ticket(comes, _) => &comes.name,
            Arriving::Login(name, _) => name,
        };
        let owner = thread_of(name.as_str(), self.shared.inboxes.len());
        let Some(inbox) = self.shared.inboxes.get(owner).filter(|_| owner != self.index).cloned() else {
            if let Some(conn) = self.conn(id)
                && !behind.is_empty()
            {
                conn.input = behind.into();
            }
            return self.go_on(id, arriving);
        };
        if let Some(mut conn) = self.take_out(id.index) {
            self.half_open = self.half_open.saturating_sub(1);
            conn.input.extend_from_slice(behind);
            let moving = Moving { stream: conn.stream, since, arriving, input: conn.input };
            inbox.put(Command::Adopt(Box::new(moving)));
        }
    }

    /// The device's own thread has its connection.
    pub(crate) fn go_on(&mut self, id: ConnId, arriving: Arriving) {
        match arriving {
            Arriving::Hello(attaching) => self.begin_attach(id.index, attaching),
            Arriving::Ticket(comes, read) => self.answer(id, comes, move || read.answer()),
            Arriving::Login(name, read) => {
                let store = self.shared.store.clone();
                let device = name.clone();
                self.start(async move {
                    let result = store.identity(&device).await;
                    Done::Identified { conn: id, name, read, result }
                });
            }
        }
    }

    /// The store said who may log in by which key.
    pub(crate) fn handle_identified(
        &mut self,
        id: ConnId,
        name: DeviceKey,
        read: Box<LoginRead>,
        result: Result<Option<Identity>, Error>,
    ) {
        if !self.is_shaking(id) {
            return;
        }
        let identity = match result {
            Ok(identity) => identity,
            Err(error) => {
                tracing::debug!(%error, device = %name, "a login is refused while the store is away");
                return self.close(id.index, End::Reject(RejectCode::StoreAway, 5));
            }
        };
        if identity.as_ref().is_some_and(|identity| identity.proof.is_err()) {
            tracing::error!(device = %name, "{FORGED}");
            self.shared.metrics.count_handshake("forged-record");
        }
        // An unknown device and a known one with another key are told the same.
        let fits = |identity: &Identity| identity.proof.is_ok_and(|proof| proof.fits(&read.public_key));
        let Some(identity) = identity.filter(fits) else {
            tracing::info!(device = %name, "a login by an unknown device or key");
            self.shared.metrics.count_handshake("unknown-key");
            return self.close(id.index, End::Reject(RejectCode::UnknownDevice, 60));
        };
        if identity.revoked {
            self.shared.metrics.count_handshake("revoked");
            return self.close(id.index, End::Reject(RejectCode::Revoked, 60));
        }
        let how = Shown::Key(read.public_key);
        let comes = Comes { name, claim: read.claim, epoch_floor: identity.epoch, how };
        self.answer(id, comes, move || read.answer());
    }

    /// Has a handshake answered, if its turn is not over and not too many of the same are open.
    fn answer(
        &mut self,
        id: ConnId,
        comes: Comes,
        answer: impl FnOnce() -> Result<Answered, Refused> + Send + 'static,
    ) {
        if self.is_over(&comes.name, comes.claim) || comes.claim.incarnation == 0 || comes.claim.attempt == 0 {
            self.shared.metrics.count_handshake("attempt-over");
            return self.close(id.index, End::Reject(RejectCode::Stale, 0));
        }
        if !self.open.enter(comes.who()) {
            self.shared.metrics.count_handshake("attempt-open");
            return self.close(id.index, End::Reject(RejectCode::Overloaded, 1));
        }
        let inbox = self.inbox.clone();
        let is_taken = self.shared.pool.submit(move || {
            inbox.put(Command::Shaken(id, Shaken::Answered(answer().map(Box::new))));
        });
        if self.conn(id).is_none() {
            self.open.leave(&comes.who());
            return;
        }
        self.wait_for_pool(id, Some(Box::new(comes)), &[], is_taken);
    }

    /// Whether the device has shown a connection of this or a later number, of the same boot.
    fn is_over(&self, name: &DeviceKey, claim: Claim) -> bool {
        let older = self.find(name.as_str()).and_then(|index| self.conns.get(index as usize));
        let about = match older.map(|conn| &conn.phase) {
            Some(Phase::Attached(device)) => &device.about,
            Some(Phase::Attaching(attaching)) => &attaching.about,
            _ => return false,
        };
        about.incarnation == claim.incarnation && about.attempt >= claim.attempt
    }

    /// Whether that connection is still there and waits: its place may be another one's by now.
    fn is_shaking(&mut self, id: ConnId) -> bool {
        self.conn(id).is_some_and(|conn| matches!(conn.phase, Phase::Shaking { .. }))
    }

    /// The pool is done with a handshake.
    pub(crate) fn handle_shaken(&mut self, id: ConnId, shaken: Shaken) {
        if !self.is_shaking(id) {
            return;
        }
        match shaken {
            Shaken::Read(Ok(read)) => match DeviceKey::new(&read.tenant, &read.device) {
                Ok(name) => self.arrive(id, Arriving::Login(name, read), &[]),
                Err(_) => self.refuse_handshake(id, Refused::Handshake),
            },
            Shaken::Answered(Ok(answered)) => self.handle_answered(id, *answered),
            Shaken::Read(Err(refused)) | Shaken::Answered(Err(refused)) => self.refuse_handshake(id, refused),
        }
    }

    fn handle_answered(&mut self, id: ConnId, answered: Answered) {
        self.lend_buffer(id.index);
        let Some(conn) = self.conn(id) else { return };
        let Phase::Shaking { since, comes } = &mut conn.phase else { return };
        conn.phase = Phase::Hello { since: *since, comes: comes.take() };
        conn.out.bytes.extend_from_slice(&answered.frame);
        conn.seal(answered.records);
        let mut early = std::mem::take(&mut conn.input);
        self.shared.metrics.count_handshake("answered");
        self.mark(id.index);
        if !early.is_empty() {
            self.handle_bytes(id.index, &mut early);
        }
    }

    fn refuse_handshake(&mut self, id: ConnId, refused: Refused) {
        let Some(conn) = self.conn(id) else { return };
        tracing::info!(peer = ?conn.peer(), %refused, "handshake refused");
        self.shared.metrics.count_handshake(refused.name());
        let end = match refused {
            Refused::Ticket | Refused::Expired => End::Reject(RejectCode::Ticket, 0),
            // Whoever cannot write a handshake learns nothing.
            Refused::Mac | Refused::Handshake => End::Gone(refused.name()),
        };
        self.close(id.index, end);
    }
}

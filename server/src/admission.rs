//! From a connection's first byte to a `Hello` that is in order: limits, who comes, a plain link's ticket.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use imlink_protocol::device::LinkKind;
use imlink_protocol::id::MessageId;
use imlink_protocol::limits::{FRAME_LEN_MAX, NUMBER_MAX, RECEIVE_LIMIT_MIN, TICKET_LEN_MAX};
use imlink_protocol::message::{Hello, RejectCode};
use imlink_protocol::seal::Claim;
use imlink_protocol::ticket;
use imlink_store::DeviceKey;
use mio::net::TcpStream;
use thin_vec::ThinVec;

use crate::config::Login;
use crate::conn::{About, Arriving, Attaching, Comes, ConnId, Moving, Phase, Shown};
use crate::reactor::{End, Reactor};

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

    /// The first frame of a connection; who sent it is asked at the thread of the device.
    pub(crate) fn handle_hello(&mut self, index: u32, hello: &Hello<'_>, behind: &[u8]) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let id = ConnId { index, serial: conn.serial };
        let Phase::Hello { comes, .. } = &mut conn.phase else { return };
        let comes = comes.take();
        if let Some(comes) = &comes {
            self.open.leave(&comes.who());
        }
        match self.check_hello(hello, comes.map(|comes| *comes)) {
            Ok(attaching) => self.arrive(id, Arriving::Hello(attaching), behind),
            Err((code, retry_after_s)) => {
                tracing::info!(device = hello.device, %code, "device refused");
                self.close(index, End::Reject(code, retry_after_s));
            }
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
            about: About::new(comes.name, comes.how.key(), claim, hello),
            shown: comes.how,
            epoch_floor: comes.epoch_floor.max(hello.epoch),
            cursor: hello.cursor,
            since: self.now,
            hinted: MessageId::default(),
            kicked: 0,
            calls: Vec::new(),
            reports: ThinVec::new(),
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
}

/// Seconds since 1970 by this machine's clock.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

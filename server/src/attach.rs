//! From a `Hello` that is in order to the session: the device's turn, the store, `Welcome`.

use std::time::Duration;

use imlink_protocol::Instant;
use imlink_protocol::id::MessageId;
use imlink_protocol::limits::{EVENT_WINDOW_MAX, WINDOW_MAX};
use imlink_protocol::message::{GoAwayReason, RejectCode, ToDevice, Welcome};
use imlink_protocol::serving::{Opening, Session, Transmit};
use imlink_store::session::{Attach, Attached, NewSession, Promoted, Proof};
use imlink_store::{DeviceKey, Error, Store};
use thin_vec::ThinVec;

use crate::conn::{About, Attaching, ConnId, Device, Phase, Shown};
use crate::reactor::{End, Reactor, Shared};
use crate::store_work::Done;
use crate::tickets::Grant;

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
            key: about.key,
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
            // The ticket ended with the key that it was given for; a route knows who comes by another one.
            Ok(Attached::OtherKey) => (RejectCode::Ticket, 0),
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
        let is_plain = self.conn(id).is_none_or(|conn| !conn.out.is_sealed());
        let grant = self.grant(&attaching.about, is_plain, new.epoch);
        let renewal = self.renewal_after(grant.is_some());
        self.lend_buffer(id.index);
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
            grant: grant.as_ref().map_or(&[], Grant::bytes),
        }));
        conn.phase = Phase::Attached(Box::new(Device {
            about,
            session,
            reports,
            calls: ThinVec::new(),
            interface,
            is_read_due: false,
            renewal,
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
        Shown::Ticket(_) => {}
        Shown::Nothing => match store.identity(&attach.device).await? {
            None => return Ok(Attached::UnknownDevice),
            Some(identity) if identity.revoked => return Ok(Attached::Revoked),
            // A device that has a key never attaches over a plain link.
            Some(identity) if identity.proof != Ok(Proof::Plain) => return Ok(Attached::UnknownDevice),
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

//! Stored messages: from a route's hint or the mailbox to the device, and its acknowledgement back.

use bytes::Bytes;
use imlink_protocol::frame;
use imlink_protocol::id::{Cursor, MessageId, TokenId};
use imlink_protocol::key::Key;
use imlink_protocol::link::node::{Deliver, ToRoute, ToServer};
use imlink_protocol::message::Code;
use imlink_protocol::serving::{Delivered, MailboxHead, Outgoing};
use imlink_store::mailbox::{Acknowledge, Entry, Page, Read};
use imlink_store::session::{Head, NewSession};
use imlink_store::{Error, RevokedTokens};
use thin_vec::{ThinVec, thin_vec};

use crate::conn::{ConnId, Phase, Report};
use crate::inbox::LinkId;
use crate::interface::Interface;
use crate::reactor::Reactor;
use crate::store_work::Done;

/// Reports kept for one device; a route asks the store itself for the ones past it.
const REPORTS_MAX: usize = 1024;

impl Reactor {
    /// A frame of a route about a device of this thread.
    pub(crate) fn handle_route_frame(&mut self, link: LinkId, body: &Bytes) {
        match frame::decode::<ToServer<'_>>(body) {
            Ok(ToServer::Deliver(deliver)) => self.handle_deliver(link, &deliver),
            Ok(ToServer::CallDevice(call)) => self.handle_call(link, &call, body),
            Ok(ToServer::CancelCall { request }) => self.handle_cancel(link, request),
            Ok(ToServer::Kick { request, device, epoch, revoked }) => {
                self.handle_kick(link, request, device, epoch, revoked)
            }
            Ok(ToServer::Blob(blob)) => self.handle_blob(link, &blob),
            Ok(ToServer::KickDone { request, outcome }) => self.handle_kick_done(request, outcome),
            Ok(ToServer::Registered(_) | ToServer::Refused { .. } | ToServer::Ping) => {}
            Err(error) => tracing::error!(%error, "a frame that the link let through cannot be read"),
        }
    }

    fn handle_deliver(&mut self, link: LinkId, deliver: &Deliver<'_>) {
        let report = deliver.report.then_some(Report { id: deliver.id, link, is_acked: false });
        let Some(index) = self.find(deliver.device) else {
            self.tell(link, &ToRoute::NotHere { device: deliver.device, request: 0, epoch: 0 });
            return;
        };
        self.lend_buffer(index);
        let now = self.now;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let device = match &mut conn.phase {
            Phase::Attached(device) => device,
            Phase::Attaching(attaching) => {
                attaching.hinted = attaching.hinted.max(deliver.id);
                attaching.reports.extend(report.filter(|_| attaching.reports.len() < REPORTS_MAX));
                return;
            }
            _ => return,
        };
        let message =
            Outgoing { id: deliver.id, key: deliver.key, expires_ms: deliver.expires_ms, payload: deliver.payload };
        let refusal = refusal(&self.shared.revoked, &device.interface, deliver.token, deliver.key);
        if refusal.is_some() || !self.shared.revoked.is_known() {
            // Unknown yet, or to be refused in its turn: the mailbox is read.
            device.session.handle_hint(deliver.id);
            device.keep_report(report);
            return self.read_on(index);
        }
        match device.session.handle_deliver(now, &message, &mut conn.out) {
            Delivered::Sent => {
                device.keep_report(report);
                self.mark(index);
            }
            Delivered::Known if device.session.is_in_flight(deliver.id) => device.keep_report(report),
            Delivered::Known => {
                if let Some(report) = report {
                    let (name, epoch) = (device.about.name.clone(), device.session.epoch());
                    self.report_ended(name, epoch, thin_vec![report]);
                }
            }
            Delivered::Later => {
                device.keep_report(report);
                self.read_on(index);
            }
        }
    }

    /// Starts the read of the mailbox that the session wants, if any.
    pub(crate) fn read_on(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let id = ConnId { index, serial: conn.serial };
        let Phase::Attached(device) = &mut conn.phase else { return };
        if !device.interface.is_known() || device.is_read_due {
            return;
        }
        let Some(wanted) = device.session.poll_read() else { return };
        let read = Read {
            device: device.about.name.clone(),
            epoch: device.session.epoch(),
            after: wanted.after,
            limit: wanted.limit,
        };
        let store = self.shared.store.clone();
        self.start(async move { Done::Read { conn: id, result: store.read_mailbox(&read).await } });
    }

    pub(crate) fn handle_read(&mut self, id: ConnId, result: Result<Option<Page>, Error>) {
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        match result {
            Ok(Some(page)) => self.take_page(id, &page.entries, page.head, page.more),
            Ok(None) => {
                // Replaced, or lost by a store that came back: asserting it again tells which.
                device.session.handle_read_failed();
                device.is_read_due = true;
                self.batches.reassert.push(id);
            }
            Err(error) => {
                tracing::debug!(%error, device = %device.about.name, "the mailbox is read later");
                device.session.handle_read_failed();
                device.is_read_due = true;
                self.shared.metrics.count_retry("read-mailbox");
            }
        }
    }

    /// The entries that came with the session.
    pub(crate) fn take_first_page(&mut self, id: ConnId, new: &NewSession) {
        let head = Head { generation: new.generation, last: new.last, waiting: 0 };
        self.take_page(id, &new.entries, head, new.more);
    }

    fn take_page(&mut self, id: ConnId, entries: &[Entry], head: Head, more: bool) {
        self.lend_buffer(id.index);
        let now = self.now;
        let revoked = self.shared.revoked.clone();
        let Some(conn) = self.conn(id) else { return };
        let Phase::Attached(device) = &mut conn.phase else { return };
        if !revoked.is_known() {
            // The store is asked; the sweep reads again.
            device.session.handle_read_failed();
            device.is_read_due = true;
            return;
        }
        // What this session has in flight is the device's already.
        let sent = device.session.sent();
        let refusal = |entry: &Entry| {
            let of = refusal(&revoked, &device.interface, entry.token, entry.key);
            of.filter(|code| *code == Code::INTERFACE || entry.id > sent)
        };
        let next_refused: Vec<(MessageId, Code)> = entries
            .iter()
            .map(|entry| (entry.id, refusal(entry)))
            .skip_while(|(_, code)| code.is_none())
            .map_while(|(id, code)| Some((id, code?)))
            .collect();
        let first_refused = next_refused.first().and_then(|(first, _)| entries.iter().position(|e| e.id == *first));
        let allowed = entries.get(..first_refused.unwrap_or(entries.len())).unwrap_or_default();
        let outgoing = allowed.iter().map(|entry| Outgoing {
            id: entry.id,
            key: entry.key,
            expires_ms: entry.expires_ms,
            payload: &entry.payload,
        });
        let head = MailboxHead { generation: head.generation, last: head.last };
        let page = device.session.handle_page(now, outgoing, head, more || first_refused.is_some(), &mut conn.out);
        let refused = match page.refused {
            Some(refused) => vec![refused],
            None if page.taken == allowed.len() => next_refused,
            None => Vec::new(),
        };
        if !refused.is_empty() {
            self.refuse_entries(id, refused);
        } else if entries.is_empty() && more {
            // Not what a store says; not to be asked again in a circle.
            device.is_read_due = true;
        }
        self.settle_reports(id);
        self.mark(id.index);
        self.read_on(id.index);
    }

    /// Entries that this device can never take become `rejected`; reading goes on once that is written.
    fn refuse_entries(&mut self, id: ConnId, rejected: Vec<(MessageId, Code)>) {
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        device.is_read_due = true;
        let ack = Acknowledge {
            device: device.about.name.clone(),
            epoch: device.session.epoch(),
            upto: Cursor::default(),
            rejected,
        };
        for (_, code) in &ack.rejected {
            self.shared.metrics.count_rejected(code.name());
        }
        self.batches.acks.put(ack, ThinVec::new());
    }

    /// Routes that wait for messages which ended without reaching the device ask the store themselves.
    fn settle_reports(&mut self, id: ConnId) {
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        if device.reports.is_empty() {
            return;
        }
        let session = &device.session;
        let is_over = |report: &mut Report| {
            let is_passed = report.id <= session.sent() || !session.is_waiting();
            is_passed && !session.is_in_flight(report.id)
        };
        let over: ThinVec<Report> = device.reports.extract_if(.., is_over).collect();
        let (name, epoch) = (device.about.name.clone(), session.epoch());
        if !over.is_empty() {
            self.report_ended(name, epoch, over);
        }
    }

    /// The device handled everything up to `upto`; with a code it refused `upto` itself.
    pub(crate) fn handle_acked(&mut self, id: ConnId, upto: MessageId, code: Option<Code>) {
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        let (name, epoch) = (device.about.name.clone(), device.session.epoch());
        let mut reports = std::mem::take(&mut device.reports);
        device.reports.extend(reports.extract_if(.., |report| report.id > upto));
        for report in &mut reports {
            report.is_acked = code.is_none() || report.id != upto;
        }
        if let Some(code) = code {
            self.shared.metrics.count_rejected(code.name());
        }
        let rejected = code.map(|code| (upto, code)).into_iter().collect();
        self.batches.acks.put(Acknowledge { device: name, epoch, upto, rejected }, reports);
    }
}

/// Why a message is never handed to a device that it was stored for.
fn refusal(revoked: &RevokedTokens, interface: &Interface, token: TokenId, key: Key) -> Option<Code> {
    if revoked.contains(token) {
        Some(Code::FORBIDDEN)
    } else if !interface.lists_message(key) {
        Some(Code::INTERFACE)
    } else {
        None
    }
}

impl crate::conn::Device {
    /// A route wants to hear what becomes of a message.
    pub(crate) fn keep_report(&mut self, report: Option<Report>) {
        if self.reports.len() < REPORTS_MAX {
            self.reports.extend(report);
        }
    }
}

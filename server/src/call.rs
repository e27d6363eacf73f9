//! Calls: asked by a route, answered by the device, never stored and never sent twice.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::Instant;
use imlink_protocol::key::Key;
use imlink_protocol::limits::CALLS_MAX;
use imlink_protocol::link::node::{CallDevice, CallFailure, ToRoute};
use imlink_protocol::message::{Code, ToDevice};
use imlink_protocol::serving::{CallRefused, Transmit};
use thin_vec::ThinVec;

use crate::conn::{ConnId, Phase};
use crate::inbox::LinkId;
use crate::reactor::Reactor;

/// The calls that routes wait for: where each was sent.
pub(crate) type Calls = HashMap<(LinkId, u64), ConnId>;

/// A call that waits for its device to attach.
pub(crate) struct WaitingCall {
    link: LinkId,
    request: u64,
    key: Key,
    deadline: Instant,
    payload: Bytes,
}

/// A call that the device has.
pub(crate) struct PendingCall {
    /// Number on the device's link.
    request: u32,
    link: LinkId,
    /// Number on the route's link.
    asked: u64,
    deadline: Instant,
}

impl Reactor {
    pub(crate) fn handle_call(&mut self, link: LinkId, call: &CallDevice<'_>, body: &Bytes) {
        let deny = |epoch| ToRoute::NotHere { device: call.device, request: call.request, epoch };
        let Some(index) = self.find(call.device) else {
            self.tell(link, &deny(0));
            return;
        };
        if self.calls.contains_key(&(link, call.request)) {
            return;
        }
        let waiting = WaitingCall {
            link,
            request: call.request,
            key: call.key,
            deadline: self.now.after(Duration::from_millis(call.remaining_ms.into())),
            payload: body.slice_ref(call.payload),
        };
        match self.conns.get_mut(index as usize).map(|conn| &mut conn.phase) {
            Some(Phase::Attached(device)) if device.session.epoch() >= call.epoch => self.start_call(index, waiting),
            Some(Phase::Attached(device)) => {
                let epoch = device.session.epoch();
                self.tell(link, &deny(epoch));
            }
            Some(Phase::Attaching(attaching)) if attaching.calls.len() < CALLS_MAX => {
                // Not to hold on to all that came with it.
                let payload = Bytes::copy_from_slice(call.payload);
                attaching.calls.push(WaitingCall { payload, ..waiting });
                let serial = self.conns.get(index as usize).map_or(0, |conn| conn.serial);
                self.calls.insert((link, call.request), ConnId { index, serial });
            }
            Some(Phase::Attaching(_)) => self.fail_call(link, call.request, CallFailure::Busy),
            _ => {
                self.tell(link, &deny(0));
            }
        }
    }

    /// Sends a call to its device, once.
    pub(crate) fn start_call(&mut self, index: u32, call: WaitingCall) {
        let WaitingCall { link, request: asked, key, deadline, payload } = call;
        self.lend_buffer(index);
        let now = self.now;
        let remaining = deadline.since(now);
        let out_len_max = self.shared.config.limits.out_len_max / 2;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let id = ConnId { index, serial: conn.serial };
        let Phase::Attached(device) = &mut conn.phase else { return };
        let refused = if remaining.is_zero() {
            Some(CallFailure::Deadline)
        } else if device.calls.len() >= CALLS_MAX || conn.out.bytes.len() + payload.len() > out_len_max {
            Some(CallFailure::Busy)
        } else if device.interface.is_known() && !device.interface.lists_call(key) {
            Some(CallFailure::UnknownPath)
        } else {
            match device.session.call(now, key, remaining, &payload, &mut conn.out) {
                Ok(request) => {
                    device.calls.push(PendingCall { request, link, asked, deadline });
                    self.calls.insert((link, asked), id);
                    self.shared.metrics.calls.inc();
                    None
                }
                Err(CallRefused::TooLarge { max }) => Some(CallFailure::TooLarge { max }),
            }
        };
        match refused {
            Some(why) => {
                self.calls.remove(&(link, asked));
                self.fail_call(link, asked, why);
            }
            None => self.mark(index),
        }
    }

    pub(crate) fn handle_reply(&mut self, id: ConnId, request: u32, status: Code, payload: &[u8]) {
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        // An answer to a call that was cancelled or is past its deadline has nobody to go to.
        let Some(at) = device.calls.iter().position(|call| call.request == request) else { return };
        let PendingCall { link, asked, .. } = device.calls.swap_remove(at);
        if device.calls.is_empty() {
            device.calls = ThinVec::new();
        }
        self.calls.remove(&(link, asked));
        self.tell(link, &ToRoute::Replied { request: asked, status, payload });
    }

    /// Nobody waits any longer: the device is told, its answer is dropped.
    pub(crate) fn handle_cancel(&mut self, link: LinkId, asked: u64) {
        let Some(id) = self.calls.remove(&(link, asked)) else { return };
        let Some(conn) = self.conn(id) else { return };
        let device = match &mut conn.phase {
            Phase::Attached(device) => device,
            Phase::Attaching(attaching) => {
                return attaching.calls.retain(|call| (call.link, call.request) != (link, asked));
            }
            _ => return,
        };
        let Some(at) = device.calls.iter().position(|call| call.link == link && call.asked == asked) else { return };
        let request = device.calls.swap_remove(at).request;
        conn.out.transmit(&ToDevice::Cancel { request });
        self.mark(id.index);
    }

    /// Ends the calls of a device whose deadline passed.
    pub(crate) fn expire_calls(&mut self, id: ConnId) {
        let now = self.now;
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        if device.calls.is_empty() {
            return;
        }
        let late: Vec<PendingCall> = device.calls.extract_if(.., |call| call.deadline <= now).collect();
        self.fail_all(late, CallFailure::Deadline);
    }

    /// The session ended: its calls may have run.
    pub(crate) fn fail_calls(&mut self, calls: ThinVec<PendingCall>) {
        self.fail_all(calls, CallFailure::Disconnected);
    }

    /// The device a call waited for did not come.
    pub(crate) fn deny_call(&mut self, device: &str, call: &WaitingCall) {
        self.calls.remove(&(call.link, call.request));
        self.tell(call.link, &ToRoute::NotHere { device, request: call.request, epoch: 0 });
    }

    fn fail_all(&mut self, calls: impl IntoIterator<Item = PendingCall>, why: CallFailure) {
        for call in calls {
            self.calls.remove(&(call.link, call.asked));
            self.fail_call(call.link, call.asked, why);
        }
    }

    fn fail_call(&mut self, link: LinkId, request: u64, why: CallFailure) {
        self.tell(link, &ToRoute::CallFailed { request, why });
    }
}

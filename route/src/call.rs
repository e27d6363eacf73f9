//! Forwarding a call: straight to the server that held the device when last seen; never twice.
//!
//! ```text
//! Question ──seat known──▶ CallDevice ──Replied, CallFailed──▶ answered
//!     │                       │  └─NotHere─▶ look up once more ─▶ elsewhere, or offline
//!     └─no seat─▶ look up     └─a quarter of the time over─▶ look up; moved: kick ─▶ disconnected
//! ```
//!
//! `offline` is said only when the store has no session, its server is gone, or that server denied the
//! device. A denied call did not start, so it may go elsewhere; an unanswered one may have run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use imlink_protocol::id::Epoch;
use imlink_protocol::interface::Kind;
use imlink_protocol::key::Key;
use imlink_protocol::limits::PAYLOAD_OVERHEAD;
use imlink_protocol::link::backend::Failure;
use imlink_protocol::link::node::{CallDevice, CallFailure, ToServer};
use imlink_protocol::message::Code;
use imlink_store::DeviceKey;

use crate::asker::Asker;
use crate::calls::Pending;
use crate::core::{Core, key_of};
use crate::devices::{Known, Seat};
use crate::kick::{self, KickFor};
use crate::node::ServerLink;
use crate::outgoing::Outgoing;
use crate::push::too_large;
use crate::request::Failed;
use crate::text::Text;

/// A call that no server has yet.
pub(crate) struct Question {
    pub(crate) path: Text,
    pub(crate) payload: Bytes,
    pub(crate) asked: Instant,
    pub(crate) deadline: Instant,
    pub(crate) asker: Asker,
}

/// A call with its key, on the way to a server.
struct Call {
    device: DeviceKey,
    key: Key,
    payload: Bytes,
    asked: Instant,
    deadline: Instant,
    asker: Asker,
    denials: u32,
}

impl Question {
    /// Sends the call to the session of `known`, or finds out where that is.
    pub(crate) fn ask(self, core: &Arc<Core>, known: Known, out: &mut Outgoing) {
        let key = match key_of(&known, Kind::Call, self.path.as_str()) {
            Ok(key) => key,
            Err(failed) => return self.asker.fail(failed, out),
        };
        if known.receive_limit > 0 && self.payload.len() + PAYLOAD_OVERHEAD > known.receive_limit as usize {
            return self.asker.fail(too_large(self.payload.len(), known.receive_limit), out);
        }
        let Self { payload, asked, deadline, asker, .. } = self;
        let device = known.device;
        let call = Call { device, key, payload, asked, deadline, asker, denials: 0 };
        match known.seat.and_then(|seat| core.servers.seated(seat).map(|link| (seat, link))) {
            Some((seat, link)) => call.send(core, seat, &link, out),
            None => drop(core.tasks.spawn(call.find(core.clone()))),
        }
    }
}

impl Call {
    fn send(self, core: &Core, seat: Seat, link: &ServerLink, out: &mut Outgoing) {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        let remaining_ms = u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX);
        if remaining_ms == 0 {
            let why = "the deadline passed before the device was asked; the call did not run";
            return self.asker.fail(Failed::new(Failure::Deadline, why), out);
        }
        let number = core.next_number();
        let (device, payload) = (self.device.clone(), self.payload.clone());
        let message = ToServer::CallDevice(CallDevice {
            request: number,
            device: device.as_str(),
            epoch: seat.epoch,
            key: self.key,
            remaining_ms,
            payload: &payload,
        });
        core.calls.insert(number, self.pending(seat));
        core.waiters.some.notify_one();
        if let Err(error) = out.put(&link.sender, &message)
            && let Some(call) = core.calls.take_any(number)
        {
            return call.asker.fail(Failed::new(Failure::TooLarge, error.to_string()), out);
        }
        core.metrics.calls.inc();
        // The link may have ended before the call was entered; then nobody else takes it out.
        if link.sender.is_closed()
            && let Some(call) = core.calls.take(number, seat.incarnation)
        {
            disconnected(call.asker, out);
        }
    }

    fn pending(self, seat: Seat) -> Pending {
        let Self { device, key, payload, asked, deadline, asker, denials } = self;
        Pending { device, seat, key, payload, asker, asked, deadline, denials, is_checked: false }
    }

    /// Looks up where the device is and sends the call there.
    async fn find(self, core: Arc<Core>) {
        let give_up = self.deadline.min(Instant::now() + LINK_WAIT);
        loop {
            let known = match look_up(&core, &self.device, self.deadline).await {
                Ok(known) => known,
                Err(failed) => return self.asker.fail(failed, &mut Outgoing::default()),
            };
            let Some(seat) = known.seat else {
                return self.offline("it has no session");
            };
            if let Some(link) = core.servers.seated(seat) {
                return self.send(&core, seat, &link, &mut Outgoing::default());
            }
            if core.servers.is_gone(seat.incarnation) || !is_leased(&core, seat.incarnation).await {
                return self.offline("its IM-server is gone");
            }
            if Instant::now() >= give_up {
                return self.offline("its IM-server has no link to this route at the moment, try again");
            }
            tokio::time::sleep(LINK_POLL).await;
        }
    }

    fn offline(self, why: &str) {
        let detail = format!(
            "device {} is not attached: {why}; the call did not run. Send a message instead if it should wait",
            self.device.device()
        );
        self.asker.fail(Failed::new(Failure::Offline, detail), &mut Outgoing::default());
    }
}

/// `link` answered call `number`.
pub(crate) fn replied(core: &Core, link: &ServerLink, number: u64, status: Code, payload: &Bytes, out: &mut Outgoing) {
    let Some(call) = core.calls.take(number, link.incarnation) else { return };
    core.metrics.call_seconds.observe(call.asked.elapsed().as_secs_f64());
    let device = call.device.device();
    let failed = match status {
        Code::UNKNOWN_PATH => Failed::new(
            Failure::UnknownPath,
            format!("device {device} does not know this path for calls; the call did not run"),
        ),
        Code::BUSY => busy(device),
        Code::DEADLINE => Failed::new(
            Failure::Deadline,
            format!("the deadline passed before device {device} began; the call did not run"),
        ),
        _ => return call.asker.replied(status, payload, out),
    };
    call.asker.fail(failed, out);
}

/// `link` says that call `number` ended without the device's answer.
pub(crate) fn failed(core: &Core, link: &ServerLink, number: u64, why: CallFailure, out: &mut Outgoing) {
    let Some(call) = core.calls.take(number, link.incarnation) else { return };
    let device = call.device.device();
    let failed = match why {
        CallFailure::Busy => busy(device),
        CallFailure::Disconnected => return disconnected(call.asker, out),
        CallFailure::Deadline => no_answer(),
        CallFailure::TooLarge { max } => {
            let len = call.payload.len();
            let why = format!("the payload has {len} bytes, device {device} takes at most {max}: ask for less");
            Failed::new(Failure::TooLarge, why)
        }
        CallFailure::UnknownPath => {
            let why = format!("the interface of device {device} does not list this path for calls");
            Failed::new(Failure::UnknownPath, why)
        }
    };
    call.asker.fail(failed, out);
}

/// `link` says that it does not hold the session that call `number` was sent to.
pub(crate) fn denied(core: &Arc<Core>, link: &ServerLink, number: u64, epoch: Epoch) {
    let Some(pending) = core.calls.take(number, link.incarnation) else { return };
    core.devices.forget(pending.device.as_str());
    core.tasks.spawn(try_elsewhere(core.clone(), pending, epoch));
}

/// A server denied the device, so the call did not start: it goes where the store says, if that is
/// another session, or once more to the same one if that server cannot know better yet.
async fn try_elsewhere(core: Arc<Core>, pending: Pending, denied: Epoch) {
    let Pending { device, seat: asked_at, key, payload, asker, asked, deadline, denials, .. } = pending;
    let call = Call { device, key, payload, asked, deadline, asker, denials: denials + 1 };
    let known = match look_up(&core, &call.device, deadline).await {
        Ok(known) => known,
        Err(failed) => return call.asker.fail(failed, &mut Outgoing::default()),
    };
    match known.seat {
        None => call.offline("it has no session any more"),
        Some(_) if call.denials >= DENIALS_MAX => call.offline("its IM-server denies having it"),
        Some(seat) if seat == asked_at && denied >= asked_at.epoch => {
            call.offline("its IM-server knows that its session ended");
        }
        Some(seat) => {
            if seat == asked_at {
                // The server may be about to learn of the session that it made itself.
                tokio::time::sleep(DENIAL_PAUSE).await;
            }
            call.find(core).await;
        }
    }
}

/// Call `number` has no answer yet: if its device moved, the old session is closed and the call with it.
pub(crate) async fn check(core: Arc<Core>, number: u64, device: DeviceKey, seat: Seat) {
    let Ok(known) = core.look_up(&device).await else { return };
    let moved = known.seat.is_some_and(|now| now != seat);
    core.devices.learn(known);
    if moved && core.calls.is_waiting(number) {
        kick::start(&core, &device, seat, false, KickFor::Call(number));
    }
}

/// The link to `incarnation` ended: its calls have no way back.
pub(crate) fn link_lost(core: &Core, incarnation: u64) {
    let mut out = Outgoing::default();
    for call in core.calls.take_all(incarnation) {
        disconnected(call.asker, &mut out);
    }
}

/// Ends calls whose time is over or that nobody waits for.
pub(crate) fn end_over(core: &Core, over: Vec<(u64, Pending)>, now: Instant, out: &mut Outgoing) {
    for (number, call) in over {
        if let Some(link) = core.servers.seated(call.seat) {
            // A cancel that finds no room is not worth more than that.
            let _ = out.put(&link.sender, &ToServer::CancelCall { request: number });
        }
        if call.deadline <= now {
            core.metrics.call_seconds.observe(call.asked.elapsed().as_secs_f64());
            call.asker.fail(no_answer(), out);
        } else {
            call.asker.dismiss();
        }
    }
}

/// The session that a call was in ended before the answer.
pub(crate) fn disconnected(asker: Asker, out: &mut Outgoing) {
    let why = "the device's session ended before its answer; the call may have run";
    asker.fail(Failed::new(Failure::Disconnected, why), out);
}

fn no_answer() -> Failed {
    Failed::new(Failure::Deadline, "the device did not answer by the deadline; the call may have run")
}

fn busy(device: &str) -> Failed {
    let why = format!("device {device} has as many calls in flight as it takes; this one did not run");
    Failed::later(Failure::Busy, Duration::from_secs(1), why)
}

async fn look_up(core: &Core, device: &DeviceKey, deadline: Instant) -> Result<Known, Failed> {
    match tokio::time::timeout_at(deadline.into(), core.look_up(device)).await {
        Ok(found) => found.inspect(|known| core.devices.learn(known.clone())),
        Err(_) => {
            let why = "the store did not answer by the deadline; the call did not run: try again";
            Err(Failed::later(Failure::StoreAway, Duration::from_secs(1), why))
        }
    }
}

/// Whether the store has a lease of `incarnation`; a store that does not answer proves nothing.
async fn is_leased(core: &Core, incarnation: u64) -> bool {
    match core.store.servers().await {
        Ok(servers) => servers.iter().any(|server| server.incarnation == incarnation),
        Err(_) => true,
    }
}

/// Longest wait for a link to the server that holds the device.
const LINK_WAIT: Duration = Duration::from_secs(2);
const LINK_POLL: Duration = Duration::from_millis(100);
/// Denials after which a device counts as offline.
const DENIALS_MAX: u32 = 2;
const DENIAL_PAUSE: Duration = Duration::from_millis(100);

//! Kicks: a session that a newer one replaced is closed wherever it is.
//!
//! The store names the replaced session when the newer one attaches. If another server holds it, that server
//! is asked through any route, again and again, until it closed the session, denies it, or is gone.

use std::collections::HashMap;
use std::time::Duration;

use imlink_protocol::Instant;
use imlink_protocol::id::Epoch;
use imlink_protocol::link::node::{KickOutcome, ToRoute};
use imlink_protocol::message::GoAwayReason;
use imlink_store::DeviceKey;
use imlink_store::session::Session;

use crate::conn::{ConnId, Phase};
use crate::inbox::LinkId;
use crate::reactor::{End, Reactor};

/// Pause before an unanswered kick is asked again.
const AGAIN: Duration = Duration::from_secs(2);
/// Kicks remembered at once; past it the older session ends by its own head check or heartbeat.
const KICKS_MAX: usize = 65_536;

/// Kicks on their way.
#[derive(Default)]
pub(crate) struct Kicks {
    next: u64,
    pending: HashMap<u64, Kick>,
}

struct Kick {
    device: DeviceKey,
    session: Session,
    tried: usize,
    due: Instant,
}

impl Reactor {
    /// Sees to it that `session`, held by another server, ends.
    pub(crate) fn kick_elsewhere(&mut self, device: DeviceKey, session: Session) {
        if self.kicks.pending.len() >= KICKS_MAX {
            tracing::warn!(%device, "too many replaced sessions at once: one is left to its heartbeat");
            return;
        }
        // Numbered apart from those of the other threads: the answer goes to all of them.
        self.kicks.next += 1;
        let request = self.kicks.next * self.shared.inboxes.len() as u64 + self.index as u64;
        self.kicks.pending.insert(request, Kick { device, session, tried: 0, due: self.now });
        self.send_kick(request);
    }

    fn send_kick(&mut self, request: u64) {
        let due = self.now.after(AGAIN);
        let Some(kick) = self.kicks.pending.get_mut(&request) else { return };
        kick.due = due;
        kick.tried += 1;
        // Each try goes through another route.
        let at = kick.tried % self.links.len().max(1);
        let Some(link) = self.links.get(at).map(|link| link.id) else { return };
        let (device, session) = (kick.device.clone(), kick.session.clone());
        self.tell(
            link,
            &ToRoute::Kick {
                request,
                device: device.as_str(),
                epoch: session.epoch,
                server: &session.server,
                incarnation: session.incarnation,
            },
        );
    }

    pub(crate) fn handle_kick_done(&mut self, request: u64, outcome: KickOutcome) {
        match outcome {
            KickOutcome::Kicked | KickOutcome::NotHere | KickOutcome::Gone => {
                self.kicks.pending.remove(&request);
            }
            KickOutcome::Unreachable => {}
        }
    }

    /// Asks again for kicks that nobody answered.
    pub(crate) fn retry_kicks(&mut self) {
        let now = self.now;
        let due: Vec<u64> =
            self.kicks.pending.iter().filter(|(_, kick)| kick.due <= now).map(|(request, _)| *request).collect();
        for request in due {
            self.send_kick(request);
        }
    }

    /// Closes the session of `device` if its epoch is at most `epoch`, also while a newer connection of the
    /// device is attaching; whether there was one.
    pub(crate) fn close_replaced(&mut self, device: &str, epoch: Epoch, reason: GoAwayReason) -> bool {
        let Some(index) = self.find(device) else { return false };
        let Some(conn) = self.conns.get(index as usize) else { return false };
        let id = match &conn.phase {
            Phase::Attaching(attaching) => attaching.predecessor,
            _ => Some(ConnId { index, serial: conn.serial }),
        };
        let Some(id) = id else { return false };
        let Some(held) = self.conn(id).and_then(|conn| conn.device()) else { return false };
        if held.session.epoch() > epoch {
            return false;
        }
        held.is_replaced = true;
        self.close(id.index, End::GoAway(reason, 0));
        true
    }

    /// A route says that sessions of `device` up to `epoch` are over.
    pub(crate) fn handle_kick(&mut self, link: LinkId, request: u64, device: &str, epoch: Epoch, is_revoked: bool) {
        if let Some(conn) = self.find(device).and_then(|index| self.conns.get_mut(index as usize))
            && let Phase::Attaching(attaching) = &mut conn.phase
        {
            // Its attach may turn out to be the one that was replaced.
            attaching.kicked = attaching.kicked.max(epoch);
        }
        let reason = if is_revoked { GoAwayReason::Revoked } else { GoAwayReason::Replaced };
        let closed = self.close_replaced(device, epoch, reason);
        self.tell(link, &ToRoute::Kicked { request, closed });
    }
}

//! Kicks: closing a session that a newer one replaced, or whose device was revoked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imlink_link::Sender;
use imlink_protocol::id::Epoch;
use imlink_protocol::link::node::{KickOutcome, ToServer};
use imlink_store::DeviceKey;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::call;
use crate::core::Core;
use crate::devices::Seat;
use crate::outgoing::Outgoing;

/// Why a session is closed, and who hears of it.
pub(crate) enum KickFor {
    /// Another IM-server attached the device.
    Server {
        /// Its link.
        sender: Sender,
        /// Its number of the kick.
        request: u64,
    },
    /// The device of this call moved.
    Call(u64),
    /// The device was revoked or removed.
    Revoked(oneshot::Sender<KickOutcome>),
}

struct Pending {
    incarnation: u64,
    what: KickFor,
    give_up: Instant,
}

/// Kicks that wait for `Kicked`, by the route's number.
#[derive(Default)]
pub(crate) struct Kicks {
    pending: Mutex<HashMap<u64, Pending>>,
}

/// Sends a kick to the server that holds `seat`. Without a link to it, `what` hears at once what is known.
pub(crate) fn start(core: &Core, device: &DeviceKey, seat: Seat, revoked: bool, what: KickFor) {
    core.devices.forget(device.as_str());
    let Some(link) = core.servers.seated(seat) else {
        return finish(core, what, unreached(core, seat.incarnation));
    };
    let number = core.next_number();
    let give_up = Instant::now() + ANSWER_MAX;
    core.kicks.insert(number, Pending { incarnation: seat.incarnation, what, give_up }, core);
    let kick = ToServer::Kick { request: number, device: device.as_str(), epoch: seat.epoch, revoked };
    if link.sender.send(&kick).is_err() {
        kicked(core, seat.incarnation, number, KickOutcome::Unreachable);
    }
    core.waiters.some.notify_one();
}

/// A server asks that the session `epoch` of `device` at `incarnation` be closed.
pub(crate) fn forward(
    core: &Arc<Core>,
    from: &Sender,
    request: u64,
    device: &str,
    epoch: Epoch,
    server: &str,
    incarnation: u64,
) {
    let what = KickFor::Server { sender: from.clone(), request };
    let seat = Seat { server: core.tag(server), incarnation, epoch };
    match DeviceKey::parse(device) {
        Ok(device) if core.servers.seated(seat).is_some() => start(core, &device, seat, false, what),
        Ok(device) => {
            core.devices.forget(device.as_str());
            let (core, server) = (core.clone(), server.to_owned());
            core.clone().tasks.spawn(async move {
                let outcome = match is_gone(&core, &server, incarnation).await {
                    true => KickOutcome::Gone,
                    false => KickOutcome::Unreachable,
                };
                finish(&core, what, outcome);
            });
        }
        Err(error) => {
            tracing::warn!(%error, "a server named a device wrongly in a kick");
            finish(core, what, KickOutcome::NotHere);
        }
    }
}

/// Closes the live session of a revoked or removed device; tries for a while, since links come back.
pub(crate) async fn revoke(core: Arc<Core>, device: DeviceKey, seat: Seat) {
    for _ in 0..REVOKE_TRIES {
        let (tell, told) = oneshot::channel();
        start(&core, &device, seat, true, KickFor::Revoked(tell));
        match told.await {
            Ok(KickOutcome::Unreachable) => tokio::time::sleep(REVOKE_PAUSE).await,
            _ => return,
        }
    }
    tracing::warn!(%device, "no link to the server that holds a revoked device; its session ends at its next attach");
}

/// `incarnation` answered kick `number`.
pub(crate) fn kicked(core: &Core, incarnation: u64, number: u64, outcome: KickOutcome) {
    let mut pending = core.kicks.pending.lock();
    if pending.get(&number).is_some_and(|kick| kick.incarnation == incarnation)
        && let Some(kick) = pending.remove(&number)
    {
        drop(pending);
        finish(core, kick.what, outcome);
    }
}

/// The link to `incarnation` ended: what is asked of it is not answered any more.
pub(crate) fn link_lost(core: &Core, incarnation: u64) {
    let lost: Vec<_> = core.kicks.pending.lock().extract_if(|_, kick| kick.incarnation == incarnation).collect();
    for (_, kick) in lost {
        finish(core, kick.what, KickOutcome::Unreachable);
    }
}

/// Ends kicks that were not answered in time.
pub(crate) fn sweep(core: &Core, now: Instant) {
    let late: Vec<_> = core.kicks.pending.lock().extract_if(|_, kick| kick.give_up <= now).collect();
    for (_, kick) in late {
        finish(core, kick.what, KickOutcome::Unreachable);
    }
}

impl Kicks {
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.lock().is_empty()
    }

    fn insert(&self, number: u64, kick: Pending, core: &Core) {
        let mut pending = self.pending.lock();
        if pending.len() < KICKS_MAX {
            pending.insert(number, kick);
        } else {
            drop(pending);
            finish(core, kick.what, KickOutcome::Unreachable);
        }
    }
}

fn finish(core: &Core, what: KickFor, outcome: KickOutcome) {
    match what {
        KickFor::Server { sender, request } => {
            // A server whose link ended asks through another route.
            let _ = sender.send(&ToServer::KickDone { request, outcome });
        }
        KickFor::Call(number) if outcome != KickOutcome::Unreachable => {
            if let Some(pending) = core.calls.take_any(number) {
                call::disconnected(pending.asker, &mut Outgoing::default());
            }
        }
        // Who revoked asks until it is told.
        KickFor::Revoked(tell) => drop(tell.send(outcome)),
        KickFor::Call(_) => {}
    }
}

fn unreached(core: &Core, incarnation: u64) -> KickOutcome {
    if core.servers.is_gone(incarnation) { KickOutcome::Gone } else { KickOutcome::Unreachable }
}

/// Whether that incarnation is gone for good: seen to end, replaced under its name, or without a lease
/// for so long that it had every chance to find this route.
async fn is_gone(core: &Core, server: &str, incarnation: u64) -> bool {
    if core.servers.is_gone(incarnation) || core.servers.is_replaced(server, incarnation) {
        return true;
    }
    match core.store.servers().await {
        Ok(servers) => {
            let is_leased = servers.iter().any(|lease| lease.incarnation == incarnation);
            let is_renamed = servers.iter().any(|lease| lease.name == server && lease.incarnation != incarnation);
            !is_leased && (is_renamed || core.servers.had_time())
        }
        Err(_) => false,
    }
}

/// Longest wait for `Kicked`.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Kicks in flight at most; past it askers are told to try another route.
const KICKS_MAX: usize = 65_536;
const REVOKE_TRIES: u32 = 20;
const REVOKE_PAUSE: Duration = Duration::from_millis(250);

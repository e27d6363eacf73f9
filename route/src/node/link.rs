//! The exchange with one IM-server.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imlink_link::seal::PublicKey;
use imlink_link::{Batch, Link, LinkError};
use imlink_protocol::frame;
use imlink_protocol::link::backend::State;
use imlink_protocol::link::node::{KickOutcome, ToRoute, ToServer};
use imlink_store::DeviceKey;
use tokio::time::MissedTickBehavior;

use super::servers::ServerLink;
use super::{lease, probe, register};
use crate::blob;
use crate::call;
use crate::core::Core;
use crate::devices::Seat;
use crate::kick;
use crate::outgoing::Outgoing;
use crate::push::{look_after, settle};

/// Why a link ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The stream ended, broke, or brought garbage.
    Closed,
    /// No sign of life, not even when asked.
    Silent,
    /// This route leaves.
    Stopped,
}

/// Serves the IM-server `name` at the other end of `link` until the link ends.
pub(crate) async fn serve(core: Arc<Core>, mut link: Link, name: String, key: Option<PublicKey>) {
    let Some(server) = register::register(&core, &mut link, name, key).await else { return };
    lease::put(&core, &server);
    let ended = exchange(&core, &server, &mut link).await;
    server.sender.close();
    let was_current = core.servers.leave(&server);
    core.metrics.servers.set(i64::try_from(core.servers.len()).unwrap_or(i64::MAX));
    call::link_lost(&core, server.incarnation);
    blob::link_lost(&core, server.incarnation);
    kick::link_lost(&core, server.incarnation);
    if was_current && ended != Ended::Stopped {
        tracing::warn!(server = %server.name, ?ended, "the link of an IM-server ended");
        core.metrics.link_ended(if ended == Ended::Silent { "silent" } else { "closed" });
        core.tasks.spawn(probe::probe(core.clone(), server, ended));
    }
}

async fn exchange(core: &Arc<Core>, server: &Arc<ServerLink>, link: &mut Link) -> Ended {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopped = pin!(core.stopped.cancelled());
    let mut closed = pin!(server.sender.closed());
    let mut out = Outgoing::default();
    let mut pinged: Option<Instant> = None;
    let mut day = register::today();
    loop {
        tokio::select! {
            biased;
            () = stopped.as_mut() => return Ended::Stopped,
            // Its key was removed, or another link took its place: what it still says is not heard.
            () = closed.as_mut() => return Ended::Closed,
            _ = tick.tick() => {
                let now = Instant::now();
                if server.silence(now) < QUIET_AFTER {
                    pinged = None;
                } else if let Some(at) = pinged {
                    if now.duration_since(at) > PONG_MAX {
                        return Ended::Silent;
                    }
                } else {
                    pinged = Some(now);
                    // A link that takes nothing is silent too.
                    let _ = server.sender.send(&ToServer::Ping);
                }
                if register::today() != day {
                    day = register::send_keys(core, server);
                }
            }
            batch = link.receiver.receive() => {
                let taken = match batch {
                    Ok(Some(batch)) => take(core, server, &batch, &mut out),
                    Ok(None) => return Ended::Closed,
                    Err(error) => Err(error),
                };
                out.flush();
                if let Err(error) = taken {
                    tracing::warn!(server = %server.name, %error, "an IM-server sent what is no frame");
                    core.metrics.link_ended("malformed");
                    return Ended::Closed;
                }
            }
        }
    }
}

fn take(core: &Arc<Core>, server: &Arc<ServerLink>, batch: &Batch, out: &mut Outgoing) -> Result<(), LinkError> {
    let now = Instant::now();
    server.heard(now);
    for body in batch.frames() {
        match frame::decode::<ToRoute<'_>>(body?)? {
            ToRoute::Acked { device, epoch, id } => {
                let seat = Seat { server: core.tag(&server.name), incarnation: server.incarnation, epoch };
                core.waiters.acked(device, id, seat, |waiter| settle(core, waiter, State::Acked, now, out));
            }
            ToRoute::Settled { device, id, .. } => {
                if core.waiters.is_waited_for(device, id)
                    && let Ok(device) = DeviceKey::parse(device)
                {
                    let shared = core.clone();
                    core.tasks.spawn(async move { look_after(&shared, &device, id).await });
                }
            }
            ToRoute::Replied { request, status, payload } => {
                call::replied(core, server, request, status, &batch.share(payload), out);
            }
            ToRoute::CallFailed { request, why } => call::failed(core, server, request, why, out),
            ToRoute::Blob { request, frame } => blob::said(core, server, request, &frame, batch),
            ToRoute::NotHere { device, request: 0, .. } => core.devices.forget(device),
            ToRoute::NotHere { request, epoch, .. } => call::denied(core, server, request, epoch),
            ToRoute::Kick { request, device, epoch, server: at, incarnation } => {
                kick::forward(core, &server.sender, request, device, epoch, at, incarnation);
            }
            ToRoute::Kicked { request, closed } => {
                let outcome = if closed { KickOutcome::Kicked } else { KickOutcome::NotHere };
                kick::kicked(core, server.incarnation, request, outcome);
            }
            ToRoute::Load(load) => server.reported(load, now),
            // A second Register changes nothing; who the server is was settled by the first.
            ToRoute::Pong | ToRoute::Register(_) => {}
        }
    }
    Ok(())
}

const TICK: Duration = Duration::from_secs(1);
/// Reports come every 2 s; after three missed ones the server is asked.
const QUIET_AFTER: Duration = Duration::from_secs(6);
/// Longest wait for the answer.
const PONG_MAX: Duration = Duration::from_secs(3);

//! What each message of a backend link needs; the one place where that is said.

use std::time::Instant;

use imlink_protocol::link::backend::FromBackend;

use crate::access::{Caller, Need, Verb};
use crate::core::Core;
use crate::request::Failed;

/// What `message` needs, and whether it counts as a request of the token's rate. A new kind of message does not
/// compile until it is listed here.
pub(super) fn of<'a>(message: &FromBackend<'a>) -> (Need<'a>, Counts) {
    match *message {
        FromBackend::Send(send) => (Need::Device(Verb::Send, send.device), Counts::Yes),
        FromBackend::Call { device, .. } => (Need::Device(Verb::Call, device), Counts::Yes),
        FromBackend::State { device, .. } => (Need::Device(Verb::State, device), Counts::Yes),
        FromBackend::Cancel { device, .. } => (Need::Device(Verb::Cancel, device), Counts::Yes),
        FromBackend::Subscribe { .. } | FromBackend::Commit { .. } => (Need::Verb(Verb::Events), Counts::Yes),
        FromBackend::Credit { .. } => (Need::Verb(Verb::Events), Counts::No),
        // A link gives up only what it asked for itself.
        FromBackend::Abandon { .. } => (Need::Nothing, Counts::No),
        FromBackend::Ping | FromBackend::Hello { .. } => (Need::Nothing, Counts::No),
    }
}

/// Whether a message is a request of the token's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    Yes,
    No,
}

/// The number under which `message` is answered.
pub(super) fn number(message: &FromBackend<'_>) -> u64 {
    match *message {
        FromBackend::Send(send) => send.request,
        FromBackend::Call { request, .. }
        | FromBackend::State { request, .. }
        | FromBackend::Cancel { request, .. }
        | FromBackend::Abandon { request }
        | FromBackend::Subscribe { request, .. }
        | FromBackend::Credit { request, .. }
        | FromBackend::Commit { request, .. } => request,
        FromBackend::Ping | FromBackend::Hello { .. } => 0,
    }
}

/// Whether `caller` may have `message` done now.
pub(super) fn check(core: &Core, caller: &Caller, message: &FromBackend<'_>, now: Instant) -> Result<(), Failed> {
    let (need, counts) = of(message);
    if need == Need::Nothing {
        return Ok(());
    }
    caller.is_current(core)?;
    caller.check(need)?;
    match counts {
        Counts::Yes => caller.take_rate(now),
        Counts::No => Ok(()),
    }
}

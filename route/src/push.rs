//! Forwarding a send: append, hint, answer.
//!
//! ```text
//! Push ──key of the path──▶ append ──Stored──▶ Deliver to the session's server (a hint)
//!                             │                     │
//!                     Away: the same id again       ├─ wait=stored: answered
//!                     InterfaceChanged: once anew   └─ wait=acked: a Waiter
//! ```
//!
//! From the moment `append` is sent nothing that a backend does cancels the rest. With a store whose
//! calls are ready at once, all of it happens within the caller's batch; else the first poll does, so that
//! appends leave in the order of the sends, and a task of its own does the rest.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use imlink_protocol::id::{MessageId, TokenId};
use imlink_protocol::interface::Kind;
use imlink_protocol::link::backend::{Failure, State, Wait};
use imlink_protocol::link::node::{Deliver, ToServer};
use imlink_store::Error;
use imlink_store::mailbox::{Append, Appended, Stored};
use tokio::time::sleep_until;

use crate::asker::Asker;
use crate::core::{Core, key_of, poll_now, revoked, store_failed, unknown_device};
use crate::devices::Known;
use crate::once::Once;
use crate::outgoing::Outgoing;
use crate::request::{Failed, Sent};
use crate::text::Text;
use crate::waiters::Waiter;

/// A send on its way to the store.
pub(crate) struct Push {
    pub(crate) path: Text,
    pub(crate) ttl_s: u32,
    pub(crate) wait: Wait,
    pub(crate) asked: Instant,
    pub(crate) deadline: Instant,
    pub(crate) payload: Bytes,
    /// Who sends it.
    pub(crate) token: TokenId,
    /// Names this append in all its tries.
    pub(crate) id: [u8; 16],
    /// An append with this id may have been sent before.
    pub(crate) is_retry: bool,
    /// What the client's idempotency key stands for.
    pub(crate) once: Option<Box<Once>>,
    pub(crate) asker: Asker,
}

/// A push whose append is, or was, under way.
struct Appending {
    core: Arc<Core>,
    known: Known,
    append: Append,
    push: Waiting,
}

/// What is left of a push while the store works.
struct Waiting {
    path: Text,
    wait: Wait,
    asked: Instant,
    deadline: Instant,
    once: Option<Box<Once>>,
    asker: Option<Asker>,
}

impl Push {
    /// Appends to the mailbox of `known`, and all that follows.
    pub(crate) fn append(self, core: &Arc<Core>, known: Known, out: &mut Outgoing) {
        let key = match key_of(&known, Kind::Message, self.path.as_str()) {
            Ok(key) => key,
            Err(failed) => return self.asker.fail(failed, out),
        };
        let waiting_max = core.config.limits.outbox_len_max / 4 * 3;
        if known.seat.is_some_and(|seat| core.servers.is_congested(seat.incarnation, waiting_max)) {
            let why = "the device's IM-server does not keep up with what is sent to it: try again";
            return self.asker.fail(Failed::later(Failure::Overloaded, Duration::from_secs(1), why), out);
        }
        let append = Append {
            device: known.device.clone(),
            id: self.id,
            retry: self.is_retry,
            key,
            fingerprint: known.fingerprint,
            token: self.token,
            ttl_s: self.ttl_s,
            payload: self.payload,
            mailbox_max: core.config.limits.mailbox_max,
        };
        let push = Waiting {
            path: self.path,
            wait: self.wait,
            asked: self.asked,
            deadline: self.deadline,
            once: self.once,
            asker: Some(self.asker),
        };
        let mut appending = Appending { core: core.clone(), known, append, push };
        if core.is_immediate {
            let first = poll_now(pin!(core.store.append(&appending.append)));
            match first {
                Some(Ok(appended)) if !matches!(appended, Appended::InterfaceChanged(_)) => {
                    return appending.finish(appended, out);
                }
                _ => appending.append.retry = true,
            }
        }
        let mut rest = Box::pin(appending.run());
        if poll_now(rest.as_mut()).is_none() {
            core.tasks.spawn(rest);
        }
    }
}

impl Appending {
    async fn run(mut self) {
        let mut pause = RETRY_FIRST;
        let mut may_refetch = true;
        let failed = loop {
            match self.try_append().await {
                Ok(Appended::InterfaceChanged(_)) if may_refetch => {
                    may_refetch = false;
                    if let Err(failed) = self.learn_interface().await {
                        break failed;
                    }
                }
                Ok(appended) => {
                    let mut out = Outgoing::default();
                    return self.finish(appended, &mut out);
                }
                Err(Error::Away(why)) => {
                    self.append.retry = true;
                    if self.push.asker.is_none() || Instant::now() + pause >= self.push.deadline {
                        break may_be_stored(&format!("the store is away: {why}"));
                    }
                    self.core.metrics.append_retries.inc();
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_SLOWEST);
                }
                Err(error) => break store_failed(&error),
            }
        };
        if let Some(asker) = self.push.asker.take() {
            asker.fail(failed, &mut Outgoing::default());
        }
    }

    /// One append. At the deadline the backend is answered, but the append goes on: if it was executed,
    /// the device should not have to wait for its next heartbeat.
    async fn try_append(&mut self) -> Result<Appended, Error> {
        let deadline = self.push.deadline.into();
        let mut append = pin!(self.core.store.append(&self.append));
        loop {
            tokio::select! {
                biased;
                appended = append.as_mut() => return appended,
                () = sleep_until(deadline), if self.push.asker.is_some() => {
                    if let Some(asker) = self.push.asker.take() {
                        let failed = may_be_stored("the store did not answer by the deadline");
                        asker.fail(failed, &mut Outgoing::default());
                    }
                }
            }
        }
    }

    async fn learn_interface(&mut self) -> Result<(), Failed> {
        self.core.devices.forget(self.known.device.as_str());
        self.known = self.core.look_up(&self.known.device).await?;
        self.core.devices.learn(self.known.clone());
        self.append.key = key_of(&self.known, Kind::Message, self.push.path.as_str())?;
        self.append.fingerprint = self.known.fingerprint;
        Ok(())
    }

    fn finish(mut self, appended: Appended, out: &mut Outgoing) {
        if let Appended::Stored(stored) = appended {
            return self.stored(&stored, out);
        }
        self.core.devices.forget(self.known.device.as_str());
        if let Some(asker) = self.push.asker.take() {
            asker.fail(refused(&self, &appended), out);
        }
    }

    fn stored(mut self, stored: &Stored, out: &mut Outgoing) {
        let core = &self.core;
        core.metrics.stored.inc();
        let seat = stored.session.as_ref().map(|session| core.seat(session));
        core.devices.reseat(&self.known, seat);
        if let Some(once) = self.push.once.take() {
            once.done(core, stored.id);
        }
        let asker = self.push.asker.take();
        let report = self.push.wait == Wait::Acked && asker.is_some();
        if let Some(asker) = asker {
            if report {
                let Waiting { asked, deadline, .. } = self.push;
                let device = self.append.device.clone();
                core.waiters.insert(Waiter::new(device, stored.id, seat, asker, asked, deadline));
            } else {
                asker.sent(Sent { id: stored.id, state: State::Waiting }, out);
            }
        }
        let Some(seat) = seat else { return };
        let Some(link) = core.servers.seated(seat) else { return };
        let deliver = Deliver {
            device: self.append.device.as_str(),
            epoch: seat.epoch,
            id: stored.id,
            key: self.append.key,
            expires_ms: stored.expires_ms,
            report,
            token: self.append.token,
            payload: &self.append.payload,
        };
        match out.put(&link.sender, &ToServer::Deliver(deliver)) {
            Ok(()) => drop(core.metrics.delivers.inc()),
            // The payload's limit leaves room for the fields around it.
            Err(error) => tracing::error!(%error, "a hint does not fit a frame"),
        }
    }
}

/// What the backend is told of an append that stored nothing.
fn refused(appending: &Appending, appended: &Appended) -> Failed {
    let (device, append) = (&appending.known.device, &appending.append);
    match appended {
        Appended::Unknown => may_be_stored("the store answered too late to tell"),
        Appended::UnknownDevice => unknown_device(device),
        Appended::Revoked => revoked(device),
        Appended::MailboxFull { waiting } => {
            let why = format!(
                "{waiting} messages wait for device {}, at most {} may: wait until it took some",
                device.device(),
                append.mailbox_max
            );
            Failed::later(Failure::MailboxFull, Duration::from_secs(5), why)
        }
        Appended::TooLarge { receive_limit } => too_large(append.payload.len(), *receive_limit),
        Appended::InterfaceChanged(_) | Appended::Stored(_) => {
            let why = format!("the interface of device {} keeps changing: try again", device.device());
            Failed::later(Failure::Conflict, Duration::from_secs(1), why)
        }
    }
}

/// A payload that the device does not take.
pub(crate) fn too_large(len: usize, receive_limit: u32) -> Failed {
    let max = (receive_limit as usize).saturating_sub(imlink_protocol::limits::PAYLOAD_OVERHEAD);
    let why = format!("the payload has {len} bytes, the device takes at most {max}: send less at once");
    Failed::new(Failure::TooLarge, why)
}

fn may_be_stored(what: &str) -> Failed {
    let why = format!("{what}; the message may be stored: repeat it only with its idempotency key");
    Failed::later(Failure::MayBeStored, Duration::from_secs(1), why)
}

/// The states that nothing follows.
pub(crate) fn is_final(state: State) -> bool {
    !matches!(state, State::Waiting | State::Sent)
}

/// Looks up the state of a message somebody waits for and answers if it came to an end.
pub(crate) async fn look_after(core: &Arc<Core>, device: &imlink_store::DeviceKey, id: MessageId) {
    core.metrics.state_lookups.inc();
    let state = core.store.message_state(device, id).await;
    let mut out = Outgoing::default();
    let end = match state {
        Ok(None) => Some(State::Unknown),
        Ok(Some(state)) if is_final(state) => Some(state),
        _ => None,
    };
    let now = Instant::now();
    match end {
        Some(state) => core.waiters.finish(device.as_str(), id, |waiter| {
            settle(core, waiter, state, now, &mut out);
        }),
        None => {
            let state = state.ok().flatten().unwrap_or(State::Unknown);
            core.waiters.wait_on(device.as_str(), id, now, |waiter| {
                settle(core, waiter, state, now, &mut out);
            });
        }
    }
}

/// Answers one that waited.
pub(crate) fn settle(core: &Core, waiter: Waiter, state: State, now: Instant, out: &mut Outgoing) {
    if state == State::Acked {
        core.metrics.acked.inc();
    }
    core.metrics.send_seconds.observe(now.saturating_duration_since(waiter.asked).as_secs_f64());
    waiter.asker.sent(Sent { id: waiter.id, state }, out);
}

/// Pauses between tries of an append that the store did not answer.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_SLOWEST: Duration = Duration::from_millis(500);

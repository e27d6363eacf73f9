//! The exchange with one backend.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imlink_link::{Batch, Link, LinkError};
use imlink_protocol::frame;
use imlink_protocol::id::check_device_id;
use imlink_protocol::limits::HELLO_DEADLINE;
use imlink_protocol::link::backend::{Failure, FromBackend, Send, State, ToBackend};
use imlink_protocol::{MessageId, VERSION};

use super::subscriptions::Subscriptions;
use super::{BackendLink, need};
use crate::access::Caller;
use crate::asker::Asker;
use crate::call::Question;
use crate::core::{Core, poll_now};
use crate::handle::Route;
use crate::lookups::{Request, submit};
use crate::once::Once;
use crate::outgoing::Outgoing;
use crate::push::Push;
use crate::request::Failed;
use crate::text::Text;

/// Serves the backend at the other end of `link` until the link ends.
pub(super) async fn serve(core: Arc<Core>, mut link: Link) {
    let Some(backend) = admit(&core, &mut link).await else { return };
    if let Err(error) = exchange(&core, &backend, &mut link).await {
        tracing::warn!(backend = %backend.name, %error, "the link of a backend is cut");
        core.metrics.link_ended("malformed");
    }
    backend.sender.close();
    // Whatever waited for it is gone with it.
    core.has_abandoned.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// Checks the first frame and welcomes the backend.
async fn admit(core: &Arc<Core>, link: &mut Link) -> Option<Arc<BackendLink>> {
    let first = tokio::time::timeout(HELLO_DEADLINE, link.receiver.receive()).await;
    let Ok(Ok(Some(batch))) = first else {
        core.metrics.link_ended("no-hello");
        return None;
    };
    let checked = match batch.frames().next().and_then(Result::ok).map(frame::decode::<FromBackend<'_>>) {
        Some(Ok(FromBackend::Hello { version: VERSION, token, name, tenant })) => {
            match tokio::time::timeout(HELLO_DEADLINE, core.tokens.authenticate(core, token, tenant)).await {
                Ok(caller) => caller.and_then(|caller| Ok((check_name(name)?, caller))),
                Err(_) => Err(Failed::later(Failure::StoreAway, RETRY, "the store does not answer: try again")),
            }
        }
        Some(Ok(FromBackend::Hello { version, .. })) => {
            let why = format!("protocol version {version} is not spoken here, only {VERSION}: use one release");
            Err(Failed::new(Failure::BadRequest, why))
        }
        _ => Err(Failed::new(Failure::BadRequest, "the first frame of a backend link must be Hello")),
    };
    match checked {
        Ok((name, caller)) => {
            let limits = &core.config.limits;
            let backend = Arc::new(BackendLink::new(core.clone(), link.sender.clone(), name, caller));
            let welcome = ToBackend::Welcome { route: &core.config.name, requests_max: limits.link_requests_max };
            backend.sender.send(&welcome).ok()?;
            // Nothing may follow Hello before the Welcome.
            Some(backend)
        }
        Err(failed) => {
            core.metrics.link_ended(failed.failure.name());
            let nobody = Arc::new(Caller::of_configuration(""));
            let backend = BackendLink::new(core.clone(), link.sender.clone(), String::new(), nobody);
            backend.put_failed(0, &failed, &mut Outgoing::default());
            backend.sender.close();
            None
        }
    }
}

fn check_name(name: &str) -> Result<String, Failed> {
    match check_device_id(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(error) => Err(Failed::new(Failure::BadRequest, format!("backend name {name:?} {error}"))),
    }
}

async fn exchange(core: &Arc<Core>, backend: &Arc<BackendLink>, link: &mut Link) -> Result<(), LinkError> {
    let mut stopped = pin!(core.stopped.cancelled());
    let mut draining = pin!(core.draining.cancelled());
    let mut told = false;
    let mut look = tokio::time::interval(LOOK);
    let mut out = Outgoing::default();
    let mut subscriptions = Subscriptions::new(backend.clone());
    loop {
        tokio::select! {
            biased;
            () = stopped.as_mut() => return Ok(()),
            () = draining.as_mut(), if !told => {
                told = true;
                // A backend that is gone needs no word.
                let _ = backend.sender.send(&ToBackend::GoAway);
            }
            _ = look.tick() => {
                if let Err(failed) = backend.caller.is_current(core) {
                    // Its subscriptions end with it.
                    core.metrics.link_ended(failed.failure.name());
                    backend.put_failed(0, &failed, &mut out);
                    out.flush();
                    return Ok(());
                }
            }
            batch = link.receiver.receive() => {
                let Some(batch) = batch? else { return Ok(()) };
                take(core, backend, &batch, &mut subscriptions, &mut out)?;
                out.flush();
                if backend.sender.is_closed() {
                    return Ok(());
                }
            }
        }
    }
}

fn take(
    core: &Arc<Core>,
    backend: &Arc<BackendLink>,
    batch: &Batch,
    subscriptions: &mut Subscriptions,
    out: &mut Outgoing,
) -> Result<(), LinkError> {
    let now = Instant::now();
    let caller = &backend.caller;
    for body in batch.frames() {
        let message = frame::decode::<FromBackend<'_>>(body?)?;
        if let Err(failed) = need::check(core, caller, &message, now) {
            refuse(backend, need::number(&message), &failed, out);
            continue;
        }
        match message {
            FromBackend::Send(send) => {
                let request = send.request;
                if let Err(failed) = begin_send(core, backend, batch, &send, now, out) {
                    refuse(backend, request, &failed, out);
                }
            }
            FromBackend::Call { request, device, path, timeout_ms, payload } => {
                let begun = begin_call(core, backend, batch, (request, path, timeout_ms, payload), now);
                match begun {
                    Ok(question) => {
                        submit(core, &caller.tenant, device, Request::Call(question), now, out);
                    }
                    Err(failed) => refuse(backend, request, &failed, out),
                }
            }
            FromBackend::State { request, device, id } => {
                let (route, caller, device) = (Route::new(core.clone()), caller.clone(), device.to_owned());
                let asked = async move { route.state(&caller.tenant, &device, id).await };
                answer(core, backend, request, id, asked, out);
            }
            FromBackend::Cancel { request, device, id } => {
                let (route, caller, device) = (Route::new(core.clone()), caller.clone(), device.to_owned());
                let asked = async move { route.cancel(&caller.tenant, &device, id).await };
                answer(core, backend, request, id, asked, out);
            }
            FromBackend::Abandon { request } => {
                backend.abandon(request);
                subscriptions.end(request);
            }
            FromBackend::Subscribe { request, group, position, credit } => {
                subscriptions.begin(request, group, position, credit);
            }
            FromBackend::Credit { request, events } => subscriptions.credit(request, events),
            FromBackend::Commit { request, position } => subscriptions.commit(request, position),
            FromBackend::Ping => drop(out.put(&backend.sender, &ToBackend::Pong)),
            FromBackend::Hello { .. } => {
                let why = "a backend link has one Hello, the first frame";
                refuse(backend, 0, &Failed::new(Failure::BadRequest, why), out);
            }
        }
    }
    Ok(())
}

fn begin_send(
    core: &Arc<Core>,
    backend: &Arc<BackendLink>,
    batch: &Batch,
    send: &Send<'_>,
    now: Instant,
    out: &mut Outgoing,
) -> Result<(), Failed> {
    let (limits, tenant) = (&core.config.limits, &*backend.caller.tenant);
    limits.check_payload(send.payload.len())?;
    let timeout = limits.check_timeout(Duration::from_millis(send.timeout_ms.into()))?;
    let once = match send.idempotency_key {
        "" => None,
        key => Some(Once::new(tenant, key)?),
    };
    let push = Push {
        path: Text::shared(batch.share(send.path.as_bytes())).unwrap_or_else(|| String::new().into()),
        ttl_s: if send.ttl_s == 0 { limits.ttl_default_s } else { send.ttl_s },
        wait: send.wait,
        asked: now,
        deadline: now + timeout,
        payload: batch.share(send.payload),
        token: backend.caller.token,
        id: core.append_id(),
        is_retry: false,
        once: None,
        asker: Asker::of_link(backend, send.request)?,
    };
    match once {
        None => submit(core, tenant, send.device, Request::Push(push), now, out),
        Some(once) => drop(core.tasks.spawn(once.send(core.clone(), send.device.to_owned(), push))),
    }
    Ok(())
}

fn begin_call(
    core: &Core,
    backend: &Arc<BackendLink>,
    batch: &Batch,
    (request, path, timeout_ms, payload): (u64, &str, u32, &[u8]),
    now: Instant,
) -> Result<Question, Failed> {
    let limits = &core.config.limits;
    limits.check_payload(payload.len())?;
    let timeout = limits.check_timeout(Duration::from_millis(timeout_ms.into()))?;
    Ok(Question {
        path: Text::shared(batch.share(path.as_bytes())).unwrap_or_else(|| String::new().into()),
        payload: batch.share(payload),
        asked: now,
        deadline: now + timeout,
        asker: Asker::of_link(backend, request)?,
    })
}

/// Answers a question about a message: at once if the store does, else from a task of its own.
fn answer(
    core: &Arc<Core>,
    backend: &Arc<BackendLink>,
    request: u64,
    id: MessageId,
    asked: impl Future<Output = Result<State, Failed>> + core::marker::Send + 'static,
    out: &mut Outgoing,
) {
    let asker = match Asker::of_link(backend, request) {
        Ok(asker) => asker,
        Err(failed) => return refuse(backend, request, &failed, out),
    };
    let mut asked: Pin<Box<_>> = Box::pin(asked);
    let reply = move |asker: Asker, state: Result<State, Failed>, out: &mut Outgoing| match state {
        Ok(state) => asker.sent(crate::request::Sent { id, state }, out),
        Err(failed) => asker.fail(failed, out),
    };
    match poll_now(asked.as_mut()) {
        Some(state) => reply(asker, state, out),
        None => drop(core.tasks.spawn(async move {
            let state = asked.await;
            reply(asker, state, &mut Outgoing::default());
        })),
    }
}

/// Answers a request that was never taken.
fn refuse(backend: &BackendLink, request: u64, failed: &Failed, out: &mut Outgoing) {
    backend.core.metrics.failed(failed.failure.name());
    backend.put_failed(request, failed, out);
}

/// How often it is looked whether a link's token still counts.
const LOOK: Duration = Duration::from_millis(500);
/// Retry-after of a link whose token could not be looked up.
const RETRY: Duration = Duration::from_secs(1);

//! From a request to what is known of its device; requests for a device that must be looked up first
//! wait in line, so that they go on in the order in which they came.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imlink_protocol::link::backend::Failure;
use imlink_store::DeviceKey;
use parking_lot::Mutex;

use crate::call::Question;
use crate::core::{Core, poll_now};
use crate::devices::Known;
use crate::outgoing::Outgoing;
use crate::push::Push;
use crate::request::Failed;

/// A request that needs its device known.
pub(crate) enum Request {
    Push(Push),
    Call(Question),
}

/// Requests whose device is being looked up.
#[derive(Default)]
pub(crate) struct Lookups {
    lines: Mutex<HashMap<DeviceKey, Vec<Request>>>,
}

/// Begins `request` for `device` of `tenant`.
pub(crate) fn submit(core: &Arc<Core>, tenant: &str, device: &str, request: Request, now: Instant, out: &mut Outgoing) {
    if let Some(known) = core.find(tenant, device, now) {
        return request.proceed(core, known, out);
    }
    let key = match DeviceKey::new(tenant, device) {
        Ok(key) => key,
        Err(error) => {
            let why = format!("device id {device:?} {error}");
            return request.fail(Failed::new(Failure::BadRequest, why), out);
        }
    };
    if core.is_immediate
        && let Some(result) = poll_now(pin!(core.look_up(&key)))
    {
        return match result {
            Ok(known) => {
                core.devices.learn(known.clone());
                request.proceed(core, known, out)
            }
            Err(failed) => request.fail(failed, out),
        };
    }
    let mut lines = core.lookups.lines.lock();
    if let Some(known) = core.find(tenant, device, now) {
        drop(lines);
        return request.proceed(core, known, out);
    }
    match lines.entry(key) {
        Entry::Occupied(mut line) => line.get_mut().push(request),
        Entry::Vacant(line) => {
            core.tasks.spawn(look_up(core.clone(), line.key().clone()));
            line.insert(vec![request]);
        }
    }
}

async fn look_up(core: Arc<Core>, device: DeviceKey) {
    let found = match tokio::time::timeout(LOOK_UP_MAX, core.look_up(&device)).await {
        Ok(found) => found,
        Err(_) => {
            let why = "the store does not answer; nothing was stored: try again";
            Err(Failed::later(Failure::StoreAway, Duration::from_secs(1), why))
        }
    };
    let mut out = Outgoing::default();
    // The line goes on before anybody who comes later finds the device known.
    let mut lines = core.lookups.lines.lock();
    for request in lines.remove(&device).unwrap_or_default() {
        match &found {
            Ok(known) => request.proceed(&core, known.clone(), &mut out),
            Err(failed) => request.fail(failed.clone(), &mut out),
        }
    }
    if let Ok(known) = found {
        core.devices.learn(known);
    }
}

impl Lookups {
    /// Takes requests whose deadline passed, or that nobody waits for, out of their lines.
    pub(crate) fn sweep(&self, now: Instant, out: &mut Outgoing) {
        for line in self.lines.lock().values_mut() {
            for request in line.extract_if(.., |request| request.deadline() <= now) {
                let why = "the store did not answer by the deadline; nothing was stored or called: try again";
                request.fail(Failed::later(Failure::StoreAway, Duration::from_secs(1), why), out);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.lock().is_empty()
    }
}

impl Request {
    fn proceed(self, core: &Arc<Core>, known: Known, out: &mut Outgoing) {
        match self {
            Self::Push(push) => push.append(core, known, out),
            Self::Call(question) => question.ask(core, known, out),
        }
    }

    fn fail(self, failed: Failed, out: &mut Outgoing) {
        match self {
            Self::Push(push) => push.asker.fail(failed, out),
            Self::Call(question) => question.asker.fail(failed, out),
        }
    }

    fn deadline(&self) -> Instant {
        match self {
            Self::Push(push) => push.deadline,
            Self::Call(question) => question.deadline,
        }
    }
}

/// Longest look-up.
const LOOK_UP_MAX: Duration = Duration::from_secs(5);

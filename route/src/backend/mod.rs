//! The binary backend link: pipelined requests and events of backends.

mod link;
mod need;
mod subscriptions;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use imlink_link::{Sender, over_stream, over_tcp};
use imlink_protocol::link::backend::ToBackend;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::access::Caller;
use crate::core::Core;
use crate::outgoing::Outgoing;
use crate::request::Failed;
use crate::tls::Certificates;

/// One backend's link, as seen by the answers that go to it.
pub(crate) struct BackendLink {
    pub(crate) core: Arc<Core>,
    pub(crate) sender: Sender,
    pub(crate) name: String,
    /// Whose token it presented.
    pub(crate) caller: Arc<Caller>,
    /// Requests not answered yet.
    pub(crate) in_flight: AtomicU32,
    /// Requests that the backend no longer waits for; found by the next sweep.
    abandoned: Mutex<HashSet<u64>>,
    has_abandoned: AtomicBool,
}

impl BackendLink {
    fn new(core: Arc<Core>, sender: Sender, name: String, caller: Arc<Caller>) -> Self {
        Self {
            core,
            sender,
            name,
            caller,
            in_flight: AtomicU32::new(0),
            abandoned: Mutex::default(),
            has_abandoned: AtomicBool::new(false),
        }
    }

    pub(crate) fn put_failed(&self, request: u64, failed: &Failed, out: &mut Outgoing) {
        let retry = failed.retry_after.unwrap_or_default().as_millis();
        let message = ToBackend::Failed {
            request,
            failure: failed.failure,
            retry_after_ms: u32::try_from(retry).unwrap_or(u32::MAX),
            detail: &failed.detail,
        };
        if out.put(&self.sender, &message).is_err() {
            tracing::error!(backend = %self.name, "a failure does not fit a frame");
        }
    }

    /// Whether the backend no longer waits for `request`.
    pub(crate) fn is_abandoned(&self, request: u64) -> bool {
        self.has_abandoned.load(Ordering::Relaxed) && self.abandoned.lock().contains(&request)
    }

    /// `request` was answered: its number may be forgotten.
    pub(crate) fn forget_abandoned(&self, request: u64) {
        if self.has_abandoned.load(Ordering::Relaxed) {
            let mut abandoned = self.abandoned.lock();
            abandoned.remove(&request);
            self.has_abandoned.store(!abandoned.is_empty(), Ordering::Relaxed);
        }
    }

    fn abandon(&self, request: u64) {
        let mut abandoned = self.abandoned.lock();
        // Numbers that were answered on their way here stay until then.
        if abandoned.len() >= self.core.config.limits.link_requests_max as usize {
            abandoned.clear();
        }
        abandoned.insert(request);
        self.has_abandoned.store(true, Ordering::Relaxed);
        self.core.has_abandoned.store(true, Ordering::Relaxed);
    }
}

/// Takes the links of backends until the route leaves.
pub(crate) async fn listen(core: Arc<Core>, listener: TcpListener, certificates: Option<Arc<Certificates>>) {
    let room = Arc::new(Semaphore::new(core.config.limits.backend_links_max));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = core.draining.cancelled() => return,
        };
        let Ok((stream, from)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tracing::warn!(%from, "too many backend links, one more is refused");
            core.metrics.link_ended("overloaded");
            continue;
        };
        let (shared, certificates) = (core.clone(), certificates.clone());
        core.tasks.spawn(async move {
            let outbox_len_max = shared.config.limits.outbox_len_max;
            let link = match certificates {
                None => over_tcp(stream, outbox_len_max),
                Some(certificates) => {
                    certificates.accept(stream).await.map(|stream| over_stream(stream, outbox_len_max))
                }
            };
            let link = match link {
                Ok(link) => link,
                Err(error) => {
                    tracing::debug!(%from, %error, "a backend could not link");
                    return shared.metrics.link_ended("no-tls");
                }
            };
            shared.metrics.backends.inc();
            link::serve(shared.clone(), link).await;
            shared.metrics.backends.dec();
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests;

/// Pause after an accept that failed, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

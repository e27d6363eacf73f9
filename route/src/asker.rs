//! Who asked: every request is answered exactly once, through here, whatever becomes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::link::backend::{Failure, ToBackend};
use imlink_protocol::message::Code;
use tokio::sync::oneshot;

use crate::backend::BackendLink;
use crate::core::Core;
use crate::outgoing::Outgoing;
use crate::request::{Failed, Replied, Sent};

/// Whoever waits for the answer to one request. Dropped unanswered, it is told of an internal error.
pub(crate) struct Asker {
    to: Option<To>,
}

enum To {
    Link { link: Arc<BackendLink>, request: u64 },
    Send { core: Arc<Core>, answer: oneshot::Sender<Result<Sent, Failed>> },
    Call { core: Arc<Core>, answer: oneshot::Sender<Result<Replied, Failed>> },
}

impl Asker {
    /// A request of a backend link; refused past the limits of the link and of the route.
    pub(crate) fn of_link(link: &Arc<BackendLink>, request: u64) -> Result<Self, Failed> {
        let max = link.core.config.limits.link_requests_max;
        if link.in_flight.load(Ordering::Relaxed) >= max {
            let why = format!("{max} requests of this link are in flight, no more are taken: await answers first");
            return Err(Failed::later(Failure::Overloaded, OVERLOADED_RETRY, why));
        }
        admit(&link.core)?;
        link.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Self { to: Some(To::Link { link: link.clone(), request }) })
    }

    /// A send of this process.
    pub(crate) fn of_send(core: &Arc<Core>, answer: oneshot::Sender<Result<Sent, Failed>>) -> Result<Self, Failed> {
        admit(core)?;
        Ok(Self { to: Some(To::Send { core: core.clone(), answer }) })
    }

    /// A call of this process.
    pub(crate) fn of_call(core: &Arc<Core>, answer: oneshot::Sender<Result<Replied, Failed>>) -> Result<Self, Failed> {
        admit(core)?;
        Ok(Self { to: Some(To::Call { core: core.clone(), answer }) })
    }

    /// The answer to a send.
    pub(crate) fn sent(mut self, sent: Sent, out: &mut Outgoing) {
        match self.take() {
            Some(To::Link { link, request }) => {
                let message = ToBackend::Message { request, id: sent.id, state: sent.state };
                put(&link, &message, out);
            }
            Some(To::Send { answer, .. }) => drop(answer.send(Ok(sent))),
            Some(To::Call { .. }) | None => {}
        }
    }

    /// The answer to a call; `payload` lies in a batch that it keeps alive only if it must.
    pub(crate) fn replied(mut self, status: Code, payload: &Bytes, out: &mut Outgoing) {
        match self.take() {
            Some(To::Link { link, request }) => {
                put(&link, &ToBackend::Replied { request, status, payload }, out);
            }
            Some(To::Call { answer, .. }) => {
                drop(answer.send(Ok(Replied { status, payload: payload.clone() })));
            }
            Some(To::Send { .. }) | None => {}
        }
    }

    /// The request was not done.
    pub(crate) fn fail(mut self, failed: Failed, out: &mut Outgoing) {
        if let Some(to) = self.take() {
            to.fail(failed, out);
        }
    }

    /// Whether the answer would reach nobody. Link requests are asked for by [`BackendLink::is_abandoned`].
    pub(crate) fn is_gone(&self) -> bool {
        match &self.to {
            Some(To::Link { link, request }) => link.sender.is_closed() || link.is_abandoned(*request),
            Some(To::Send { answer, .. }) => answer.is_closed(),
            Some(To::Call { answer, .. }) => answer.is_closed(),
            None => true,
        }
    }

    /// Ends the request without an answer, for one that is gone.
    pub(crate) fn dismiss(mut self) {
        self.take();
    }

    fn take(&mut self) -> Option<To> {
        let to = self.to.take()?;
        to.core().release();
        if let To::Link { link, request } = &to {
            link.in_flight.fetch_sub(1, Ordering::Relaxed);
            link.forget_abandoned(*request);
        }
        Some(to)
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        if let Some(to) = self.take() {
            let failed = Failed::new(Failure::Internal, "the route dropped the request; please report it");
            to.fail(failed, &mut Outgoing::default());
        }
    }
}

impl To {
    fn core(&self) -> &Arc<Core> {
        match self {
            Self::Link { link, .. } => &link.core,
            Self::Send { core, .. } | Self::Call { core, .. } => core,
        }
    }

    fn fail(self, failed: Failed, out: &mut Outgoing) {
        self.core().metrics.failed(failed.failure.name());
        match self {
            Self::Link { link, request } => link.put_failed(request, &failed, out),
            Self::Send { answer, .. } => drop(answer.send(Err(failed))),
            Self::Call { answer, .. } => drop(answer.send(Err(failed))),
        }
    }
}

fn put(link: &BackendLink, message: &ToBackend<'_>, out: &mut Outgoing) {
    // Everything that came in one frame fits one: an answer's own fields are shorter than a request's.
    if out.put(&link.sender, message).is_err() {
        tracing::error!(backend = %link.name, "an answer does not fit a frame");
    }
}

fn admit(core: &Core) -> Result<(), Failed> {
    let max = core.config.limits.requests_max;
    if core.admit() {
        return Ok(());
    }
    let why = format!("{max} requests are in flight on this route, no more are taken: try again or another route");
    Err(Failed::later(Failure::Overloaded, OVERLOADED_RETRY, why))
}

/// Retry-after of a request refused for lack of room.
const OVERLOADED_RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Config;
    use imlink_protocol::MessageId;
    use imlink_protocol::link::backend::State;
    use imlink_store::Store;
    use tokio_util::sync::CancellationToken;

    pub(crate) type Answer = oneshot::Receiver<Result<Sent, Failed>>;

    fn core(requests_max: usize) -> Arc<Core> {
        let mut config = Config::default();
        config.limits.requests_max = requests_max;
        let store = Store::memory(imlink_store::Config::default());
        Arc::new(Core::new(config, store, 1, CancellationToken::new()))
    }

    /// An asker within this process, and where its answer comes.
    pub(crate) fn local() -> (Asker, Answer) {
        let (answer, answered) = oneshot::channel();
        (Asker::of_send(&core(10), answer).unwrap(), answered)
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_is_answered_all_the_same() {
        let (asker, answered) = local();
        drop(asker);
        let failed = answered.await.unwrap().unwrap_err();
        assert_eq!(failed.failure, Failure::Internal);
    }

    #[tokio::test]
    async fn past_the_limit_the_newest_request_is_refused_and_room_comes_back_with_each_answer() {
        let core = core(2);
        let ask = || Asker::of_send(&core, oneshot::channel().0);
        let (one, _two) = (ask().unwrap(), ask().unwrap());
        let failed = ask().err().unwrap();
        assert_eq!(failed.failure, Failure::Overloaded);
        assert!(failed.retry_after.is_some() && failed.detail.contains("2 requests"));
        one.sent(Sent { id: MessageId::new(1, 1), state: State::Acked }, &mut Outgoing::default());
        assert_eq!(core.in_flight(), 1);
        assert!(ask().is_ok());
    }
}

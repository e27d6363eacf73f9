//! What can become of a request other than its answer.

use std::time::Duration;

use imlink_protocol::link::backend::Failure;

/// A request was not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The route says why it was not done.
    #[error("{}: {detail}", failure.name())]
    Failed {
        /// Which failure.
        failure: Failure,
        /// Not before this; `None` when repeating it does not help.
        retry_after: Option<Duration>,
        /// What was wrong, what is allowed, what to do next.
        detail: String,
    },
    /// The link was lost, or the route fell silent, before the answer: a message may be stored, a call may
    /// have run. Repeat a send with the same idempotency key only.
    #[error("the link to the route was lost before the answer; it may have been done")]
    Lost,
    /// There was no link in the time given: nothing was sent.
    #[error("there was no link to a route in the time given; nothing was sent, try again")]
    NotConnected,
    /// The request is longer than a frame may be: nothing was sent.
    #[error("the request is longer than the largest frame; nothing was sent, send less at once")]
    TooLong,
    /// As many requests as the route takes are in flight on this link: nothing was sent.
    #[error("{max} requests are in flight, the route takes no more on this link; await answers first")]
    Full {
        /// Requests that the route takes.
        max: usize,
    },
}

impl Error {
    /// Whether the request may have been done all the same: a message stored, a call run.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Failed { failure, .. } => {
                matches!(failure, Failure::MayBeStored | Failure::Deadline | Failure::Disconnected | Failure::Internal)
            }
            Self::Lost => true,
            Self::NotConnected | Self::TooLong | Self::Full { .. } => false,
        }
    }

    /// Which failure the route named.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Failed { failure, .. } => Some(*failure),
            _ => None,
        }
    }

    pub(crate) fn of(failure: Failure, retry_after_ms: u32, detail: &str) -> Self {
        let retry_after = (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms.into()));
        Self::Failed { failure, retry_after, detail: detail.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_left_this_process_may_have_been_done() {
        assert!(Error::Lost.may_be_done() && !Error::NotConnected.may_be_done());
        assert!(Error::of(Failure::MayBeStored, 0, "").may_be_done());
        assert!(!Error::of(Failure::StoreAway, 1000, "").may_be_done());
    }
}

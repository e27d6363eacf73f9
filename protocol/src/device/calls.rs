//! Calls that are known and not answered.

use super::error::SessionError;
use crate::limits::CALLS_MAX;
use crate::message::Code;

/// The calls of one connection: none outlives it. About 210 bytes.
#[derive(Debug, Default)]
pub(super) struct Calls {
    known: [Option<Known>; CALLS_MAX],
    /// The one that found no room.
    turned_away: Option<u32>,
    last: u32,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    request: u32,
    /// Lower half of the session clock; no deadline lies further ahead than [`DEADLINE_MAX_MS`].
    deadline: u32,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Running,
    Refused(Code),
}

/// Why a handler must not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnded {
    /// The deadline passed; the caller is told so.
    Deadline,
    /// Nobody waits for the answer any more, or the connection that brought the call ended.
    Gone,
}

impl Calls {
    /// A call came; true when it is to be kept.
    pub(super) fn handle_call(&mut self, request: u32, deadline_ms: u64, now_ms: u64) -> Result<bool, SessionError> {
        if request <= self.last {
            return Err(SessionError::Request { given: request, last: self.last });
        }
        self.last = request;
        let is_late = now_ms >= deadline_ms;
        let progress = if is_late { Progress::Refused(Code::DEADLINE) } else { Progress::Waiting };
        let deadline = low(deadline_ms.min(now_ms.saturating_add(DEADLINE_MAX_MS)));
        let Some(free) = self.known.iter_mut().find(|place| place.is_none()) else {
            self.turned_away = Some(request);
            return Ok(false);
        };
        *free = Some(Known { request, deadline, progress });
        Ok(!is_late)
    }

    /// Nobody waits any longer; true when the call was known and its handler had not started.
    pub(super) fn handle_cancel(&mut self, request: u32) -> bool {
        self.remove(|known| known.request == request && known.progress == Progress::Waiting)
    }

    pub(super) fn start(&mut self, request: u32, now_ms: u64) -> Result<(), CallEnded> {
        let is_it = |known: &&mut Known| known.request == request && known.progress == Progress::Waiting;
        let known = self.known.iter_mut().flatten().find(is_it).ok_or(CallEnded::Gone)?;
        let left_ms = known.deadline.wrapping_sub(low(now_ms));
        if left_ms == 0 || u64::from(left_ms) > DEADLINE_MAX_MS {
            known.progress = Progress::Refused(Code::DEADLINE);
            return Err(CallEnded::Deadline);
        }
        known.progress = Progress::Running;
        Ok(())
    }

    /// The handler is done; true when the answer can still be sent.
    pub(super) fn finish(&mut self, request: u32) -> bool {
        self.remove(|known| known.request == request && known.progress == Progress::Running)
    }

    /// Answers a known call with a code alone.
    pub(super) fn refuse(&mut self, request: u32, code: Code) {
        if let Some(known) = self.known.iter_mut().flatten().find(|known| known.request == request) {
            known.progress = Progress::Refused(code);
        }
    }

    pub(super) fn poll_refused(&mut self) -> Option<(u32, Code)> {
        if let Some(request) = self.turned_away.take() {
            return Some((request, Code::BUSY));
        }
        let refused = |known: &Known| match known.progress {
            Progress::Refused(code) => Some((known.request, code)),
            _ => None,
        };
        let (request, code) = self.known.iter().flatten().find_map(refused)?;
        self.remove(|known| known.request == request);
        Some((request, code))
    }

    /// Whether another frame may bring a call that finds no room.
    pub(super) fn has_room(&self) -> bool {
        self.turned_away.is_none()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.known.iter().all(Option::is_none) && self.turned_away.is_none()
    }

    fn remove(&mut self, is_it: impl Fn(&Known) -> bool) -> bool {
        let found = self.known.iter_mut().find(|place| place.as_ref().is_some_and(&is_it));
        found.and_then(Option::take).is_some()
    }
}

const fn low(ms: u64) -> u32 {
    (ms & 0xffff_ffff) as u32
}

/// Deadlines further ahead are taken as this far, in milliseconds (12 days; requests last an hour at most).
const DEADLINE_MAX_MS: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_starts_before_the_deadline_or_not_at_all() {
        let mut calls = Calls::default();
        assert_eq!(calls.handle_call(1, 100, 100), Ok(false));
        assert_eq!(calls.handle_call(2, 100, 50), Ok(true));
        assert_eq!(calls.handle_call(3, 100, 50), Ok(true));
        assert_eq!(calls.start(2, 99), Ok(()));
        assert_eq!(calls.start(3, 100), Err(CallEnded::Deadline));
        assert_eq!(calls.start(3, 0), Err(CallEnded::Gone), "refused already");
        assert_eq!(calls.poll_refused(), Some((1, Code::DEADLINE)));
        assert_eq!(calls.poll_refused(), Some((3, Code::DEADLINE)));
        assert!(calls.finish(2));
        assert!(!calls.finish(2), "an answer is given once");
    }

    #[test]
    fn the_call_after_the_last_one_that_can_be_known_is_refused_as_busy() {
        let mut calls = Calls::default();
        for request in 1..=CALLS_MAX as u32 {
            assert_eq!(calls.handle_call(request, 100, 0), Ok(true));
        }
        assert_eq!(calls.handle_call(99, 100, 0), Ok(false));
        assert_eq!(calls.poll_refused(), Some((99, Code::BUSY)));
        assert_eq!(calls.handle_call(98, 100, 0), Err(SessionError::Request { given: 98, last: 99 }));
    }

    #[test]
    fn a_cancelled_call_does_not_start_and_a_started_one_is_still_answered() {
        let mut calls = Calls::default();
        calls.handle_call(1, 100, 0).unwrap();
        calls.handle_call(2, 100, 0).unwrap();
        calls.start(2, 0).unwrap();
        assert!(calls.handle_cancel(1));
        assert!(!calls.handle_cancel(2));
        assert_eq!(calls.start(1, 0), Err(CallEnded::Gone));
        assert!(calls.finish(2));
    }
}

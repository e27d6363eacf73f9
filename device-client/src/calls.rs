//! Calls: each once, before its deadline or not at all.

use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};

use imlink_protocol::Key;
use imlink_protocol::message::Code;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core_state::{CallRecord, Core, ReplyRecord};
use crate::state::Storage;

/// The calls for this device. Cheap to copy; several handlers may work side by side.
pub struct Calls<'a, S> {
    shared: &'a S,
}

impl<S> Clone for Calls<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Calls<'_, S> {}

/// A call whose handler has started. Dropped without a reply it is answered as `device-error`.
pub struct Call<'a, S: Storage> {
    shared: &'a S,
    request: u32,
    /// The session that brought it: an answer to a later one would be another call's.
    epoch: u64,
    key: Key,
}

/// Why a reply did not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ReplyError {
    /// The connection that brought the call is gone.
    Gone,
    /// Larger than can be sent; the caller is answered `too-large`.
    TooLarge {
        /// Largest payload, in bytes.
        max: usize,
    },
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the connection that brought the call is gone"),
            Self::TooLarge { max } => write!(f, "the reply is too large, at most {max} bytes can be sent"),
        }
    }
}

impl core::error::Error for ReplyError {}

/// Bytes that a reply's frame adds to its payload at most: length 3, kind 1, request 5, status 3, length 3, and the
/// longer check, a tag of 16.
const REPLY_OVERHEAD: usize = 31;
/// Bytes of a reply's record beside the payload: request 5, status 3, length 3.
const RECORD_OVERHEAD: usize = 11;

impl<'a, S: Storage> Calls<'a, S> {
    pub(crate) fn new(shared: &'a S) -> Self {
        Self { shared }
    }

    /// Waits for the next call whose deadline has not passed. From here on its handler has started.
    ///
    /// Cancel safe: no call is taken until this gives it.
    pub async fn next(&self) -> Call<'a, S> {
        let shared = self.shared;
        poll_fn(|cx| {
            shared.with(|now, core| {
                loop {
                    let waiting = core.calls.iter::<CallRecord<'_>>().position(|call| !call.is_taken);
                    let taken = waiting.and_then(|index| Some((index, core.calls.get::<CallRecord<'_>>(index)?)));
                    let Some((index, CallRecord { request, key, .. })) = taken else {
                        core.desk.calls.register(cx.waker());
                        return Poll::Pending;
                    };
                    if core.session.start_call(now, request).is_ok() {
                        core.calls.set_first_byte(index, 1);
                        return Poll::Ready(Call { shared, request, epoch: core.session.epoch(), key });
                    }
                    core.calls.remove(index);
                    core.notify_runner();
                }
            })
        })
        .await
    }

    /// Hands each call to `handler`, for ever: `Ok` is its reply, an error its status.
    ///
    /// Dropped while a handler works, its call is answered as `device-error`: a call runs at most once.
    pub async fn for_each<T: AsRef<[u8]>>(&self, mut handler: impl AsyncFnMut(&Call<'a, S>) -> Result<T, Code>) -> ! {
        loop {
            let call = self.next().await;
            // A reply that cannot be sent any more, or not in this size, is the caller's loss: it is told.
            let _ = match handler(&call).await {
                Ok(reply) => call.reply(reply.as_ref()).await,
                Err(code) => call.fail(code).await,
            };
        }
    }
}

impl<S: Storage> Call<'_, S> {
    /// What it is about.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Shows the payload, in place; `None` when the connection that brought the call is gone.
    ///
    /// # Panics
    /// When `look` uses this device's handles again: it looks under their lock.
    pub fn payload<R>(&self, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.shared.with(|_, core| {
            let index = core.find_call(self.request).filter(|_| core.session.epoch() == self.epoch)?;
            core.calls.get::<CallRecord<'_>>(index).map(|record| look(record.payload))
        })
    }

    /// The payload as a value; `None` when it does not have that form or the call is gone.
    pub fn decode<T: DeserializeOwned>(&self) -> Option<T> {
        self.payload(|bytes| postcard::from_bytes(bytes).ok()).flatten()
    }

    /// Answers with `payload`. Waits while earlier replies are on their way.
    ///
    /// Dropped while it waits, the call is answered as `device-error`; so for the other answers.
    pub async fn reply(self, payload: &[u8]) -> Result<(), ReplyError> {
        self.answer(Code::OK, payload).await
    }

    /// Answers with a value: its postcard encoding, at most 256 bytes.
    pub async fn reply_typed<T: Serialize + ?Sized>(self, value: &T) -> Result<(), ReplyError> {
        let mut bytes = [0; TYPED_MAX];
        match postcard::to_slice(value, &mut bytes) {
            Ok(payload) => self.answer(Code::OK, payload).await,
            Err(_) => self.answer(Code::TOO_LARGE, &[]).await.and(Err(ReplyError::TooLarge { max: TYPED_MAX })),
        }
    }

    /// Answers that it failed, with a code of the application (from 256) or of imlink.
    pub async fn fail(self, code: Code) -> Result<(), ReplyError> {
        self.answer(code, &[]).await
    }

    async fn answer(self, status: Code, payload: &[u8]) -> Result<(), ReplyError> {
        poll_fn(|cx| self.shared.with(|_, core| self.poll_answer(cx, core, status, payload))).await
    }

    fn poll_answer(
        &self,
        cx: &Context<'_>,
        core: &mut Core<'_>,
        status: Code,
        payload: &[u8],
    ) -> Poll<Result<(), ReplyError>> {
        if core.session.epoch() != self.epoch || core.find_call(self.request).is_none() {
            return Poll::Ready(Err(ReplyError::Gone));
        }
        let sendable = core.desk.frame_out.saturating_sub(REPLY_OVERHEAD);
        let max = sendable.min(core.replies.record_max().saturating_sub(RECORD_OVERHEAD));
        if payload.len() > max {
            self.refuse(core, Code::TOO_LARGE);
            return Poll::Ready(Err(ReplyError::TooLarge { max }));
        }
        if core.replies.push(&ReplyRecord { request: self.request, status, payload }).is_err() {
            core.desk.calls.register(cx.waker());
            return Poll::Pending;
        }
        core.remove_call(self.request);
        if !core.session.finish_call(self.request) {
            core.replies.remove(core.replies.len() - 1);
            return Poll::Ready(Err(ReplyError::Gone));
        }
        core.notify_runner();
        Poll::Ready(Ok(()))
    }

    fn refuse(&self, core: &mut Core<'_>, code: Code) {
        core.session.refuse_call(self.request, code);
        core.remove_call(self.request);
        core.notify_runner();
    }
}

/// Largest value of [`Call::reply_typed`], in bytes; it is encoded on the stack.
const TYPED_MAX: usize = 256;

impl<S: Storage> Drop for Call<'_, S> {
    fn drop(&mut self) {
        self.shared.with(|_, core| {
            if core.session.epoch() == self.epoch && core.find_call(self.request).is_some() {
                self.refuse(core, Code::DEVICE_ERROR);
            }
        });
    }
}

impl<S: Storage> fmt::Debug for Call<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("request", &self.request).field("key", &self.key).finish_non_exhaustive()
    }
}

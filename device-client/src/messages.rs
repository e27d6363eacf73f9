//! Messages: one after the other, each until it is answered.

use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use imlink_protocol::interface::Kind;
use imlink_protocol::message::Code;
use imlink_protocol::{Key, MessageId};
use serde::de::DeserializeOwned;

use crate::core_state::{Core, MessageRecord};
use crate::state::Storage;

/// Keeps how far a device got over a power loss, in two small records of flash.
///
/// With both a device gets at most one message again after a power loss: the one that was started and not
/// done, marked as redelivered. Hand what was kept to [`Config::resume`](crate::Config::resume). Until
/// anything was kept, messages that the server offered before are marked, whether or not they were handed over.
/// An application that writes its effect and the cursor in one go does so in its handler and leaves
/// `done` empty. Errors are the implementer's to report: nothing better can be done than to go on.
pub trait CursorStore {
    /// `id` is about to be handed to its handler; the message before it is done. It may be dropped at any await:
    /// what is kept then is the old id or the new one.
    async fn started(&mut self, id: MessageId);

    /// `id` is done: handled or refused. It may be dropped as [`started`](Self::started) may.
    async fn done(&mut self, id: MessageId);
}

/// Keeps nothing: after a power loss unacknowledged messages come again, marked as redelivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotKept;

impl CursorStore for NotKept {
    async fn started(&mut self, _: MessageId) {}

    async fn done(&mut self, _: MessageId) {}
}

/// The messages for this device, in order.
pub struct Messages<'a, S, K = NotKept> {
    shared: &'a S,
    cursor: K,
}

/// A message, from when it is taken until it is answered. Dropped without an answer it comes again.
pub struct Message<'m, S: Storage, K: CursorStore = NotKept> {
    shared: &'m S,
    cursor: &'m mut K,
    id: MessageId,
    key: Key,
    is_redelivered: bool,
}

impl<'a, S: Storage> Messages<'a, S> {
    pub(crate) fn new(shared: &'a S) -> Self {
        Self { shared, cursor: NotKept }
    }

    /// Keeps the cursor in `cursor` from here on.
    pub fn kept_in<K: CursorStore>(self, cursor: K) -> Messages<'a, S, K> {
        Messages { shared: self.shared, cursor }
    }
}

impl<S: Storage, K: CursorStore> Messages<'_, S, K> {
    /// Waits for the next message. Messages whose key the interface does not list are refused unseen.
    ///
    /// Cancel safe: dropped at any time, also while the cursor is kept, the message is the next one again.
    pub async fn next(&mut self) -> Message<'_, S, K> {
        let shared = self.shared;
        let (id, key, is_redelivered) = poll_fn(|cx| {
            shared.with(|now, core| {
                let Some(head) = take(core) else {
                    core.desk.messages.register(cx.waker());
                    return Poll::Pending;
                };
                core.session.start_message(now, head.0);
                core.desk.handle_started(head.0);
                Poll::Ready(head)
            })
        })
        .await;
        let message = Message { shared, cursor: &mut self.cursor, id, key, is_redelivered };
        message.cursor.started(id).await;
        message
    }

    /// Hands each message to `handler`, for ever: `Ok` acknowledges it, an error refuses it for good.
    ///
    /// Dropped while a handler works, its message comes again, and what the handler did so far is done: cancel safe
    /// as far as the handler is.
    pub async fn for_each(&mut self, mut handler: impl AsyncFnMut(&Message<'_, S, K>) -> Result<(), Code>) -> ! {
        loop {
            let message = self.next().await;
            match handler(&message).await {
                Ok(()) => message.ack().await,
                Err(code) => message.reject(code).await,
            }
        }
    }
}

/// The oldest message, what the interface does not list refused.
fn take(core: &mut Core<'_>) -> Option<(MessageId, Key, bool)> {
    loop {
        let MessageRecord { id, key, is_redelivered, .. } = core.inbox.get(0)?;
        if core.desk.interface.allows(Kind::Message, key) {
            return Some((id, key, core.desk.is_redelivered(id, is_redelivered)));
        }
        core.session.reject_message(id, Code::UNKNOWN_PATH).ok()?;
        core.inbox.remove(0);
        core.notify_runner();
    }
}

impl<S: Storage, K: CursorStore> Message<'_, S, K> {
    /// Its id for life.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// What it is about.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Whether it may have reached this device before.
    pub fn is_redelivered(&self) -> bool {
        self.is_redelivered
    }

    /// Shows the payload, in place.
    ///
    /// # Panics
    /// When `look` uses this device's handles again: it looks under their lock.
    pub fn payload<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        // The record stays the first one for as long as this message lives.
        self.shared.with(|_, core| look(core.inbox.get::<MessageRecord<'_>>(0).map_or(&[], |record| record.payload)))
    }

    /// The payload as a value; `None` when it does not have that form.
    pub fn decode<T: DeserializeOwned>(&self) -> Option<T> {
        self.payload(|bytes| postcard::from_bytes(bytes).ok())
    }

    /// It is handled: it will be acknowledged.
    ///
    /// Dropped before it was polled, the message comes again; later it is acknowledged all the same, and only the
    /// cursor may not be kept, so that the message can come again after a power loss, marked.
    pub async fn ack(self) {
        self.shared.with(|_, core| {
            core.session.finish_message(self.id);
            core.inbox.remove(0);
            core.notify_runner();
        });
        self.cursor.done(self.id).await;
    }

    /// It is refused for good, with a code of the application (from 256) or of imlink. Waits while
    /// refusals of a lost connection are not confirmed.
    ///
    /// Dropped while it waits, the message comes again; later as [`ack`](Self::ack).
    pub async fn reject(self, code: Code) {
        poll_fn(|cx| {
            self.shared.with(|_, core| {
                if core.session.reject_message(self.id, code).is_err() {
                    core.desk.messages.register(cx.waker());
                    return Poll::Pending;
                }
                core.inbox.remove(0);
                core.notify_runner();
                Poll::Ready(())
            })
        })
        .await;
        self.cursor.done(self.id).await;
    }
}

impl<S: Storage, K: CursorStore> Drop for Message<'_, S, K> {
    fn drop(&mut self) {
        self.shared.with(|_, core| core.session.stop_message());
    }
}

impl<S: Storage, K: CursorStore> fmt::Debug for Message<'_, S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("id", &self.id).field("key", &self.key).finish_non_exhaustive()
    }
}

//! The handle for everything but messages and calls.

use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use imlink_protocol::Key;
use imlink_protocol::device::StateName;
use imlink_protocol::interface::Kind;
use serde::Serialize;

use crate::calls::Calls;
use crate::config::Overflow;
use crate::core_state::{Core, EventRecord};
use crate::error::Error;
use crate::state::Storage;

/// Publishes events and shows the link. Cheap to copy.
pub struct Client<'a, S> {
    pub(crate) shared: &'a S,
}

impl<S> Clone for Client<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Client<'_, S> {}

/// How the link to the server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Link {
    /// State of the session.
    pub state: StateName,
    /// Number of the current or last session, 0 before the first.
    pub epoch: u64,
    /// The interval of its heartbeats in milliseconds, 0 while it is not attached.
    pub heartbeat_ms: u32,
    /// Sessions opened since power-on.
    pub sessions: u32,
    /// Connections that ended with an error, or could not be made.
    pub failures: u32,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<Error>,
}

impl Link {
    /// Whether messages, calls and events flow.
    pub fn is_attached(&self) -> bool {
        self.state == StateName::Attached
    }
}

/// What became of events since power-on. Past 2^32 the counts begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EventCounts {
    /// Taken into the queue.
    pub published: u32,
    /// Stored by the server.
    pub stored: u32,
    /// Refused or dropped because the queue was full.
    pub dropped: u32,
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PublishError {
    /// The queue is full; counted as dropped.
    Full,
    /// Larger than can ever be sent.
    TooLarge {
        /// Largest payload, in bytes.
        max: usize,
    },
    /// The interface does not list an event with this key.
    UnknownKey,
    /// This device keeps its events in flash, and numbers them there.
    #[cfg(feature = "flash")]
    InFlash,
    /// It was not kept.
    #[cfg(feature = "flash")]
    Flash(crate::flash::FlashError),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the event queue is full"),
            Self::TooLarge { max } => write!(f, "the event is too large, at most {max} bytes can be sent"),
            Self::UnknownKey => f.write_str("the interface does not list this event"),
            #[cfg(feature = "flash")]
            Self::InFlash => f.write_str("events of this device are kept in flash: publish them by KeptEvents"),
            #[cfg(feature = "flash")]
            Self::Flash(error) => write!(f, "the event is not kept: {error}"),
        }
    }
}

impl core::error::Error for PublishError {}

/// Bytes that an event's frame adds to its payload at most: length 3, kind 1, sequence 8, key 4, length 3, and the
/// longer check, a tag of 16.
const EVENT_OVERHEAD: usize = 35;
/// Bytes of an event's record beside the payload: key 4, length 3.
const RECORD_OVERHEAD: usize = 7;

impl<'a, S: Storage> Client<'a, S> {
    pub(crate) fn new(shared: &'a S) -> Self {
        Self { shared }
    }

    /// A handle to take calls; several may be used side by side.
    pub fn calls(&self) -> Calls<'a, S> {
        Calls::new(self.shared)
    }

    /// Puts an event into the queue, where it stays until it is stored, connected or not. A power loss empties the
    /// queue; `kept_in` (feature `flash`) is for events that outlive it.
    pub fn publish(&self, key: Key, payload: &[u8]) -> Result<(), PublishError> {
        self.shared.with(|_, core| publish(core, key, payload))
    }

    /// The same for a value: its postcard encoding is the payload.
    pub fn publish_typed<T: Serialize + ?Sized>(&self, key: Key, value: &T) -> Result<(), PublishError> {
        self.publish(key, encode(value, &mut [0; TYPED_MAX])?)
    }

    /// What became of the events.
    pub fn event_counts(&self) -> EventCounts {
        self.shared.with(|_, core| EventCounts {
            published: core.desk.published,
            stored: core.desk.stored,
            dropped: core.desk.dropped,
        })
    }

    /// The server's time in milliseconds since 1970, `None` before the first session. It is off by half a round trip at
    /// most and by what the board's own clock drifts between two heartbeats, or while detached; when it is mended it jumps.
    pub fn time_ms(&self) -> Option<u64> {
        self.shared.with(|now, core| core.session.time_ms(now))
    }

    /// How the link stands.
    pub fn link(&self) -> Link {
        self.shared.with(|_, core| link(core))
    }

    /// Waits until the link or the events stored satisfy `is_reached`. For one task at a time: more work
    /// too, but wake one another in vain. Cancel safe: it changes nothing.
    pub async fn wait_for(&self, mut is_reached: impl FnMut(&Link, &EventCounts) -> bool) {
        poll_fn(|cx| {
            let counts = self.event_counts();
            self.shared.with(|_, core| {
                if is_reached(&link(core), &counts) {
                    return Poll::Ready(());
                }
                core.desk.link.register(cx.waker());
                Poll::Pending
            })
        })
        .await;
    }

    /// Leaves in good order and connects again after a moment.
    pub fn reconnect(&self) {
        self.shared.with(|now, core| {
            core.session.leave(now);
            core.notify_runner();
        });
    }

    /// Leaves in good order; [`Runner::run`](crate::Runner::run) returns.
    pub fn stop(&self) {
        self.shared.with(|now, core| {
            core.desk.is_stopping = true;
            core.session.leave(now);
            core.notify_runner();
        });
    }
}

/// Largest value of [`Client::publish_typed`], in bytes; it is encoded on the stack.
pub(crate) const TYPED_MAX: usize = 256;

pub(crate) fn encode<'b, T: Serialize + ?Sized>(
    value: &T,
    bytes: &'b mut [u8; TYPED_MAX],
) -> Result<&'b [u8], PublishError> {
    let too_large = PublishError::TooLarge { max: TYPED_MAX };
    postcard::to_slice(value, bytes).map(|bytes| &*bytes).map_err(|_| too_large)
}

fn link(core: &Core<'_>) -> Link {
    Link {
        state: core.session.state(),
        epoch: core.session.epoch(),
        heartbeat_ms: core.session.heartbeat_ms().unwrap_or_default(),
        sessions: core.desk.sessions,
        failures: core.desk.failures,
        last_error: core.desk.last_error,
    }
}

/// Largest payload of an event that can be queued and sent, in bytes.
pub(crate) fn sendable_max(core: &Core<'_>) -> usize {
    let sendable = core.desk.frame_out.saturating_sub(EVENT_OVERHEAD);
    sendable.min(core.events.record_max().saturating_sub(RECORD_OVERHEAD))
}

/// The same of an event `key`.
pub(crate) fn payload_max(core: &Core<'_>, key: Key) -> Result<usize, PublishError> {
    if core.desk.interface.allows(Kind::Event, key) { Ok(sendable_max(core)) } else { Err(PublishError::UnknownKey) }
}

fn publish(core: &mut Core<'_>, key: Key, payload: &[u8]) -> Result<(), PublishError> {
    #[cfg(feature = "flash")]
    if core.desk.is_queue_kept {
        return Err(PublishError::InFlash);
    }
    let max = payload_max(core, key)?;
    if payload.len() > max {
        return Err(PublishError::TooLarge { max });
    }
    let record = EventRecord { key, payload };
    while core.events.push(&record).is_err() {
        core.desk.dropped = core.desk.dropped.wrapping_add(1);
        match core.session.droppable_event() {
            Some(oldest) if core.desk.overflow == Overflow::DropOldest => {
                core.events.remove(oldest);
                core.session.handle_event_dropped();
            }
            _ => return Err(PublishError::Full),
        }
    }
    core.desk.published = core.desk.published.wrapping_add(1);
    core.session.add_event();
    core.notify_runner();
    Ok(())
}

//! What the runner and the handles share, seen under the lock.

use core::task::Waker;

use embassy_sync::waitqueue::{MultiWakerRegistration, WakerRegistration};
use imlink_protocol::device::{End, Session};
use imlink_protocol::{Key, MessageId};
use serde::{Deserialize, Serialize};

use crate::config::Overflow;
use crate::error::Error;
use crate::interface::Interface;
use crate::queue::Queue;

/// The shared part of a [`State`](crate::State), borrowed for a moment.
pub struct Core<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) inbox: &'a mut Queue,
    pub(crate) calls: &'a mut Queue,
    pub(crate) replies: &'a mut Queue,
    pub(crate) events: &'a mut Queue,
    pub(crate) desk: &'a mut Desk,
}

/// What is neither session nor queue.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) interface: Interface,
    pub(crate) overflow: Overflow,
    pub(crate) frame_out: usize,
    /// The last message whose handler started, as far as it was kept over a power loss; `0-0` when it was not.
    pub(crate) started: MessageId,
    pub(crate) last_error: Option<Error>,
    pub(crate) published: u32,
    pub(crate) stored: u32,
    pub(crate) dropped: u32,
    pub(crate) sessions: u32,
    pub(crate) failures: u32,
    pub(crate) is_stopping: bool,
    /// The handles changed something that the runner has to look at.
    pub(crate) runner: Notice,
    pub(crate) messages: WakerRegistration,
    pub(crate) calls: MultiWakerRegistration<2>,
    pub(crate) link: MultiWakerRegistration<1>,
    /// The event queue is kept in flash.
    #[cfg(feature = "flash")]
    pub(crate) is_queue_kept: bool,
    /// Events may have to be fetched from there.
    #[cfg(feature = "flash")]
    pub(crate) feeder: Notice,
}

/// A notice for one task that it has to look again.
#[derive(Debug)]
pub(crate) struct Notice {
    is_given: bool,
    task: WakerRegistration,
}

impl Notice {
    const fn new() -> Self {
        Self { is_given: false, task: WakerRegistration::new() }
    }

    pub(crate) fn give(&mut self) {
        self.is_given = true;
        self.task.wake();
    }

    /// Whether it was given since the last look; else `waker` is woken when it is.
    pub(crate) fn take(&mut self, waker: &Waker) -> bool {
        let is_given = core::mem::take(&mut self.is_given);
        if !is_given {
            self.task.register(waker);
        }
        is_given
    }
}

/// A message in the inbox.
#[derive(Serialize, Deserialize)]
pub(crate) struct MessageRecord<'a> {
    pub(crate) id: MessageId,
    pub(crate) key: Key,
    pub(crate) is_redelivered: bool,
    pub(crate) payload: &'a [u8],
}

/// Bytes of a message's record beside the payload: id 8 + 8, key 4, flag 1, length 3.
pub(crate) const MESSAGE_OVERHEAD: usize = 24;

/// A call that waits or runs.
#[derive(Serialize, Deserialize)]
pub(crate) struct CallRecord<'a> {
    /// First, so that it can be overwritten in place.
    pub(crate) is_taken: bool,
    pub(crate) request: u32,
    pub(crate) key: Key,
    pub(crate) payload: &'a [u8],
}

/// A reply that waits to be sent.
#[derive(Serialize, Deserialize)]
pub(crate) struct ReplyRecord<'a> {
    pub(crate) request: u32,
    pub(crate) status: imlink_protocol::message::Code,
    pub(crate) payload: &'a [u8],
}

/// An event that is not stored yet.
#[derive(Serialize, Deserialize)]
pub(crate) struct EventRecord<'a> {
    pub(crate) key: Key,
    pub(crate) payload: &'a [u8],
}

impl Core<'_> {
    /// The runner is to look again.
    pub(crate) fn notify_runner(&mut self) {
        self.desk.runner.give();
    }

    /// Events at the queue's front are stored.
    pub(crate) fn remove_stored(&mut self, count: u32) {
        for _ in 0..self.events.len().min(count as usize) {
            self.events.remove(0);
        }
        self.desk.stored = self.desk.stored.wrapping_add(count);
        if count > 0 {
            self.desk.link.wake();
            #[cfg(feature = "flash")]
            self.desk.feeder.give();
        }
    }

    pub(crate) fn find_call(&self, request: u32) -> Option<usize> {
        self.calls.iter::<CallRecord<'_>>().position(|call| call.request == request)
    }

    pub(crate) fn remove_call(&mut self, request: u32) {
        if let Some(index) = self.find_call(request) {
            self.calls.remove(index);
        }
    }

    /// The connection is over: what belonged to it goes, messages and events stay.
    pub(crate) fn handle_disconnected(&mut self, now: imlink_protocol::Instant, random: u32) -> End {
        self.calls.clear();
        self.replies.clear();
        self.desk.calls.wake();
        self.desk.link.wake();
        self.session.handle_disconnected(now, random)
    }
}

impl Desk {
    pub(crate) const fn new() -> Self {
        Self {
            interface: Interface::NONE,
            overflow: Overflow::RefuseNewest,
            frame_out: 0,
            started: MessageId::new(0, 0),
            last_error: None,
            published: 0,
            stored: 0,
            dropped: 0,
            sessions: 0,
            failures: 0,
            is_stopping: false,
            runner: Notice::new(),
            messages: WakerRegistration::new(),
            calls: MultiWakerRegistration::new(),
            link: MultiWakerRegistration::new(),
            #[cfg(feature = "flash")]
            is_queue_kept: false,
            #[cfg(feature = "flash")]
            feeder: Notice::new(),
        }
    }

    /// The handler of `id` starts.
    pub(crate) fn handle_started(&mut self, id: MessageId) {
        if self.started != MessageId::default() {
            self.started = self.started.max(id);
        }
    }

    /// Whether `id` may have reached the application before; the server marks what it offered before. A device that
    /// keeps its cursor knows better: what lies behind the last message it started was never handed over.
    pub(crate) fn is_redelivered(&self, id: MessageId, is_marked: bool) -> bool {
        let is_known = self.started != MessageId::default();
        id == self.started || (is_marked && (!is_known || id < self.started))
    }
}

//! The inbox of an I/O thread: what other threads want it to do.

use std::sync::Arc;

use bytes::Bytes;
use imlink_link::Sender;
use imlink_protocol::message::GoAwayReason;
use mio::Waker;
use parking_lot::Mutex;

use crate::conn::{ConnId, Moving};
use crate::handshake::Shaken;
use crate::store_work::Done;

/// Number of a link to a route, never used twice in a process.
pub(crate) type LinkId = u32;

/// Something an I/O thread is told.
pub(crate) enum Command {
    /// A frame of a route that concerns a device of this thread.
    FromRoute { link: LinkId, body: Bytes },
    /// A link is registered.
    LinkUp { link: LinkId, sender: Sender },
    /// A link ended; after an unclean end hints may be lost.
    LinkDown { link: LinkId, is_clean: bool },
    /// A connection whose device belongs to this thread.
    Adopt(Box<Moving>),
    /// Store work that had to wait is done.
    Done(Done),
    /// A handshake came a step further.
    Shaken(ConnId, Shaken),
    /// The store came back, maybe with a part of its past missing.
    StoreBack,
    /// Admit new devices, or not.
    Admit(bool),
    /// Send all devices away for this reason, spread over the drain time, and admit no more.
    Drain(GoAwayReason),
    /// Close everything and end.
    Stop,
}

/// The sending side; cheap to clone.
#[derive(Clone)]
pub(crate) struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    commands: Mutex<Vec<Command>>,
    waker: Waker,
}

impl Inbox {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { shared: Arc::new(Shared { commands: Mutex::new(Vec::new()), waker }) }
    }

    pub(crate) fn put(&self, command: Command) {
        self.put_all(&mut vec![command]);
    }

    /// Moves all of `commands` here; the thread is woken once, and only when it had nothing to do.
    pub(crate) fn put_all(&self, commands: &mut Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        let was_empty = {
            let mut waiting = self.shared.commands.lock();
            let was_empty = waiting.is_empty();
            waiting.append(commands);
            was_empty
        };
        if was_empty && let Err(error) = self.shared.waker.wake() {
            tracing::error!(%error, "an I/O thread cannot be woken");
        }
    }

    /// Swaps what waits with `emptied`, keeping its room for the next round.
    pub(crate) fn take(&self, emptied: &mut Vec<Command>) {
        std::mem::swap(&mut *self.shared.commands.lock(), emptied);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.shared.commands.lock().len()
    }
}

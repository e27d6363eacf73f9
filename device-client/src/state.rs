//! All memory of a device.

use core::cell::RefCell;
use core::num::NonZeroU64;

use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::{NoopRawMutex, RawMutex};
use imlink_protocol::Instant;
use imlink_protocol::device::{EventRange, Pacing, Session, Start};
use imlink_protocol::id::Cursor;
use imlink_protocol::limits::RECEIVE_LIMIT_MIN;

use crate::core_state::{Core, Desk};
use crate::platform::Clock;
use crate::queue::Queue;

/// All memory of a device, placed by the user, usually in a `StaticCell`.
///
/// | parameter | bytes for | default |
/// |---|---|---|
/// | `FRAME` | one frame from the server, its length included | 512 |
/// | `OUT` | what goes out in one write; the longest event or reply | 256 |
/// | `INBOX` | messages that wait for their handler, 26 bytes and the payload each; not below `FRAME` | 512 |
/// | `CALLS` | calls that wait or run, and as much again for their replies | 96 |
/// | `EVENTS` | events that are not stored yet, 7 bytes and the payload each | 192 |
///
/// The sum of these (`CALLS` twice) and at most 1,420 bytes for session and handles, on a 64-bit host; less
/// on a microcontroller. With the defaults at most 3 KiB.
///
/// `M` is `NoopRawMutex` when all tasks run on one executor, else `CriticalSectionRawMutex`.
pub struct State<
    M: RawMutex,
    C,
    const FRAME: usize = 512,
    const OUT: usize = 256,
    const INBOX: usize = 512,
    const CALLS: usize = 96,
    const EVENTS: usize = 192,
> {
    pub(crate) shared: Shared<M, C, INBOX, CALLS, EVENTS>,
    pub(crate) frame_in: [u8; FRAME],
    pub(crate) frame_out: [u8; OUT],
}

/// The part of a [`State`] that runner and handles share.
pub struct Shared<
    M: RawMutex = NoopRawMutex,
    C = (),
    const INBOX: usize = 512,
    const CALLS: usize = 96,
    const EVENTS: usize = 192,
> {
    clock: C,
    inner: Mutex<M, RefCell<Inner<INBOX, CALLS, EVENTS>>>,
}

struct Inner<const INBOX: usize, const CALLS: usize, const EVENTS: usize> {
    session: Session,
    inbox: Queue<[u8; INBOX]>,
    calls: Queue<[u8; CALLS]>,
    replies: Queue<[u8; CALLS]>,
    events: Queue<[u8; EVENTS]>,
    desk: Desk,
}

/// A [`Shared`] of any size.
pub trait Storage {
    /// The clock of the board.
    type Clock: Clock;

    /// Works on what is shared, under the lock.
    fn with<R>(&self, work: impl FnOnce(Instant, &mut Core<'_>) -> R) -> R;

    /// The clock of the board.
    fn clock(&self) -> &Self::Clock;
}

impl<
    M: RawMutex,
    C: Clock,
    const FRAME: usize,
    const OUT: usize,
    const INBOX: usize,
    const CALLS: usize,
    const EVENTS: usize,
> State<M, C, FRAME, OUT, INBOX, CALLS, EVENTS>
{
    const SIZES_FIT: () = {
        assert!(FRAME >= RECEIVE_LIMIT_MIN + 3, "FRAME must be at least 259: every control frame and Hello fit");
        assert!(OUT >= 64, "OUT must be at least 64: every control frame fits");
        assert!(INBOX >= FRAME, "INBOX must be at least FRAME: a message of the largest frame fits");
    };

    /// Memory of a device that measures time by `clock`.
    pub fn new(clock: C) -> Self {
        let () = Self::SIZES_FIT;
        let inner = Inner {
            session: Session::new(&Start {
                incarnation: NonZeroU64::MIN,
                event_queue: 0,
                events: EventRange::default(),
                cursor: Cursor::default(),
                heartbeat: Pacing::Server,
            }),
            inbox: Queue::new(),
            calls: Queue::new(),
            replies: Queue::new(),
            events: Queue::new(),
            desk: Desk::new(),
        };
        let shared = Shared { clock, inner: Mutex::new(RefCell::new(inner)) };
        Self { shared, frame_in: [0; FRAME], frame_out: [0; OUT] }
    }
}

impl<M: RawMutex, C: Clock, const INBOX: usize, const CALLS: usize, const EVENTS: usize> Storage
    for Shared<M, C, INBOX, CALLS, EVENTS>
{
    type Clock = C;

    fn with<R>(&self, work: impl FnOnce(Instant, &mut Core<'_>) -> R) -> R {
        let now = self.clock.now();
        self.inner.lock(|inner| {
            let inner = &mut *inner.borrow_mut();
            let mut core = Core {
                session: &mut inner.session,
                inbox: &mut inner.inbox,
                calls: &mut inner.calls,
                replies: &mut inner.replies,
                events: &mut inner.events,
                desk: &mut inner.desk,
            };
            work(now, &mut core)
        })
    }

    fn clock(&self) -> &C {
        &self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokio::TokioClock;

    #[test]
    fn a_device_with_512_byte_frames_takes_at_most_3_kib() {
        let size = size_of::<State<NoopRawMutex, TokioClock>>();
        assert!(size <= 3072, "{size} bytes");
    }

    #[test]
    fn the_documented_overhead_holds() {
        let size = size_of::<State<NoopRawMutex, TokioClock, 2048, 2048, 2048, 512, 1024>>();
        assert!(size <= 2048 * 3 + 2 * 512 + 1024 + 1420, "{size} bytes");
    }
}

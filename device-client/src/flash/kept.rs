//! Publishing into flash, and from there into the queue that is sent from.

use core::convert::Infallible;
use core::time::Duration;

use embassy_futures::select::select;
use embassy_sync::blocking_mutex::raw::RawMutex;
use embassy_sync::mutex::Mutex;
use embedded_storage_async::nor_flash::NorFlash;
use imlink_protocol::Key;
use serde::Serialize;

use super::FlashError;
use super::pages::KeptEvent;
use super::queue::FlashQueue;
use crate::client::{Client, PublishError, TYPED_MAX, encode, payload_max, sendable_max};
use crate::core_state::{Core, EventRecord};
use crate::error::ConfigError;
use crate::platform::Clock;
use crate::runner::noticed;
use crate::state::Storage;

/// Events that outlive a power loss.
///
/// ```text
/// publish ─▶ flash: all that are not stored ─▶ State: those that are sent next ─▶ server
/// ```
///
/// What [`publish`](Self::publish) said `Ok` to reaches the store once, in order, though power fails at any moment, as
/// long as the flash keeps what was written. Share it between tasks by reference; [`run`](Self::run) has to run all the
/// time in one of them.
///
/// ```no_run
/// # use embedded_storage_async::nor_flash::NorFlash;
/// # use imlink_device_client::{Config, Key, NoopRawMutex, State, flash::FlashQueue, tokio::{TokioClock, TokioRng, TokioStack}};
/// # async fn device(flash: impl NorFlash, config: Config<'_>) -> Result<(), Box<dyn std::error::Error>> {
/// let queue: FlashQueue<_> = FlashQueue::open(flash, 0..0x4000, &mut TokioRng).await?;
/// let config = Config { events: Some(queue.start()), ..config };
/// let mut state = State::<NoopRawMutex, _>::new(TokioClock::new());
/// let mut device = imlink_device_client::new(&mut state, config, TokioStack::default(), TokioRng)?;
/// let events = device.client.kept_in::<NoopRawMutex, _, 256>(queue)?;
/// let work = async {
///     let number = events.publish(Key::raw("door"), b"open").await;
///     // From here on a power loss does not matter.
/// };
/// # tokio::select! { _ = device.runner.run() => {} _ = events.run() => {} _ = work => {} }
/// # Ok(())
/// # }
/// ```
pub struct KeptEvents<'a, S, M: RawMutex, F: NorFlash, const LEN: usize = 256> {
    client: Client<'a, S>,
    queue: Mutex<M, FlashQueue<F, LEN>>,
}

/// How long after flash that could not be read or written it is tried again.
const RETRY: Duration = Duration::from_secs(10);

impl<'a, S: Storage> Client<'a, S> {
    /// Keeps events in `queue` from here on, whose [`start`](FlashQueue::start) is this device's
    /// [`Config::events`](crate::Config::events).
    ///
    /// # Errors
    /// [`ConfigError::EventQueue`] when it is another's.
    pub fn kept_in<M: RawMutex, F: NorFlash, const LEN: usize>(
        self,
        queue: FlashQueue<F, LEN>,
    ) -> Result<KeptEvents<'a, S, M, F, LEN>, ConfigError> {
        let start = queue.start();
        let is_its_own =
            self.shared.with(|_, core| core.desk.is_queue_kept && core.session.event_queue() == start.queue);
        if !is_its_own {
            return Err(ConfigError::EventQueue);
        }
        Ok(KeptEvents { client: self, queue: Mutex::new(queue) })
    }
}

impl<S: Storage, M: RawMutex, F: NorFlash, const LEN: usize> KeptEvents<'_, S, M, F, LEN> {
    /// Keeps an event and returns its number, which grows from event to event. It is in flash when this returns.
    ///
    /// Waits for the flash, not for the network. When all pages are full of events that are not stored, the newest is
    /// refused or the oldest page is dropped, as [`Config::overflow`](crate::Config::overflow) says.
    ///
    /// Dropped before it is ready, or failed with [`PublishError::Flash`], the event may be kept or not.
    pub async fn publish(&self, key: Key, payload: &[u8]) -> Result<u64, PublishError> {
        let shared = self.client.shared;
        let max = shared.with(|_, core| payload_max(core, key))?.min(FlashQueue::<F, LEN>::payload_max());
        if payload.len() > max {
            return Err(PublishError::TooLarge { max });
        }
        let mut queue = self.queue.lock().await;
        let (stored, taken, overflow) = shared.with(|_, core| {
            let session = &core.session;
            (session.events_stored(), session.next_event() - 1, core.desk.overflow)
        });
        let kept = queue.keep(key, payload, (stored, taken), overflow).await;
        shared.with(|_, core| match kept {
            Ok(kept) => {
                core.desk.dropped = core.desk.dropped.wrapping_add(kept.dropped);
                core.desk.published = core.desk.published.wrapping_add(1);
                let event = KeptEvent { sequence: kept.sequence, key, payload };
                // Out of turn it is fetched from flash later.
                if kept.sequence != core.session.next_event() || !take(core, &event) {
                    core.desk.feeder.give();
                }
                Ok(kept.sequence)
            }
            Err(FlashError::Full) => {
                core.desk.dropped = core.desk.dropped.wrapping_add(1);
                Err(PublishError::Full)
            }
            Err(error) => Err(PublishError::Flash(error)),
        })
    }

    /// The same for a value: its postcard encoding, of at most 256 bytes, is the payload.
    pub async fn publish_typed<T: Serialize + ?Sized>(&self, key: Key, value: &T) -> Result<u64, PublishError> {
        self.publish(key, encode(value, &mut [0; TYPED_MAX])?).await
    }

    /// Writes, readings and pages of the flash that failed since power-on.
    pub async fn failures(&self) -> u32 {
        self.queue.lock().await.failures()
    }

    /// Fetches events from flash when there is room to send them, for ever. Flash that fails is tried again after 10 s.
    ///
    /// Cancel safe: when the future is dropped, events stay where they are; called again it goes on.
    pub async fn run(&self) -> Infallible {
        let shared = self.client.shared;
        loop {
            let changed = noticed(shared, |desk| &mut desk.feeder);
            if self.feed().await.is_ok() {
                changed.await;
            } else {
                let retry_at = shared.clock().now().after(RETRY);
                select(changed, shared.clock().sleep_until(retry_at)).await;
            }
        }
    }

    async fn feed(&self) -> Result<(), FlashError> {
        let shared = self.client.shared;
        let mut queue = self.queue.lock().await;
        // Several at once: each time the page is read from its start.
        let (next, has_room) = shared.with(|_, core| (core.session.next_event(), core.events.is_half_empty()));
        if has_room && next <= queue.last() {
            queue.feed(|event| shared.with(|_, core| take(core, event))).await?;
        }
        let stored = shared.with(|_, core| core.session.events_stored());
        queue.note(stored).await
    }
}

/// Puts a kept event at the end of the queue that is sent from, unless it was there before; false when it has to wait.
fn take(core: &mut Core<'_>, event: &KeptEvent<'_>) -> bool {
    let KeptEvent { sequence, key, payload } = *event;
    let next = core.session.next_event();
    if sequence < next {
        return true;
    }
    // Numbers between them have no event; they are skipped when all before them are stored.
    if sequence > next && !core.session.skip_events(sequence - 1) {
        return false;
    }
    if payload.len() > sendable_max(core) {
        // Of a firmware that could send more.
        let is_skipped = core.session.skip_events(sequence);
        core.desk.dropped = core.desk.dropped.wrapping_add(u32::from(is_skipped));
        return is_skipped;
    }
    if core.events.push(&EventRecord { key, payload }).is_err() {
        return false;
    }
    core.session.add_event();
    core.notify_runner();
    true
}

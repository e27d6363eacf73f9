//! Who may be here: so many that proved nothing, of whom the oldest goes first; so many that did; so many a second.
//!
//! ```text
//! accept ─▶ half open ─proof─▶ admitted ─▶ Redirect
//!    │          └─crowded out, refused─▶ being told ─▶ closed
//!    └─address too fast──────────────────────┘
//! ```
//!
//! Each of the three holds at most `half_open_max` connections. Past it the oldest half-open one makes room, an
//! admitted one is told to come back, and one that would be told is closed without a word.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use imlink_protocol::seal::Claim;
use imlink_seal::OpenHandshakes;
use imlink_store::DeviceKey;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::access::Bucket;

/// The room for logins.
pub(super) struct Admission {
    half_open_max: usize,
    half_open: Mutex<HalfOpen>,
    admitted: Arc<Semaphore>,
    told: Arc<Semaphore>,
    bucket: Bucket,
    open: Mutex<OpenHandshakes<Who>>,
    gauge: Gauge,
}

/// Whom a handshake claims to be: a device, and which of its connections.
type Who = (DeviceKey, Claim);

/// Connections that proved nothing, by number; the smallest is the oldest.
#[derive(Default)]
struct HalfOpen {
    places: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
}

/// A place among the half-open connections, until dropped.
pub(super) struct Place {
    admission: Arc<Admission>,
    number: u64,
    crowded_out: oneshot::Receiver<()>,
}

/// An open handshake, until dropped.
pub(super) struct Open<'a> {
    admission: &'a Admission,
    who: Who,
}

impl Admission {
    /// Room for `half_open_max` of each kind, counted in `gauge`, and `per_s` logins a second.
    pub(super) fn new(half_open_max: usize, per_s: u32, gauge: Gauge) -> Arc<Self> {
        let half_open_max = half_open_max.max(1);
        Arc::new(Self {
            half_open_max,
            half_open: Mutex::default(),
            admitted: Arc::new(Semaphore::new(half_open_max)),
            told: Arc::new(Semaphore::new(half_open_max)),
            bucket: Bucket::new(per_s, Instant::now()),
            open: Mutex::default(),
            gauge,
        })
    }

    /// A place for one that proved nothing yet; the oldest of them goes if there are too many.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let (crowd_out, crowded_out) = oneshot::channel();
        let mut half_open = self.half_open.lock();
        let number = half_open.next;
        half_open.next += 1;
        half_open.places.insert(number, crowd_out);
        if half_open.places.len() > self.half_open_max
            && let Some((_, oldest)) = half_open.places.pop_first()
        {
            // It may have left this very moment.
            let _ = oldest.send(());
        }
        self.gauge.set(half_open.places.len() as i64);
        Place { admission: self.clone(), number, crowded_out }
    }

    /// Room for one that proved who it is.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.admitted.clone().try_acquire_owned().ok()
    }

    /// Room to tell one why it is refused.
    pub(super) fn tell(&self) -> Option<OwnedSemaphorePermit> {
        self.told.clone().try_acquire_owned().ok()
    }

    /// Whether one more login may be worked on in this second. Asked of who could not just be anybody, and before
    /// what is expensive.
    pub(super) fn take(&self, now: Instant) -> bool {
        self.bucket.take(now).is_ok()
    }

    /// Counts a handshake of a device; `None` when there are as many of the same as may be open.
    pub(super) fn open(&self, device: &DeviceKey, claim: Claim) -> Option<Open<'_>> {
        let who = (device.clone(), claim);
        let is_room = self.open.lock().enter(who.clone());
        is_room.then(|| Open { admission: self, who })
    }
}

impl Place {
    /// Waits until a newer one needs the place.
    pub(super) async fn crowded_out(&mut self) {
        // The sender is dropped with the place only.
        let _ = (&mut self.crowded_out).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut half_open = self.admission.half_open.lock();
        half_open.places.remove(&self.number);
        self.admission.gauge.set(half_open.places.len() as i64);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.admission.open.lock().leave(&self.who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn admission(half_open_max: usize, per_s: u32) -> Arc<Admission> {
        Admission::new(half_open_max, per_s, Gauge::default())
    }

    #[test]
    fn a_burst_of_a_second_passes_and_then_the_rate_counts() {
        let admission = admission(1000, 10);
        let start = Instant::now();
        assert_eq!((0..30).filter(|_| admission.take(start)).count(), 10);
        assert!(!admission.take(start + Duration::from_millis(99)));
        assert!(admission.take(start + Duration::from_millis(200)));
    }

    #[tokio::test]
    async fn the_oldest_that_proved_nothing_makes_room_and_nobody_else() {
        let admission = admission(2, 1000);
        let (mut first, mut second) = (admission.enter(), admission.enter());
        let third = admission.enter();
        first.crowded_out().await;
        assert_eq!(admission.gauge.get(), 2);
        // Who proved something has left its place: the next oldest is not asked for one.
        drop(third);
        let mut fourth = admission.enter();
        assert!(second.crowded_out.try_recv().is_err(), "there was room");
        let _fifth = admission.enter();
        second.crowded_out().await;
        assert!(fourth.crowded_out.try_recv().is_err());
        drop((first, second));
        assert_eq!(admission.gauge.get(), 2, "who was crowded out is counted once");
    }

    #[test]
    fn past_its_room_nobody_is_admitted_or_told() {
        let admission = admission(2, 1000);
        let held: Vec<_> = (0..3).map(|_| (admission.admit(), admission.tell())).collect();
        assert!(held[1].0.is_some() && held[1].1.is_some());
        assert!(held[2].0.is_none() && held[2].1.is_none());
        drop(held);
        assert!(admission.admit().is_some() && admission.tell().is_some());
    }

    #[test]
    fn two_handshakes_of_one_connection_are_open_at_most() {
        let admission = admission(8, 1000);
        let lamp = DeviceKey::single("lamp").unwrap();
        let claim = Claim { incarnation: 1, attempt: 1 };
        let open: Vec<_> = (0..2).map(|_| admission.open(&lamp, claim).unwrap()).collect();
        assert!(admission.open(&lamp, claim).is_none());
        assert!(admission.open(&lamp, Claim { attempt: 2, ..claim }).is_some());
        drop(open);
        assert!(admission.open(&lamp, claim).is_some());
    }
}

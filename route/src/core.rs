//! What all parts of a route share.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use imlink_protocol::id::{Fingerprint, check_path};
use imlink_protocol::interface::Kind;
use imlink_protocol::key::Key;
use imlink_protocol::link::backend::Failure;
use imlink_store::session::{Identity, Session};
use imlink_store::{DeviceKey, Error, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Tokens;
use crate::blob::Blobs;
use crate::calls::Calls;
use crate::config::Config;
use crate::devices::{Devices, Known, NameTag, Seat};
use crate::events::Feeds;
use crate::interface::{Interface, Interfaces};
use crate::kick::Kicks;
use crate::lookups::Lookups;
use crate::metrics::Metrics;
use crate::node::{Members, Servers};
use crate::request::Failed;
use crate::waiters::Waiters;

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) store: Store,
    /// Every call of the store is ready at its first poll.
    pub(crate) is_immediate: bool,
    /// Drawn at random at each start.
    pub(crate) incarnation: u64,
    pub(crate) devices: Devices,
    pub(crate) interfaces: Interfaces,
    pub(crate) servers: Servers,
    pub(crate) lookups: Lookups,
    pub(crate) waiters: Waiters,
    pub(crate) calls: Calls,
    pub(crate) blobs: Blobs,
    pub(crate) kicks: Kicks,
    pub(crate) feeds: Feeds,
    pub(crate) tokens: Tokens,
    pub(crate) metrics: Metrics,
    /// Everything that must end before the route has left.
    pub(crate) tasks: TaskTracker,
    /// The route begins to leave.
    pub(crate) draining: CancellationToken,
    /// The drain is over: everything stops.
    pub(crate) stopped: CancellationToken,
    /// The known servers were heard, or waited for long enough.
    pub(crate) is_settled: AtomicBool,
    /// Some link has requests that nobody waits for.
    pub(crate) has_abandoned: AtomicBool,
    /// Whose keys are believed.
    pub(crate) members: Members,
    in_flight: AtomicUsize,
    numbers: AtomicU64,
    /// Makes tags of names.
    tags: RandomState,
}

impl Core {
    pub(crate) fn new(config: Config, store: Store, incarnation: u64, draining: CancellationToken) -> Self {
        let limits = &config.limits;
        Self {
            is_immediate: store.kind() == "memory",
            incarnation,
            devices: Devices::new(limits.devices_cached_max),
            interfaces: Interfaces::new(limits.interfaces_cached_max),
            servers: Servers::default(),
            lookups: Lookups::default(),
            waiters: Waiters::new(),
            calls: Calls::new(),
            blobs: Blobs::default(),
            kicks: Kicks::default(),
            feeds: Feeds::new(limits.events_kept_max),
            tokens: Tokens::new(&config.token, &store),
            metrics: Metrics::new(),
            tasks: TaskTracker::new(),
            draining,
            stopped: CancellationToken::new(),
            is_settled: AtomicBool::new(false),
            has_abandoned: AtomicBool::new(false),
            members: Members::default(),
            in_flight: AtomicUsize::new(0),
            numbers: AtomicU64::new(1),
            tags: RandomState::new(),
            store,
            config,
        }
    }

    /// Takes one more request, unless too many are in flight.
    pub(crate) fn admit(&self) -> bool {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if before < self.config.limits.requests_max {
            return true;
        }
        self.release();
        false
    }

    pub(crate) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Where a session is, by what is compared.
    pub(crate) fn seat(&self, session: &Session) -> Seat {
        Seat { server: self.tag(&session.server), incarnation: session.incarnation, epoch: session.epoch }
    }

    /// What stands for the name of an IM-server.
    pub(crate) fn tag(&self, server: &str) -> NameTag {
        NameTag(self.tags.hash_one(server))
    }

    /// A number that this route never gives twice, from 1.
    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// An id for an append: no other append of any route has it.
    pub(crate) fn append_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        let (route, number) = id.split_at_mut(8);
        route.copy_from_slice(&self.incarnation.to_le_bytes());
        number.copy_from_slice(&self.next_number().to_le_bytes());
        id
    }

    /// What is remembered of a device, if that can still be used.
    pub(crate) fn find(&self, tenant: &str, device: &str, now: Instant) -> Option<Known> {
        let known = self.devices.find(tenant, device)?;
        // A device that was never attached may attach with an interface at any moment, and no append
        // would say so.
        let is_new = known.epoch == 0 && now.duration_since(known.learned) > NEW_DEVICE_KNOWN;
        (!is_new).then_some(known)
    }

    /// Asks the store about `device` and reads its interface.
    pub(crate) async fn look_up(&self, device: &DeviceKey) -> Result<Known, Failed> {
        let identity = self.identity(device).await?;
        if identity.revoked {
            return Err(revoked(device));
        }
        let interface = match identity.fingerprint.is_some() {
            true => Some(self.interface(device, identity.fingerprint).await?),
            false => None,
        };
        Ok(Known {
            device: device.clone(),
            fingerprint: identity.fingerprint,
            interface,
            receive_limit: identity.receive_limit,
            seat: identity.session.as_ref().map(|session| self.seat(session)),
            epoch: identity.epoch,
            learned: Instant::now(),
        })
    }

    pub(crate) async fn identity(&self, device: &DeviceKey) -> Result<Identity, Failed> {
        match self.store.identity(device).await {
            Ok(Some(identity)) => Ok(identity),
            Ok(None) => Err(unknown_device(device)),
            Err(error) => Err(store_failed(&error)),
        }
    }

    /// The interface `fingerprint`. It is asked of the first device that states it, which takes a moment.
    async fn interface(&self, device: &DeviceKey, fingerprint: Fingerprint) -> Result<Arc<Interface>, Failed> {
        let give_up = Instant::now() + INTERFACE_WAIT;
        loop {
            if let Some(interface) = self.known_interface(device.tenant(), fingerprint).await? {
                return Ok(interface);
            }
            if Instant::now() >= give_up {
                let why = format!(
                    "the interface {fingerprint} of device {} is not known yet, so its paths have no keys; \
                     it is asked for when the device is attached: try again",
                    device.device()
                );
                return Err(Failed::later(Failure::UnknownPath, Duration::from_secs(5), why));
            }
            tokio::time::sleep(INTERFACE_POLL).await;
        }
    }

    /// The interface `fingerprint`, if this route or the store has it.
    pub(crate) async fn known_interface(
        &self,
        tenant: &str,
        fingerprint: Fingerprint,
    ) -> Result<Option<Arc<Interface>>, Failed> {
        if let Some(interface) = self.interfaces.find(tenant, fingerprint) {
            return Ok(Some(interface));
        }
        let stored = self.store.interface(tenant, fingerprint).await;
        let interface = stored.map_err(|error| store_failed(&error))?.map(|bytes| {
            let interface = Arc::new(Interface::read(&bytes));
            self.interfaces.keep(tenant, fingerprint, interface.clone());
            interface
        });
        Ok(interface)
    }
}

/// Polls `future` once. `None`: not ready; it must be polled again elsewhere or dropped.
pub(crate) fn poll_now<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// The key of `path` of `kind` as `known` speaks it.
pub(crate) fn key_of(known: &Known, kind: Kind, path: &str) -> Result<Key, Failed> {
    let Some(interface) = &known.interface else {
        return match check_path(path) {
            Ok(()) => Ok(Key::raw(path)),
            Err(error) => Err(Failed::new(Failure::BadRequest, format!("path {path:?} {error}"))),
        };
    };
    let (key, what) = match kind {
        Kind::Call => (interface.call(path), "calls"),
        _ => (interface.message(path), "messages"),
    };
    key.ok_or_else(|| {
        let why = format!(
            "device {} takes no {what} for path {path:?}; its paths for {what}: {}",
            known.device.device(),
            interface.list(kind)
        );
        Failed::new(Failure::UnknownPath, why)
    })
}

pub(crate) fn unknown_device(device: &DeviceKey) -> Failed {
    let why = format!("device {} is not provisioned; provision it first", device.device());
    Failed::new(Failure::UnknownDevice, why)
}

pub(crate) fn revoked(device: &DeviceKey) -> Failed {
    let why = format!("device {} was revoked; restore it to use it again", device.device());
    Failed::new(Failure::Revoked, why)
}

/// What a backend is told when the store could not do something that changed nothing.
pub(crate) fn store_failed(error: &Error) -> Failed {
    match error {
        Error::Away(_) | Error::Full(_) => {
            let why = format!("{error}; nothing was stored: try again");
            Failed::later(Failure::StoreAway, Duration::from_secs(1), why)
        }
        Error::Unusable(_) => Failed::new(Failure::Internal, error.to_string()),
    }
}

/// How long a device that never attached is remembered.
const NEW_DEVICE_KNOWN: Duration = Duration::from_secs(1);
/// How long a request waits for an interface that is being asked of a device.
const INTERFACE_WAIT: Duration = Duration::from_secs(2);
const INTERFACE_POLL: Duration = Duration::from_millis(50);

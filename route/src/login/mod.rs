//! The device login listeners: who are you, and which IM-server shall hold you?
//!
//! ```text
//! accept ──▶ handshake ─▶ Hello (≤ 512 bytes, 10 s in all) ──▶ key ──▶ choose ──▶ Redirect
//!                └────────────────────────────────────────────────────────────▶ Reject
//! ```
//!
//! Until a device has shown who it is, it costs one task with half a KiB of buffer, and there are only so
//! many of those: the one that has not shown anything for longest goes first. What comes later in a login is in boxes
//! of its own, for the task is as large as its largest part.

mod admission;
mod handshake;
mod link;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imlink_protocol::device::LinkKind;
use imlink_protocol::limits::{GRANT_LEN_MAX, HELLO_DEADLINE};
use imlink_protocol::message::{Hello, RejectCode};
use imlink_protocol::ticket::{self, LIFETIME_S, Ticket};
use imlink_protocol::{Epoch, FromDevice, KeyMark, ToDevice, VERSION, frame};
use imlink_seal::{Buckets, Pool, Rates, RouteKeys};
use imlink_store::DeviceKey;
use imlink_store::session::{FORGED, Forged, Promoted, Proof};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;

use crate::core::Core;
use crate::metrics::Login;
use crate::node::{ServerLink, now_s};
use admission::{Admission, Place};
use handshake::Proved;
use link::Link;

/// What all logins share.
pub(crate) struct Logins {
    core: Arc<Core>,
    admission: Arc<Admission>,
    buckets: Mutex<Buckets>,
    pool: Pool,
    /// The keys by which devices know this route.
    keys: Option<RouteKeys>,
}

/// Why a login ends without a redirect.
pub(in crate::login) enum End {
    /// The device is told why.
    Told(RejectCode),
    /// Newer ones needed its place.
    CrowdedOut,
    /// It left, or is not listened to.
    Untold,
}

impl From<RejectCode> for End {
    fn from(code: RejectCode) -> Self {
        Self::Told(code)
    }
}

/// Who is given a ticket.
struct Comes {
    device: DeviceKey,
    /// Highest epoch ever given.
    epoch: Epoch,
    /// The key that it proved; none on a plain link.
    key: KeyMark,
}

/// Where a device goes.
struct Assigned {
    server: Arc<ServerLink>,
    grant: [u8; GRANT_LEN_MAX],
    grant_len: usize,
}

impl Logins {
    /// Room for logins, and threads for their handshakes.
    pub(crate) fn start(core: Arc<Core>) -> std::io::Result<Arc<Self>> {
        let limits = &core.config.limits;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let threads = if limits.handshake_threads == 0 { cores / 2 } else { limits.handshake_threads };
        let rates = Rates { address: limits.address_logins_per_s, prefix: limits.prefix_logins_per_s };
        let pool = Pool::start(threads, limits.handshakes_waiting_max)?;
        let half_open = core.metrics.half_open.clone();
        let admission = Admission::new(limits.half_open_max, limits.logins_per_s, half_open);
        let config = &core.config;
        let keys = config.keys.as_ref().and_then(|keys| RouteKeys::new(keys, config.fleet_psks.clone()));
        Ok(Arc::new(Self { admission, buckets: Mutex::new(Buckets::new(rates)), pool, keys, core }))
    }

    /// Takes devices that log in until the route leaves.
    pub(crate) async fn listen(self: Arc<Self>, listener: TcpListener, kind: LinkKind) {
        let started = Instant::now();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.core.draining.cancelled() => return,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            self.take_in(stream, peer, kind, started.elapsed());
        }
    }

    fn take_in(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, kind: LinkKind, since_start: Duration) {
        let link = Box::new(Link::new(stream, kind));
        let shared = self.clone();
        if self.buckets.lock().take(peer.ip(), since_start.as_millis() as u64) {
            let place = self.admission.enter();
            self.core.tasks.spawn(async move { shared.log_in(link, kind, place).await });
        } else {
            self.core.tasks.spawn(async move { shared.turn_away(link, RejectCode::Overloaded, "address").await });
        }
    }

    async fn log_in(&self, mut link: Box<Link>, kind: LinkKind, place: Place) {
        match self.answer(&mut link, kind, place).await {
            Ok((assigned, _room)) => {
                self.core.metrics.login(Login::Redirected);
                let grant = assigned.grant.get(..assigned.grant_len).unwrap_or_default();
                let address = assigned.server.address_of(kind);
                Box::pin(link.say(&ToDevice::Redirect { address, grant })).await;
            }
            Err(End::Told(code)) => {
                self.core.metrics.login(Login::Rejected);
                self.turn_away(link, code, code.name()).await;
            }
            Err(End::CrowdedOut) => {
                self.core.metrics.login(Login::CrowdedOut);
                self.turn_away(link, RejectCode::Overloaded, "crowded-out").await;
            }
            Err(End::Untold) => self.core.metrics.login(Login::Lost),
        }
    }

    /// Where the device goes. Its place is free again when it proved who it is, or is answered.
    async fn answer(
        &self,
        link: &mut Link,
        kind: LinkKind,
        mut place: Place,
    ) -> Result<(Assigned, OwnedSemaphorePermit), End> {
        let deadline = tokio::time::Instant::now() + HELLO_DEADLINE;
        link.prepare()?;
        let proved = tokio::select! {
            proved = timeout_at(deadline, self.hear(link, kind)) => proved.map_err(|_| End::Untold)??,
            () = place.crowded_out() => return Err(End::CrowdedOut),
        };
        let room = self.admission.admit().ok_or(RejectCode::Overloaded)?;
        drop(place);
        // The device said all that it was asked for: what takes too long now is the store.
        let assigned = timeout_at(deadline, Box::pin(self.assign(link.first_frame(), proved))).await;
        Ok((assigned.unwrap_or(Err(RejectCode::StoreAway))?, room))
    }

    /// Tells a device why it is refused, if there is room for that.
    async fn turn_away(&self, mut link: Box<Link>, code: RejectCode, reason: &'static str) {
        self.core.metrics.rejected(reason);
        match self.admission.tell() {
            Some(_room) => {
                let retry_after_s = retry_after_s(&self.core, code);
                Box::pin(link.say(&ToDevice::Reject { code, retry_after_s })).await;
            }
            None => self.core.metrics.rejected("untold"),
        }
    }

    /// Hears a device out: who comes over a sealed link is proved by then.
    async fn hear(&self, link: &mut Link, kind: LinkKind) -> Result<Option<Proved>, End> {
        match kind {
            LinkKind::Sealed => self.shake(link).await.map(Some),
            LinkKind::Plain => link.hear().await.map(|()| None),
        }
    }

    async fn assign(&self, hello: &[u8], proved: Option<Proved>) -> Result<Assigned, RejectCode> {
        let hello = read_hello(hello)?;
        let (comes, kind) = match proved {
            Some(Proved { device, public_key, epoch }) => {
                self.promote(&device, &public_key).await?;
                (Comes { device, epoch, key: KeyMark::of(&public_key) }, LinkKind::Sealed)
            }
            None => (self.comes_plainly(&hello).await?, LinkKind::Plain),
        };
        let core = &self.core;
        let server = core.servers.choose(&core.config.server_labels, kind, Instant::now(), random());
        let server = server.ok_or(RejectCode::NoServer)?;
        let granted = grant(core, &server.name, &comes, kind);
        let (grant, grant_len) = granted.ok_or(RejectCode::NoServer)?;
        Ok(Assigned { server, grant, grant_len })
    }

    /// Who comes over a plain link, by its own word.
    async fn comes_plainly(&self, hello: &Hello<'_>) -> Result<Comes, RejectCode> {
        if !self.admission.take(Instant::now()) {
            return Err(RejectCode::Overloaded);
        }
        let device = DeviceKey::new(hello.tenant, hello.device).map_err(|_| RejectCode::UnknownDevice)?;
        let identity = self.identity(&device).await?.ok_or(RejectCode::UnknownDevice)?;
        let proof = self.believe(&device, identity.proof)?;
        if identity.revoked {
            return Err(RejectCode::Revoked);
        }
        // A device that has a key never logs in without showing it.
        if proof != Proof::Plain {
            return Err(RejectCode::Unsealed);
        }
        Ok(Comes { device, epoch: identity.epoch, key: KeyMark::PLAIN })
    }

    async fn identity(&self, device: &DeviceKey) -> Result<Option<imlink_store::session::Identity>, RejectCode> {
        self.core.store.identity(device).await.map_err(|error| {
            tracing::warn!(%error, "a device cannot log in");
            RejectCode::StoreAway
        })
    }

    /// How a device proves itself, if a route wrote that.
    fn believe(&self, device: &DeviceKey, proof: Result<Proof, Forged>) -> Result<Proof, RejectCode> {
        proof.map_err(|Forged| {
            tracing::error!(%device, "{FORGED}");
            self.core.metrics.rejected("forged-record");
            RejectCode::UnknownDevice
        })
    }

    /// The device proved `key`: an older one is over.
    async fn promote(&self, device: &DeviceKey, key: &[u8; 32]) -> Result<(), RejectCode> {
        match self.core.store.promote_key(device, key).await {
            Ok(Promoted::Promoted | Promoted::Current) => Ok(()),
            Ok(Promoted::OtherKey | Promoted::UnknownDevice) => Err(RejectCode::UnknownDevice),
            Ok(Promoted::Revoked) => Err(RejectCode::Revoked),
            Err(error) => {
                tracing::warn!(%error, "a device cannot log in");
                Err(RejectCode::StoreAway)
            }
        }
    }
}

/// Reads the first frame.
fn read_hello(body: &[u8]) -> Result<Hello<'_>, RejectCode> {
    // The version is the first field: an unknown one is told, whatever follows it.
    match body {
        [0, version, ..] if *version != VERSION => return Err(RejectCode::Version),
        _ => {}
    }
    match frame::decode::<FromDevice<'_>>(body) {
        Ok(FromDevice::Hello(hello)) => Ok(hello),
        Ok(_) => Err(RejectCode::Order),
        Err(_) => Err(RejectCode::Malformed),
    }
}

fn grant(core: &Core, server: &str, comes: &Comes, kind: LinkKind) -> Option<([u8; GRANT_LEN_MAX], usize)> {
    let now = now_s();
    let key = ticket::derive(core.config.cluster_secret.as_bytes(), server, ticket::day_of(now));
    let ticket = Ticket {
        is_plain: kind == LinkKind::Plain,
        tenant: comes.device.tenant(),
        device: comes.device.device(),
        epoch_floor: comes.epoch,
        expires_s: now + LIFETIME_S,
        key: comes.key,
    };
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).ok()?;
    let mut out = [0; GRANT_LEN_MAX];
    let len = ticket::grant(&ticket, &key, &nonce, &mut out)?;
    Some((out, len))
}

fn retry_after_s(core: &Core, code: RejectCode) -> u32 {
    match code {
        RejectCode::StoreAway | RejectCode::NoServer | RejectCode::Overloaded => core.config.limits.overload_retry_s,
        _ => REFUSED_RETRY_S,
    }
}

fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// Pause after an accept that failed, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Retry-after for what a device cannot mend by itself, in seconds.
const REFUSED_RETRY_S: u32 = 300;

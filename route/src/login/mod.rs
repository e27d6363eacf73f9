//! The device login listeners: who are you, and which IM-server shall hold you?
//!
//! ```text
//! accept ──room?──▶ handshake ─▶ Hello (≤ 512 bytes, 10 s in all) ──▶ identity ──▶ choose ──▶ Redirect
//!            └─no─▶ Reject overloaded    └──────────────────────────────────────────────────▶ Reject
//! ```
//!
//! Until a device has shown who it is, it costs one task with half a KiB of buffer, and there are only so
//! many of those.

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
use imlink_protocol::{FromDevice, KeyMark, ToDevice, VERSION, frame};
use imlink_seal::{Buckets, Pool, Rates, RouteKeys};
use imlink_store::DeviceKey;
use imlink_store::session::{FORGED, Forged, Promoted, Proof};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout_at;

use crate::core::Core;
use crate::metrics::Login;
use crate::node::{ServerLink, now_s};
use admission::{Admission, Refused};
use handshake::Comes;
use link::Link;

/// What all logins share.
pub(crate) struct Logins {
    core: Arc<Core>,
    admission: Admission,
    buckets: Mutex<Buckets>,
    pool: Pool,
    /// The keys by which devices know this route.
    keys: Option<RouteKeys>,
}

/// Why a login ends without a redirect.
pub(in crate::login) enum End {
    /// The device is told why.
    Told(RejectCode),
    /// It left, or is not listened to.
    Untold,
}

impl From<RejectCode> for End {
    fn from(code: RejectCode) -> Self {
        Self::Told(code)
    }
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
        let pool = Pool::start(threads, limits.handshakes_max)?;
        let admission = Admission::new(limits.handshakes_max, limits.logins_per_s);
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
            self.admit(stream, peer, kind, started.elapsed());
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, kind: LinkKind, since_start: Duration) {
        let is_address_good = self.buckets.lock().take(peer.ip(), since_start.as_millis() as u64);
        let admitted = if is_address_good { self.admission.admit(Instant::now()) } else { self.admission.refuse() };
        let metrics = &self.core.metrics;
        match admitted {
            Ok(permit) => {
                let shared = self.clone();
                self.core.tasks.spawn(async move {
                    shared.log_in(stream, kind).await;
                    drop(permit);
                });
            }
            Err(Refused::Told(permit)) => {
                metrics.rejected(RejectCode::Overloaded.name());
                let retry_after_s = self.core.config.limits.overload_retry_s;
                tokio::spawn(async move {
                    let mut link = Link::new(stream, kind);
                    link.say(&ToDevice::Reject { code: RejectCode::Overloaded, retry_after_s }).await;
                    drop(permit);
                });
            }
            Err(Refused::Untold) => metrics.rejected("overloaded-untold"),
        }
    }

    async fn log_in(&self, stream: TcpStream, kind: LinkKind) {
        let deadline = tokio::time::Instant::now() + HELLO_DEADLINE;
        let core = &self.core;
        if stream.set_nodelay(true).is_err() {
            return core.metrics.login(Login::Lost);
        }
        let mut link = Link::new(stream, kind);
        let answer = match timeout_at(deadline, self.answer(&mut link, kind)).await {
            Ok(answer) => answer,
            // Either the device or the store took too long.
            Err(_) if link.has_heard() => Err(RejectCode::StoreAway.into()),
            Err(_) => Err(End::Untold),
        };
        match answer {
            Ok(assigned) => {
                core.metrics.login(Login::Redirected);
                let grant = assigned.grant.get(..assigned.grant_len).unwrap_or_default();
                link.say(&ToDevice::Redirect { address: assigned.server.address_of(kind), grant }).await;
            }
            Err(End::Told(code)) => {
                core.metrics.login(Login::Rejected);
                core.metrics.rejected(code.name());
                link.say(&ToDevice::Reject { code, retry_after_s: retry_after_s(core, code) }).await;
            }
            Err(End::Untold) => core.metrics.login(Login::Lost),
        }
    }

    async fn answer(&self, link: &mut Link, kind: LinkKind) -> Result<Assigned, End> {
        let comes = match kind {
            LinkKind::Sealed => Some(self.shake(link).await?),
            LinkKind::Plain => {
                link.hear().await?;
                None
            }
        };
        let hello = read_hello(link.first_frame())?;
        Ok(self.assign(&hello, comes).await?)
    }

    async fn assign(&self, hello: &Hello<'_>, comes: Option<Comes>) -> Result<Assigned, RejectCode> {
        let (comes, kind) = match comes {
            Some(comes) => (comes, LinkKind::Sealed),
            None => (self.comes_plainly(hello).await?, LinkKind::Plain),
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

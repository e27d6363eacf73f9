//! The task that owns the connection.

use core::net::SocketAddr;

use embassy_futures::select::{Either, Either3, select, select3};
use embassy_sync::blocking_mutex::raw::RawMutex;
use embedded_io_async::Error as _;
use embedded_nal_async::{AddrType, Dns, TcpConnect};
use imlink_protocol::Instant;
use imlink_protocol::device::{End, EventRange, Profile, Session, Start, StateName, Target};
use imlink_protocol::limits::RECEIVE_LIMIT_MIN;
use imlink_protocol::seal::SealError;

use crate::address::Address;
#[cfg(feature = "blob")]
use crate::blob::{BlobState, Blobs};
use crate::blob_port::{NoBlobs, Port};
use crate::client::Client;
use crate::config::Config;
#[cfg(feature = "seal")]
use crate::config::Keys;
use crate::connection::Connection;
use crate::core_state::{Desk, Notice};
use crate::error::Error;
#[cfg(feature = "seal")]
use crate::handshake::Handshake;
use crate::interface::Interface;
use crate::messages::Messages;
use crate::platform::{Clock, Rng, draw};
use crate::state::{Shared, State, Storage};
use crate::wire::Wire;

/// A device in its parts.
pub struct Device<'a, S, N, R> {
    /// Owns the connection; [`Runner::run`] has to run all the time.
    pub runner: Runner<'a, S, N, R>,
    /// Publishes events, takes calls, shows the link.
    pub client: Client<'a, S>,
    /// Takes messages; there is only one, since messages are handled in order.
    pub messages: Messages<'a, S>,
}

/// Owns the connection, makes it and makes it again. `B` is what takes part in transfers of blobs.
pub struct Runner<'a, S, N, R, B = NoBlobs> {
    shared: &'a S,
    network: N,
    rng: R,
    routes: &'a [&'a str],
    profile: Profile<'a>,
    interface: Interface,
    blobs: B,
    #[cfg(feature = "seal")]
    keys: Option<Keys<'a>>,
    /// Which of the pinned route keys is tried next.
    #[cfg(feature = "seal")]
    key_turn: usize,
    frame_in: &'a mut [u8],
    frame_out: &'a mut [u8],
}

/// Bytes of the longest length in front of a frame.
const LENGTH_LEN: usize = imlink_protocol::frame::LENGTH_LEN_MAX;
/// Longest wait for a connection, the lookup of a name included.
const CONNECT_MAX: core::time::Duration = core::time::Duration::from_secs(10);

/// A device in `state`. Draws its incarnations from `rng`; every power-on is a new one.
#[allow(clippy::type_complexity, reason = "the sizes of a state are its parameters")]
pub fn new<
    'a,
    M,
    C,
    N,
    R,
    const FRAME: usize,
    const OUT: usize,
    const INBOX: usize,
    const CALLS: usize,
    const EVENTS: usize,
>(
    state: &'a mut State<M, C, FRAME, OUT, INBOX, CALLS, EVENTS>,
    config: Config<'a>,
    network: N,
    mut rng: R,
) -> Result<Device<'a, Shared<M, C, INBOX, CALLS, EVENTS>, N, R>, Error>
where
    M: RawMutex,
    C: Clock,
    N: TcpConnect + Dns,
    R: Rng,
{
    config.check()?;
    let incarnation = draw(&mut rng).map_err(|_| Error::Rng)?;
    let drawn = if EVENTS == 0 { 0 } else { draw(&mut rng).map_err(|_| Error::Rng)?.get() };
    #[cfg(not(feature = "flash"))]
    let (event_queue, events) = (drawn, EventRange::default());
    #[cfg(feature = "flash")]
    let (event_queue, events) = config.events.map_or((drawn, EventRange::default()), |kept| (kept.queue, kept.range));
    let State { shared, frame_in, frame_out } = state;
    shared.with(|_, core| {
        let start = Start { incarnation, event_queue, events, cursor: config.resume.done, heartbeat: config.heartbeat };
        *core.session = Session::new(&start);
        core.inbox.clear();
        core.calls.clear();
        core.replies.clear();
        core.events.clear();
        *core.desk = crate::core_state::Desk::new();
        core.desk.interface = config.interface;
        core.desk.overflow = config.overflow;
        core.desk.frame_out = OUT;
        core.desk.started = config.resume.started;
        #[cfg(feature = "flash")]
        {
            core.desk.is_queue_kept = config.events.is_some();
        }
    });
    let shared = &*shared;
    let receive_limit = u32::try_from(FRAME - LENGTH_LEN).unwrap_or(u32::MAX).max(RECEIVE_LIMIT_MIN as u32);
    let profile = Profile {
        tenant: config.tenant,
        device: config.device,
        receive_limit,
        window: config.window,
        fingerprint: config.interface.fingerprint(),
        link: config.link(),
    };
    let runner = Runner {
        shared,
        network,
        rng,
        routes: config.routes,
        profile,
        interface: config.interface,
        blobs: NoBlobs,
        #[cfg(feature = "seal")]
        keys: config.keys,
        #[cfg(feature = "seal")]
        key_turn: 0,
        frame_in,
        frame_out,
    };
    Ok(Device { runner, client: Client::new(shared), messages: Messages::new(shared) })
}

/// Where to connect; the address of an IM-server is put into `bytes`, which are free while there is no connection.
fn target<'t>(session: &Session, now: Instant, routes: &[&'t str], bytes: &'t mut [u8]) -> Option<&'t str> {
    match session.target(now) {
        Target::Home(address) => {
            let bytes = bytes.get_mut(..address.len())?;
            bytes.iter_mut().zip(address.bytes()).for_each(|(to, byte)| *to = byte);
            core::str::from_utf8(bytes).ok()
        }
        Target::Route { turn } => routes.get((turn as usize).checked_rem(routes.len())?).copied(),
    }
}

async fn connect<'n, N: TcpConnect + Dns>(network: &'n N, target: Option<&str>) -> Result<N::Connection<'n>, Error> {
    let address = match target.and_then(Address::read).ok_or(Error::Address)? {
        Address::Ip(address) => address,
        Address::Name { host, port } => {
            let found = network.get_host_by_name(host, AddrType::Either).await;
            SocketAddr::new(found.map_err(|_| Error::Lookup)?, port)
        }
    };
    network.connect(address).await.map_err(|error| Error::Transport(error.kind()))
}

#[cfg(feature = "blob")]
impl<'a, S: Storage, N, R> Runner<'a, S, N, R> {
    /// Takes part in transfers of blobs, with the memory of `state`. The [`State`]'s `OUT` is at least 136.
    ///
    /// Returns the runner that passes on their frames, and what works on them.
    #[allow(clippy::type_complexity, reason = "the sizes of a state are its parameters")]
    pub fn with_blobs<M: RawMutex, const LEN: usize>(
        self,
        state: &'a BlobState<M, LEN>,
    ) -> (Runner<'a, S, N, R, &'a BlobState<M, LEN>>, Blobs<'a, S, M, LEN>) {
        let blobs = Blobs::new(self.shared, state);
        let runner = Runner {
            shared: self.shared,
            network: self.network,
            rng: self.rng,
            routes: self.routes,
            profile: self.profile,
            interface: self.interface,
            blobs: state,
            #[cfg(feature = "seal")]
            keys: self.keys,
            #[cfg(feature = "seal")]
            key_turn: self.key_turn,
            frame_in: self.frame_in,
            frame_out: self.frame_out,
        };
        (runner, blobs)
    }
}

#[allow(private_bounds, reason = "a port is made by `with_blobs` alone")]
impl<S: Storage, N: TcpConnect + Dns, R: Rng, B: Port> Runner<'_, S, N, R, B> {
    /// Runs for ever, and makes a new connection after each failure. Returns after [`Client::stop`], or with an error that no new attempt can mend.
    ///
    /// Cancel safe: when the future is dropped, as while a board has no network, its connection is closed;
    /// called again it connects again.
    pub async fn run(&mut self) -> Result<(), Error> {
        let random = self.random()?;
        self.shared.with(|now, core| {
            if core.session.state() != StateName::Detached {
                core.handle_disconnected(now, random);
            }
        });
        loop {
            self.wait().await;
            if self.shared.with(|_, core| core.desk.is_stopping) {
                return Ok(());
            }
            let ended = self.connect_once().await;
            self.blobs.handle_detached();
            let random = self.random()?;
            let error = self.shared.with(|now, core| {
                let error = match core.handle_disconnected(now, random) {
                    End::Rejected(code) | End::Refused(code) => Some(Error::Rejected(code)),
                    End::Asked(reason) => Some(Error::Asked(reason)),
                    End::Redirected | End::Left => None,
                    End::Lost | End::Fault(_) => ended.err(),
                };
                core.desk.failures = core.desk.failures.wrapping_add(u32::from(error.is_some()));
                core.desk.last_error = error.or(core.desk.last_error);
                error
            });
            match error {
                Some(
                    error @ (Error::Config(_)
                    | Error::Rng
                    | Error::FrameLimit { .. }
                    | Error::Seal(SealError::Buffer { .. })),
                ) => {
                    return Err(error);
                }
                Some(error) => debug!("connection ended: {}", error),
                None => debug!("connection ended in good order"),
            }
        }
    }

    /// Waits until it is time to connect, or to stop.
    async fn wait(&mut self) {
        let shared = self.shared;
        loop {
            let due = shared.with(|_, core| {
                let due = core.session.poll_timeout().unwrap_or_default();
                (!core.desk.is_stopping).then_some(due)
            });
            let Some(due) = due.filter(|due| *due > shared.clock().now()) else { return };
            select(shared.clock().sleep_until(due), changed(shared)).await;
        }
    }

    async fn connect_once(&mut self) -> Result<(), Error> {
        let shared = self.shared;
        let (target, give_up) = shared.with(|now, core| {
            core.session.handle_connecting(now);
            (target(core.session, now, self.routes, self.frame_in), now.after(CONNECT_MAX))
        });
        let connect = connect(&self.network, target);
        #[cfg_attr(not(feature = "seal"), allow(unused_mut, reason = "only a handshake writes here"))]
        let mut stream = match select3(connect, shared.clock().sleep_until(give_up), stopped(shared)).await {
            Either3::First(connected) => connected?,
            Either3::Second(()) => return Err(Error::ConnectTimeout),
            Either3::Third(()) => return Ok(()),
        };
        shared.with(|now, core| core.session.handle_connected(now));
        #[cfg(not(feature = "seal"))]
        let wire = Wire::default();
        #[cfg(feature = "seal")]
        let wire = match &self.keys {
            None => Wire::default(),
            Some(keys) => {
                let mut ephemeral = [0; 32];
                self.rng.fill(&mut ephemeral).map_err(|_| Error::Rng)?;
                let handshake = Handshake { keys, profile: &self.profile, turn: &mut self.key_turn, ephemeral };
                match handshake.shake(shared, &mut stream, self.frame_in).await? {
                    Some(wire) => wire,
                    None => return Ok(()),
                }
            }
        };
        let mut connection = Connection {
            shared,
            stream,
            wire,
            opened: None,
            profile: self.profile,
            interface: self.interface,
            blobs: self.blobs,
            frame_in: self.frame_in,
            frame_out: self.frame_out,
            filled: 0,
            partial_since: None,
        };
        connection.run().await
    }

    fn random(&mut self) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.rng.fill(&mut bytes).map_err(|_| Error::Rng)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// Waits until a handle changed something.
pub(crate) async fn changed<S: Storage>(shared: &S) {
    noticed(shared, |desk| &mut desk.runner).await;
}

/// Waits until a notice was given.
pub(crate) fn noticed<S: Storage>(shared: &S, notice: impl Fn(&mut Desk) -> &mut Notice) -> impl Future<Output = ()> {
    core::future::poll_fn(move |cx| {
        let is_given = shared.with(|_, core| notice(core.desk).take(cx.waker()));
        if is_given { core::task::Poll::Ready(()) } else { core::task::Poll::Pending }
    })
}

async fn stopped<S: Storage>(shared: &S) {
    while !shared.with(|_, core| core.desk.is_stopping) {
        changed(shared).await;
    }
}

/// Runs `work` unless `until` comes first.
pub(crate) async fn before<S: Storage, T>(shared: &S, until: Instant, work: impl Future<Output = T>) -> Option<T> {
    match select(work, shared.clock().sleep_until(until)).await {
        Either::First(done) => Some(done),
        Either::Second(()) => None,
    }
}

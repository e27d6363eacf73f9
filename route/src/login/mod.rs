//! The device login listener: who are you, and which IM-server shall hold you?
//!
//! ```text
//! accept ──room?──▶ Hello (≤ 512 bytes, 10 s in all) ──▶ identity ──▶ choose ──▶ Redirect
//!            └─no─▶ Reject overloaded                └────────────────────────▶ Reject
//! ```
//!
//! Until a device has shown who it is, it costs one task with half a KiB of buffer, and there are only so
//! many of those.

mod admission;

use std::sync::Arc;
use std::time::{Duration, Instant};

use imlink_protocol::frame::{self, LENGTH_LEN_MAX};
use imlink_protocol::limits::{HELLO_DEADLINE, HELLO_FRAME_LEN_MAX, TICKET_LEN_MAX};
use imlink_protocol::message::{Hello, RejectCode};
use imlink_protocol::ticket::{self, LIFETIME_S, Ticket};
use imlink_protocol::{Epoch, FromDevice, ToDevice, VERSION};
use imlink_store::DeviceKey;
use imlink_store::session::Proof;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::core::Core;
use crate::metrics::Login;
use crate::node::{ServerLink, now_s};
use admission::{Admission, Refused};

/// Takes devices that log in until the route leaves.
pub(crate) async fn listen(core: Arc<Core>, listener: TcpListener) {
    let limits = &core.config.limits;
    let admission = Admission::new(limits.handshakes_max, limits.logins_per_s);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = core.draining.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        match admission.admit(Instant::now()) {
            Ok(permit) => {
                let shared = core.clone();
                core.tasks.spawn(async move {
                    log_in(&shared, stream).await;
                    drop(permit);
                });
            }
            Err(Refused::Told(permit)) => {
                core.metrics.rejected(RejectCode::Overloaded.name());
                let retry_after_s = limits.overload_retry_s;
                tokio::spawn(async move {
                    reject(stream, RejectCode::Overloaded, retry_after_s).await;
                    drop(permit);
                });
            }
            Err(Refused::Untold) => core.metrics.rejected("overloaded-untold"),
        }
    }
}

/// Where a device goes.
struct Assigned {
    server: Arc<ServerLink>,
    ticket: [u8; TICKET_LEN_MAX],
    ticket_len: usize,
}

async fn log_in(core: &Core, mut stream: TcpStream) {
    let deadline = tokio::time::Instant::now() + HELLO_DEADLINE;
    if stream.set_nodelay(true).is_err() {
        return core.metrics.login(Login::Lost);
    }
    let mut buffer = [0; HELLO_FRAME_LEN_MAX + LENGTH_LEN_MAX];
    let heard = tokio::time::timeout_at(deadline, read_hello(&mut stream, &mut buffer)).await;
    let answer = match heard {
        Ok(Ok(hello)) => match tokio::time::timeout_at(deadline, assign(core, &hello)).await {
            Ok(answer) => answer,
            Err(_) => Err(RejectCode::StoreAway),
        },
        Ok(Err(Some(code))) => Err(code),
        Ok(Err(None)) | Err(_) => return core.metrics.login(Login::Lost),
    };
    match answer {
        Ok(assigned) => {
            core.metrics.login(Login::Redirected);
            let ticket = assigned.ticket.get(..assigned.ticket_len).unwrap_or_default();
            say(stream, &ToDevice::Redirect { address: &assigned.server.address, ticket }).await;
        }
        Err(code) => {
            core.metrics.login(Login::Rejected);
            core.metrics.rejected(code.name());
            reject(stream, code, retry_after_s(core, code)).await;
        }
    }
}

/// Reads the first frame. `Err(None)`: the device left.
async fn read_hello<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> Result<Hello<'a>, Option<RejectCode>> {
    let mut filled = 0;
    let body = loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await;
        match read {
            Ok(0) | Err(_) => return Err(None),
            Ok(len) => filled += len,
        }
        let split = frame::split(buffer.get(..filled).unwrap_or_default(), HELLO_FRAME_LEN_MAX);
        match split.map_err(|_| Some(RejectCode::Malformed))? {
            // Nothing may follow a Hello before its answer.
            Some(frame) if frame.len < filled => return Err(Some(RejectCode::Order)),
            Some(frame) => break frame.len - frame.body.len() - frame::CHECK_LEN..frame.len - frame::CHECK_LEN,
            None => {}
        }
    };
    let body = buffer.get(body).unwrap_or_default();
    // The version is the first field: an unknown one is told, whatever follows it.
    match body {
        [0, version, ..] if *version != VERSION => return Err(Some(RejectCode::Version)),
        _ => {}
    }
    match frame::decode::<FromDevice<'a>>(body) {
        Ok(FromDevice::Hello(hello)) => Ok(hello),
        Ok(_) => Err(Some(RejectCode::Order)),
        Err(_) => Err(Some(RejectCode::Malformed)),
    }
}

async fn assign(core: &Core, hello: &Hello<'_>) -> Result<Assigned, RejectCode> {
    let device = DeviceKey::new(hello.tenant, hello.device).map_err(|_| RejectCode::UnknownDevice)?;
    let identity = match core.store.identity(&device).await {
        Ok(identity) => identity.ok_or(RejectCode::UnknownDevice)?,
        Err(error) => {
            tracing::warn!(%error, "a device cannot log in");
            return Err(RejectCode::StoreAway);
        }
    };
    if identity.revoked {
        return Err(RejectCode::Revoked);
    }
    // A device that has a key never logs in without showing it.
    if identity.proof != Proof::Plain {
        return Err(RejectCode::UnknownDevice);
    }
    let server = core.servers.choose(&core.config.server_labels, Instant::now(), random());
    let server = server.ok_or(RejectCode::NoServer)?;
    let (ticket, ticket_len) = issue(core, &server.name, &device, identity.epoch).ok_or(RejectCode::UnknownDevice)?;
    Ok(Assigned { server, ticket, ticket_len })
}

fn issue(core: &Core, server: &str, device: &DeviceKey, epoch: Epoch) -> Option<([u8; TICKET_LEN_MAX], usize)> {
    let now = now_s();
    let day = ticket::day_of(now);
    let key = ticket::derive(core.config.cluster_secret.as_bytes(), server, day);
    let ticket = Ticket {
        day,
        tenant: device.tenant(),
        device: device.device(),
        epoch_floor: epoch,
        expires_s: now + LIFETIME_S,
        id: random(),
    };
    let mut out = [0; TICKET_LEN_MAX];
    let len = ticket::issue(&ticket, &key, &mut out)?;
    Some((out, len))
}

fn retry_after_s(core: &Core, code: RejectCode) -> u32 {
    match code {
        RejectCode::StoreAway | RejectCode::NoServer | RejectCode::Overloaded => core.config.limits.overload_retry_s,
        _ => REFUSED_RETRY_S,
    }
}

async fn reject(stream: TcpStream, code: RejectCode, retry_after_s: u32) {
    say(stream, &ToDevice::Reject { code, retry_after_s }).await;
}

/// Sends the last frame of a connection and lets the device read it: a socket closed with unread bytes
/// would take the frame back.
async fn say(mut stream: TcpStream, message: &ToDevice<'_>) {
    let mut out = [0; HELLO_FRAME_LEN_MAX];
    let Ok(len) = frame::encode(message, &mut out) else { return };
    let farewell = async {
        stream.write_all(out.get(..len).unwrap_or_default()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 256];
        for _ in 0..LINGER_READS_MAX {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    // Whether the device was still there does not matter.
    let _ = tokio::time::timeout(LINGER_MAX, farewell).await;
}

fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// Pause after an accept that failed, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Retry-after for what a device cannot mend by itself, in seconds.
const REFUSED_RETRY_S: u32 = 300;
/// How long, and for how many reads, a connection stays after its last frame.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_READS_MAX: u32 = 64;

//! IM-servers: their links, what they report, and who they are.

mod enter;
mod lease;
mod link;
mod members;
mod probe;
mod register;
mod servers;

pub(crate) use lease::{hear_known_servers, keep_leases};
pub(crate) use link::serve;
pub(crate) use members::{Members, enrol_self, watch_members};
pub(crate) use register::now_s;
pub(crate) use servers::{ServerLink, Servers};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use imlink_link::seal::NodeKey;
use imlink_protocol::link::opening::HANDSHAKE_DEADLINE;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::core::Core;
use enter::{Entered, enter};

/// Takes the links of IM-servers until the route stops.
pub(crate) async fn listen(core: Arc<Core>, listener: TcpListener) {
    let Some(key) = core.config.node_key.clone() else { return };
    let room = Arc::new(Semaphore::new(core.config.limits.server_links_max));
    let unproven = Arc::new(Semaphore::new(UNPROVEN_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = core.draining.cancelled() => return,
        };
        let Ok((stream, from)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (Ok(permit), Ok(proving)) = (room.clone().try_acquire_owned(), unproven.clone().try_acquire_owned()) else {
            tracing::warn!(%from, "too many links of IM-servers, one more is refused");
            core.metrics.link_ended("overloaded");
            continue;
        };
        let (shared, key) = (core.clone(), key.clone());
        core.tasks.spawn(async move {
            let entered = hear(&shared, &key, stream, from).await;
            drop(proving);
            if let Some(Entered::Server { link, name, key }) = entered {
                serve(shared, link, name, Some(key)).await;
            }
            drop(permit);
        });
    }
}

/// Hears who connected, within the deadline.
async fn hear(core: &Arc<Core>, key: &NodeKey, stream: TcpStream, from: SocketAddr) -> Option<Entered> {
    let why = match tokio::time::timeout(HANDSHAKE_DEADLINE, enter(core, key, stream)).await {
        Ok(Ok(entered)) => return Some(entered),
        Ok(Err(refusal)) => refusal.to_string(),
        Err(_) => format!("no handshake within {} s", HANDSHAKE_DEADLINE.as_secs()),
    };
    tracing::warn!(%from, why, "who connected as a node is refused");
    core.metrics.link_ended("refused");
    None
}

/// Pause after an accept that failed, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that have not proved a key yet, at most; each holds two messages of 256 bytes.
const UNPROVEN_MAX: usize = 256;

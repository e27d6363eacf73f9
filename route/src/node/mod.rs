//! IM-servers: their links, what they report, and who they are.

mod lease;
mod link;
mod probe;
mod register;
mod servers;

pub(crate) use lease::{hear_known_servers, keep_leases};
pub(crate) use link::serve;
pub(crate) use register::now_s;
pub(crate) use servers::{ServerLink, Servers};

use std::sync::Arc;
use std::time::Duration;

use imlink_link::over_tcp;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::core::Core;

/// Takes the links of IM-servers until the route stops.
pub(crate) async fn listen(core: Arc<Core>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(core.config.limits.server_links_max));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = core.draining.cancelled() => return,
        };
        let Ok((stream, from)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tracing::warn!(%from, "too many links of IM-servers, one more is refused");
            core.metrics.link_ended("overloaded");
            continue;
        };
        let Ok(link) = over_tcp(stream, core.config.limits.outbox_len_max) else { continue };
        let shared = core.clone();
        core.tasks.spawn(async move {
            serve(shared, link).await;
            drop(permit);
        });
    }
}

/// Pause after an accept that failed, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

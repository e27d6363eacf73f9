//! After a link's end: does the IM-server still live?

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::link::Ended;
use super::servers::ServerLink;
use crate::core::Core;

/// Takes the server out of the store unless it shows that it lives: by a new link, or by taking a
/// connection where its devices connect. Silence on a link that was asked is proof enough.
pub(super) async fn probe(core: Arc<Core>, server: Arc<ServerLink>, ended: Ended) {
    if ended != Ended::Silent {
        for _ in 0..TRIES {
            if core.servers.link(server.incarnation).is_some() {
                return;
            }
            let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(&server.address)).await;
            if matches!(connected, Ok(Ok(_))) {
                tracing::info!(server = %server.name, "an IM-server without a link still takes devices; it stays");
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    if core.servers.link(server.incarnation).is_some() {
        return;
    }
    tracing::warn!(server = %server.name, "an IM-server is gone; its devices are assigned elsewhere");
    core.servers.went(server.incarnation);
    for _ in 0..REMOVE_TRIES {
        if core.store.remove_server(&server.name, server.incarnation).await.is_ok() {
            return;
        }
        // Its lease ends by itself should the store stay away.
        tokio::time::sleep(CONNECT_MAX).await;
    }
}

const TRIES: u32 = 3;
const CONNECT_MAX: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);
const REMOVE_TRIES: u32 = 15;

//! Who connects to the node listener: an IM-server that links, or a newcomer with a join token.

use std::sync::Arc;

use imlink_link::Link;
use imlink_link::seal::{Incoming, JoinSecret, NodeKey, PublicKey, SealError};
use imlink_protocol::id::check_device_id;
use imlink_protocol::link::opening::Opening;
use imlink_store::node::{Enrolled, NodeRole};
use tokio::net::TcpStream;

use crate::core::Core;

/// What came of a connection.
pub(super) enum Entered {
    /// An IM-server that linked under its key. Nothing of it counts before its first record opens.
    Server {
        /// Its link.
        link: Link,
        /// Its name, from the table of nodes.
        name: String,
        /// Its key.
        key: PublicKey,
    },
    /// A newcomer was answered.
    Joined,
}

/// Why nobody entered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    Seal(#[from] SealError),
    #[error("IM-server {0:?} has no key here that is believed")]
    Unknown(String),
    #[error("it means route {0:?}")]
    OtherRoute(String),
    #[error("its join token is unknown, over, or for another role")]
    Token,
    #[error("the store is away: {0}")]
    Store(#[from] imlink_store::Error),
}

/// Hears who connects, up to the sealed link. The caller gives the deadline.
pub(super) async fn enter(core: &Arc<Core>, key: &NodeKey, stream: TcpStream) -> Result<Entered, Refusal> {
    let incoming = Incoming::read(stream).await?;
    match incoming.opening()? {
        Opening::Link { server, route, .. } => {
            if route != core.config.name {
                return Err(Refusal::OtherRoute(route.into()));
            }
            let name = server.to_owned();
            let peer = core.members.key_of(core, &name).await;
            let peer = peer.ok_or_else(|| Refusal::Unknown(name.clone()))?;
            let link = incoming.link(key, &peer, core.config.limits.outbox_len_max).await?;
            Ok(Entered::Server { link, name, key: peer })
        }
        Opening::Join { token, role, name, .. } => {
            // Only IM-servers join: a route that may enrol nodes enrols itself.
            if role != NodeRole::Server.name() || check_device_id(name).is_err() {
                return Err(Refusal::Token);
            }
            let name = name.to_owned();
            let known = core.store.join_tokens().await?;
            if !known.iter().any(|one| one.id == token && one.role == NodeRole::Server) {
                return Err(Refusal::Token);
            }
            let secret = JoinSecret::derive(core.config.cluster_secret.as_bytes(), token);
            let joining = incoming.join(key, &secret).await?;
            let peer = joining.key;
            let enrolled = core.store.enrol_node(NodeRole::Server, &name, peer.0, Some(token)).await?;
            tracing::info!(server = %name, key = %peer, token = ?secret, ?enrolled, "a node joins");
            if enrolled == Enrolled::Yes {
                core.members.learn(&name, peer);
            }
            joining.answer(refusal(enrolled)).await?;
            Ok(Entered::Joined)
        }
    }
}

const fn refusal(enrolled: Enrolled) -> Option<&'static str> {
    match enrolled {
        Enrolled::Yes => None,
        Enrolled::NameTaken => Some(
            "an IM-server of this name has another key: choose another --name, or remove it with `imlink node remove`",
        ),
        Enrolled::Removed => {
            Some("this node's key was removed: delete its file in the state directory to join with another")
        }
        Enrolled::NoToken => {
            Some("the join token was used up or its time is over: ask for another with `imlink node token`")
        }
        Enrolled::Full => Some("too many nodes are enrolled: remove some with `imlink node remove`"),
    }
}

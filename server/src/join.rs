//! Joining a cluster: enrolling this server's key by a token, once.

use imlink_link::seal::{self, JoinSecret, NodeKey, PublicKey, SealError};
use imlink_protocol::link::opening::HANDSHAKE_DEADLINE;
use imlink_store::node::NodeRole;
use imlink_store::{Error, Store};
use tokio::net::TcpStream;

/// Whether a server belongs to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Its key is enrolled under its name.
    Enrolled,
    /// Nothing is known of its name: it may join.
    Unknown,
    /// Its key was removed.
    Removed,
    /// Its name belongs to another key.
    NameTaken,
}

/// Why a server did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The store cannot be asked.
    #[error("{0}")]
    Store(#[from] Error),
    /// No route is there.
    #[error("no route is in the store yet")]
    NoRoute,
    /// A route said no, or nothing of use; of the last one that was asked.
    #[error("route {route:?} at {address}: {why}")]
    Route {
        /// Its name.
        route: String,
        /// Where it was dialled.
        address: String,
        /// Why not.
        why: SealError,
    },
}

/// Whether the server `name` with `key` belongs to the cluster around `store`.
pub async fn membership(store: &Store, name: &str, key: &PublicKey) -> Result<Membership, Error> {
    Ok(match store.node(NodeRole::Server, name).await? {
        None => Membership::Unknown,
        Some(node) if node.key != key.0 && node.is_removed => Membership::Unknown,
        Some(node) if node.key != key.0 => Membership::NameTaken,
        Some(node) if node.is_removed => Membership::Removed,
        Some(_) => Membership::Enrolled,
    })
}

/// Enrols `key` as that of the server `name` at one of the routes that the store knows.
pub async fn join(store: &Store, name: &str, key: &NodeKey, token: &JoinSecret) -> Result<(), JoinError> {
    let mut ended = Err(JoinError::NoRoute);
    for route in store.routes().await? {
        let joining = async {
            let stream = TcpStream::connect(&route.node_address).await.map_err(SealError::Io)?;
            seal::join(stream, NodeRole::Server.name(), name, key, token).await
        };
        match tokio::time::timeout(HANDSHAKE_DEADLINE, joining).await.unwrap_or(Err(SealError::Closed)) {
            Ok(()) => return Ok(()),
            Err(why) => ended = Err(JoinError::Route { route: route.name, address: route.node_address, why }),
        }
    }
    ended
}

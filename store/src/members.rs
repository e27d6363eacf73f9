//! [`Store`]: who belongs to the cluster.

use std::time::Duration;

use crate::lease;
use crate::node::{Enrolled, JOIN_ID_LEN, JoinToken, NODE_KEY_LEN, Node, NodeRole};
use crate::{Error, Store};

/// Routes and servers, under leases; nodes that are enrolled, and the tokens by which they join.
impl Store {
    /// Registers or renews a route for `lease` from now.
    pub async fn register_route(&self, route: &lease::Route, lease: Duration) -> Result<(), Error> {
        match self {
            Self::Memory(store) => {
                store.register_route(route, lease);
                Ok(())
            }
            Self::Redis(store) => store.register_route(route, lease).await,
        }
    }

    /// Routes whose lease is not over.
    pub async fn routes(&self) -> Result<Vec<lease::Route>, Error> {
        match self {
            Self::Memory(store) => Ok(store.routes()),
            Self::Redis(store) => store.routes().await,
        }
    }

    /// Removes a route if it still is this incarnation.
    pub async fn remove_route(&self, name: &str, incarnation: u64) -> Result<(), Error> {
        match self {
            Self::Memory(store) => {
                store.remove_route(name, incarnation);
                Ok(())
            }
            Self::Redis(store) => store.remove_route(name, incarnation).await,
        }
    }

    /// Registers or renews an IM-server for `lease` from now.
    pub async fn register_server(&self, server: &lease::Server, lease: Duration) -> Result<(), Error> {
        match self {
            Self::Memory(store) => {
                store.register_server(server, lease);
                Ok(())
            }
            Self::Redis(store) => store.register_server(server, lease).await,
        }
    }

    /// IM-servers whose lease is not over.
    pub async fn servers(&self) -> Result<Vec<lease::Server>, Error> {
        match self {
            Self::Memory(store) => Ok(store.servers()),
            Self::Redis(store) => store.servers().await,
        }
    }

    /// Removes an IM-server if it still is this incarnation.
    pub async fn remove_server(&self, name: &str, incarnation: u64) -> Result<(), Error> {
        match self {
            Self::Memory(store) => {
                store.remove_server(name, incarnation);
                Ok(())
            }
            Self::Redis(store) => store.remove_server(name, incarnation).await,
        }
    }

    /// Enrols `key` as that of the node `name`. A key that is enrolled already needs no `token`; `None` is for nodes
    /// that may write here anyway, such as a route for itself.
    pub async fn enrol_node(
        &self,
        role: NodeRole,
        name: &str,
        key: [u8; NODE_KEY_LEN],
        token: Option<[u8; JOIN_ID_LEN]>,
    ) -> Result<Enrolled, Error> {
        match self {
            Self::Memory(store) => Ok(store.enrol_node(role, name, key, token)),
            Self::Redis(store) => store.enrol_node(role, name, key, token).await,
        }
    }

    /// All nodes, removed ones included, by role and name.
    pub async fn nodes(&self) -> Result<Vec<Node>, Error> {
        match self {
            Self::Memory(store) => Ok(store.nodes()),
            Self::Redis(store) => store.nodes().await,
        }
    }

    /// One node, removed or not.
    pub async fn node(&self, role: NodeRole, name: &str) -> Result<Option<Node>, Error> {
        match self {
            Self::Memory(store) => Ok(store.node(role, name)),
            Self::Redis(store) => store.node(role, name).await,
        }
    }

    /// Refuses a node's key from now on; answers whether it was enrolled. Its links are closed by its peers.
    pub async fn remove_node(&self, role: NodeRole, name: &str) -> Result<bool, Error> {
        match self {
            Self::Memory(store) => Ok(store.remove_node(role, name)),
            Self::Redis(store) => store.remove_node(role, name).await,
        }
    }

    /// Makes a join token known, or changes it. At most [`JOIN_TOKENS_MAX`](crate::node::JOIN_TOKENS_MAX) are kept.
    pub async fn put_join_token(&self, token: &JoinToken) -> Result<(), Error> {
        match self {
            Self::Memory(store) => store.put_join_token(token),
            Self::Redis(store) => store.put_join_token(token).await,
        }
    }

    /// The join tokens whose time is not over, by id.
    pub async fn join_tokens(&self) -> Result<Vec<JoinToken>, Error> {
        match self {
            Self::Memory(store) => Ok(store.join_tokens()),
            Self::Redis(store) => store.join_tokens().await,
        }
    }

    /// Takes a join token back; answers whether there was one.
    pub async fn remove_join_token(&self, id: [u8; JOIN_ID_LEN]) -> Result<bool, Error> {
        match self {
            Self::Memory(store) => Ok(store.remove_join_token(id)),
            Self::Redis(store) => store.remove_join_token(id).await,
        }
    }
}

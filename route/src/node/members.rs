//! Whose keys are believed: the table of nodes in the store, read again and again.
//!
//! A link stands only while its key is the one in the table. A removed key is a mark there; one that is missing was lost
//! with the store, and is put back by those who know it: a link that stands was proven.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use imlink_link::seal::{NodeKey, PublicKey};
use imlink_store::node::{Enrolled, Node, NodeRole};
use imlink_store::{Error, Store};
use parking_lot::RwLock;
use tokio::sync::Semaphore;

use crate::core::Core;

/// The nodes as last read.
pub(crate) struct Members {
    servers: RwLock<HashMap<String, Node>>,
    /// Look-ups of names that are not among them.
    lookups: Semaphore,
}

impl Default for Members {
    fn default() -> Self {
        Self { servers: RwLock::default(), lookups: Semaphore::new(LOOKUPS_MAX) }
    }
}

impl Members {
    /// The key of the IM-server `name`, if it is believed. One enrolled elsewhere just now is looked up; strangers can
    /// make this route look up only a few names at a time.
    pub(super) async fn key_of(&self, core: &Core, name: &str) -> Option<PublicKey> {
        let known = self.servers.read().get(name).cloned();
        let node = match known {
            Some(node) => Some(node),
            None => {
                let _permit = self.lookups.try_acquire().ok()?;
                core.store.node(NodeRole::Server, name).await.ok()?
            }
        };
        node.filter(|node| !node.is_removed).map(|node| PublicKey(node.key))
    }

    /// From now on `name` has `key`.
    pub(super) fn learn(&self, name: &str, key: PublicKey) {
        let node = Node { role: NodeRole::Server, name: name.into(), key: key.0, enrolled_ms: 0, is_removed: false };
        self.servers.write().insert(name.into(), node);
    }
}

/// Enrols a route's own key; the reason why it is not believed, if it is not.
pub(crate) async fn enrol_self(store: &Store, name: &str, key: &NodeKey) -> Result<Option<&'static str>, Error> {
    Ok(match store.enrol_node(NodeRole::Route, name, key.public().0, None).await? {
        Enrolled::Yes => None,
        Enrolled::Removed => Some("its key was removed; delete the key's file to make another one"),
        Enrolled::NameTaken => {
            Some("a route of this name has another key; choose another name, or `imlink node remove route NAME` first")
        }
        Enrolled::Full | Enrolled::NoToken => {
            Some("too many nodes are enrolled; remove some with `imlink node remove`")
        }
    })
}

/// Reads the table until the route stops, and closes the links of those who are not in it any more.
pub(crate) async fn watch_members(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.stopped.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        match core.store.nodes().await {
            Ok(nodes) => apply(&core, nodes).await,
            Err(error) => tracing::debug!(%error, "the nodes of the cluster cannot be read; those linked stay"),
        }
    }
}

async fn apply(core: &Core, nodes: Vec<Node>) {
    let (servers, routes): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.role == NodeRole::Server);
    let me = routes.iter().find(|node| node.name == core.config.name);
    if let (None, Some(key)) = (me, &core.config.node_key) {
        // The store lost it.
        if let Err(error) = enrol_self(&core.store, &core.config.name, key).await {
            tracing::debug!(%error, "this route's key waits for the store");
        }
    }
    let is_out = me.is_some_and(|node| {
        node.is_removed || core.config.node_key.as_ref().is_none_or(|key| key.public().0 != node.key)
    });
    let servers: HashMap<_, _> = servers.into_iter().map(|node| (node.name.clone(), node)).collect();
    for link in core.servers.links() {
        let Some(key) = link.key else { continue };
        match servers.get(&link.name) {
            Some(node) if !node.is_removed && node.key == key.0 && !is_out => {}
            None if !is_out => {
                // A link that stands was proven; the store lost its key.
                let again = core.store.enrol_node(NodeRole::Server, &link.name, key.0, None).await;
                tracing::warn!(server = %link.name, ?again, "the store lost the key of an IM-server");
            }
            _ => {
                tracing::warn!(server = %link.name, is_out, "a node key was removed: its link is closed");
                core.metrics.link_ended("removed");
                link.sender.close();
            }
        }
    }
    *core.members.servers.write() = servers;
}

/// How often the table is read: a removed node is cut within 2 s.
const LOOK: Duration = Duration::from_millis(500);
/// Unknown names that are looked up at one moment.
const LOOKUPS_MAX: usize = 8;

//! How a node of a cluster comes to belong to it: its key, and the join token of the state directory.
//!
//! ```text
//! state directory   node-key-ROLE-NAME   this node's private key, made at its first start
//!                   join-token           made by a route; servers with the same directory join by it
//! ```

use std::time::Duration;

use anyhow::Context;
use imlink_link::seal::{JoinSecret, NodeKey};
use imlink_server::join::{Membership, join, membership};
use imlink_store::Store;
use imlink_store::node::{JoinToken, NodeRole};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::state_dir::{StateDir, random_hex, random_id};

/// The file of the join token that a route keeps.
const JOIN_TOKEN: &str = "join-token";
/// How often a server looks whether it belongs.
const LOOK: Duration = Duration::from_secs(1);

/// The node's key, made at its first start.
pub(super) fn node_key(settings: &Settings, role: NodeRole) -> anyhow::Result<NodeKey> {
    let state = StateDir::new(&settings.state_dir);
    let found = state.read_or_make_file(&format!("node-key-{role}-{}", settings.name), random_hex)?;
    let key = NodeKey::from_hex(&found.text);
    let key = key.with_context(|| format!("{} holds no node key; delete it to make another", found.path.display()))?;
    if found.is_new {
        tracing::info!(path = %found.path.display(), public = %key.public(), "made a key for this node; it is kept here");
    }
    Ok(key)
}

/// Keeps a join token for the servers that have the same state directory, and makes it known.
pub(super) async fn keep_join_token(settings: &Settings, store: &Store) -> anyhow::Result<()> {
    let state = StateDir::new(&settings.state_dir);
    let derive = |id| JoinSecret::derive(settings.cluster_secret.as_bytes(), id);
    let make = || Ok(derive(random_id()?).reveal().to_string());
    let mut token: JoinSecret = state.read_or_make_file(JOIN_TOKEN, make)?.text.parse()?;
    if *derive(token.id).reveal() != *token.reveal() {
        // Made under another cluster secret.
        state.remove_file(JOIN_TOKEN).context("cannot replace the join token of another cluster secret")?;
        token = state.read_or_make_file(JOIN_TOKEN, make)?.text.parse()?;
    }
    let known = JoinToken { id: token.id, role: NodeRole::Server, expires_ms: 0, uses: 0 };
    store.put_join_token(&known).await.context("the join token cannot be made known")
}

/// Sees to it that this server belongs to the cluster, until `stopped`: joins when nothing is known of it, also after
/// the store lost it. A key that was removed stays out.
pub(super) async fn belong(settings: Settings, store: Store, key: NodeKey, stopped: CancellationToken) {
    let mut said = String::new();
    loop {
        let problem = match membership(&store, &settings.name, &key.public()).await {
            Ok(Membership::Enrolled) => None,
            Ok(Membership::Unknown) => try_to_join(&settings, &store, &key).await,
            Ok(Membership::Removed) => {
                Some("this node's key was removed; delete its file in the state directory and join anew".to_owned())
            }
            Ok(Membership::NameTaken) => Some(format!(
                "an IM-server named {:?} has another key: choose another --name, or remove it with `imlink node remove`",
                settings.name
            )),
            Err(error) => Some(error.to_string()),
        };
        let problem = problem.unwrap_or_default();
        if problem != said && !problem.is_empty() {
            tracing::warn!(server = settings.name, why = problem, "this server does not belong to the cluster yet");
        }
        said = problem;
        tokio::select! {
            () = stopped.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Why it did not join, if it did not.
async fn try_to_join(settings: &Settings, store: &Store, key: &NodeKey) -> Option<String> {
    let token = match settings.join.as_str() {
        "" => StateDir::new(&settings.state_dir).read_file(JOIN_TOKEN),
        given => Ok(Some(given.to_owned())),
    };
    let token = match token {
        Ok(Some(token)) => token,
        Ok(None) => {
            return Some(format!(
                "no join token: give one with --join (`imlink node token` makes it where a route runs), or start a route \
                 with the state directory {}",
                settings.state_dir
            ));
        }
        Err(error) => return Some(format!("the join token in {} cannot be read: {error}", settings.state_dir)),
    };
    let token: JoinSecret = match token.parse() {
        Ok(token) => token,
        Err(error) => return Some(format!("{error}")),
    };
    match join(store, &settings.name, key, &token).await {
        Ok(()) => {
            tracing::info!(server = settings.name, key = %key.public(), "joined the cluster; no token is needed from now on");
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

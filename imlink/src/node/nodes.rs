//! `imlink node`: who belongs to a cluster, by its store.

use std::io::Write as _;

use imlink_link::seal::{JoinSecret, PublicKey};
use imlink_protocol::hex::Hex;
use imlink_store::Store;
use imlink_store::node::{JoinToken, NodeRole};

use super::{find_secrets, load, open_store};
use crate::cli::{NodeCommand, NodesArgs};
use crate::config::{Role, Settings};
use crate::exit::Exit;
use crate::state_dir::random_id;

/// Does what `args` say.
pub(crate) fn nodes(args: &NodesArgs) -> anyhow::Result<Exit> {
    let mut settings = load(Role::Route, |environment| args.cluster.sources(environment))?.settings;
    anyhow::ensure!(settings.store != "memory", "nodes belong to a cluster around Redis: --store redis://HOST:PORT");
    if matches!(args.command, NodeCommand::Token { .. }) {
        find_secrets(Role::Route, &mut settings)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = open_store(&settings).await?;
        let json = args.cluster.json;
        match &args.command {
            NodeCommand::Token { role, expires, uses } => {
                let expires_ms = match expires.0 {
                    None => 0,
                    Some(time) => store.now_ms().await? + u64::try_from(time.as_millis())?,
                };
                token(&settings, &store, JoinToken { id: random_id()?, role: *role, expires_ms, uses: *uses }, json)
                    .await
            }
            NodeCommand::List => list(&store, json).await,
            NodeCommand::Remove { role, name } => remove(&store, *role, name, json).await,
            NodeCommand::Tokens => tokens(&store, json).await,
            NodeCommand::Revoke { id } => {
                anyhow::ensure!(store.remove_join_token(id.0).await?, "there is no join token {}", Hex(&id.0));
                print(json, &serde_json::json!({ "id": Hex(&id.0).to_string(), "revoked": true }), || {
                    format!("{}: taken back", Hex(&id.0))
                })
            }
        }
    })
}

async fn token(settings: &Settings, store: &Store, token: JoinToken, json: bool) -> anyhow::Result<Exit> {
    let secret = JoinSecret::derive(settings.cluster_secret.as_bytes(), token.id);
    store.put_join_token(&token).await?;
    let shown = serde_json::json!({
        "token": *secret.reveal(),
        "id": Hex(&token.id).to_string(),
        "role": token.role.name(),
        "expires_ms": token.expires_ms,
        "uses": token.uses,
    });
    print(json, &shown, || secret.reveal().to_string())
}

async fn list(store: &Store, json: bool) -> anyhow::Result<Exit> {
    let alive: Vec<String> = store.routes().await?.into_iter().map(|route| route.name).collect();
    let serving: Vec<String> = store.servers().await.map(|all| all.into_iter().map(|one| one.name).collect())?;
    for node in store.nodes().await? {
        let names = if node.role == NodeRole::Route { &alive } else { &serving };
        let state = match (node.is_removed, names.contains(&node.name)) {
            (true, _) => "removed",
            (false, true) => "up",
            (false, false) => "down",
        };
        let key = PublicKey(node.key).to_string();
        let shown = serde_json::json!({
            "role": node.role.name(),
            "name": node.name,
            "key": key,
            "state": state,
            "enrolled_ms": node.enrolled_ms,
        });
        print(json, &shown, || format!("{:<7} {:<24} {state:<8} {key}", node.role.name(), node.name))?;
    }
    Ok(Exit::Done)
}

async fn remove(store: &Store, role: NodeRole, name: &str, json: bool) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        store.remove_node(role, name).await?,
        "no {role} named {name:?} is enrolled; see `imlink node list`"
    );
    let shown = serde_json::json!({ "role": role.name(), "name": name, "removed": true });
    print(json, &shown, || {
        format!(
            "{name}: removed, its links are closed within 2 s; whoever has a join token can still enrol another key \
             (`imlink node tokens`)"
        )
    })
}

async fn tokens(store: &Store, json: bool) -> anyhow::Result<Exit> {
    for token in store.join_tokens().await? {
        let id = Hex(&token.id).to_string();
        let shown = serde_json::json!({
            "id": id,
            "role": token.role.name(),
            "expires_ms": token.expires_ms,
            "uses": token.uses,
        });
        print(json, &shown, || {
            let uses = if token.uses == 0 { "any number".into() } else { token.uses.to_string() };
            let expires = if token.expires_ms == 0 { "never".into() } else { format!("at {} ms", token.expires_ms) };
            format!("{id}  {:<7} uses left: {uses:<10} expires {expires}", token.role.name())
        })?;
    }
    Ok(Exit::Done)
}

fn print(json: bool, shown: &serde_json::Value, line: impl FnOnce() -> String) -> anyhow::Result<Exit> {
    let text = if json { shown.to_string() } else { line() };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(Exit::Done)
}

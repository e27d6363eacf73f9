//! The first frames of a server's link: where it is and what it takes, and its ticket keys.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use imlink_link::seal::PublicKey;
use imlink_link::{Link, Sender};
use imlink_protocol::frame;
use imlink_protocol::id::check_device_id;
use imlink_protocol::limits::{ADDRESS_LEN_MAX, HELLO_DEADLINE};
use imlink_protocol::link::node::{Register, Registered, ToRoute, ToServer};
use imlink_protocol::ticket;
use imlink_store::lease;

use super::servers::ServerLink;
use crate::core::Core;

/// Admits the server at the other end of `link`, or says why not.
pub(super) async fn register(
    core: &Arc<Core>,
    link: &mut Link,
    name: String,
    key: Option<PublicKey>,
) -> Option<Arc<ServerLink>> {
    let first = tokio::time::timeout(HELLO_DEADLINE, link.receiver.receive()).await;
    let Ok(Ok(Some(batch))) = first else {
        core.metrics.link_ended("no-register");
        return None;
    };
    let checked = match batch.frames().next() {
        Some(Ok(body)) => match frame::decode::<ToRoute<'_>>(body) {
            Ok(ToRoute::Register(register)) => check(core, &name, &register),
            _ => Err("the first frame of a link must be Register of protocol version 1".into()),
        },
        _ => Err("the first frame is broken".into()),
    };
    match checked {
        Ok((server, plain_address)) => {
            let server = Arc::new(ServerLink::new(server, plain_address, link.sender.clone(), key, core.tag(&name)));
            enter(core, &server);
            Some(server)
        }
        Err(why) => {
            tracing::warn!(why, "an IM-server is refused");
            core.metrics.link_ended("refused");
            refuse(&link.sender, &why);
            None
        }
    }
}

/// Who registers, and where it takes devices without a key.
fn check(core: &Core, server: &str, register: &Register<'_>) -> Result<(lease::Server, String), String> {
    let Register { version, incarnation, device_address, plain_address, capacity, labels } = *register;
    if version != imlink_protocol::VERSION {
        let spoken = imlink_protocol::VERSION;
        return Err(format!("protocol version {version} is not spoken here, only {spoken}: use one release"));
    }
    check_device_id(server).map_err(|error| format!("server name {server:?} {error}"))?;
    for address in [device_address, plain_address].into_iter().filter(|address| !address.is_empty()) {
        let is_address = address.len() <= ADDRESS_LEN_MAX
            && address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_address {
            return Err(format!("device address {address:?} is not host:port of at most {ADDRESS_LEN_MAX} bytes"));
        }
    }
    if device_address.is_empty() && plain_address.is_empty() {
        return Err("the server names no address for devices".into());
    }
    if labels.len() > LABELS_LEN_MAX || capacity == 0 {
        return Err(format!("labels take at most {LABELS_LEN_MAX} bytes, and a capacity is at least 1"));
    }
    if core.servers.link(incarnation).is_some_and(|link| link.name != server) {
        return Err(format!("incarnation {incarnation} is another IM-server's: start this one again"));
    }
    if core.servers.is_replaced(server, incarnation) {
        return Err(format!(
            "a newer IM-server named {server:?} is registered: give each its own name, or stop this one"
        ));
    }
    let server = lease::Server {
        name: server.into(),
        incarnation,
        device_address: device_address.into(),
        capacity,
        labels: labels.into(),
    };
    Ok((server, plain_address.into()))
}

fn enter(core: &Arc<Core>, server: &Arc<ServerLink>) {
    if let Some(older) = core.servers.enter(server) {
        if older.incarnation == server.incarnation {
            older.sender.close();
        } else {
            let name = &server.name;
            tracing::warn!(server = %name, "a newer IM-server of this name replaces another one");
            refuse(
                &older.sender,
                &format!("a newer IM-server named {name:?} registered: give each its own name, or stop this one"),
            );
        }
    }
    core.servers.came_back(server.incarnation);
    core.metrics.servers.set(i64::try_from(core.servers.len()).unwrap_or(i64::MAX));
    send_keys(core, server);
    tracing::info!(server = %server.name, address = %server.address, "an IM-server registered");
}

/// Sends the ticket keys of today and yesterday.
pub(super) fn send_keys(core: &Core, server: &ServerLink) -> u32 {
    let day = today();
    let key = |day| ticket::derive(core.config.cluster_secret.as_bytes(), &server.name, day).0;
    let registered = Registered {
        route: &core.config.name,
        day,
        ticket_key_today: key(day),
        ticket_key_yesterday: key(day.saturating_sub(1)),
    };
    // A link that takes nothing any more ends by itself.
    let _ = server.sender.send(&ToServer::Registered(registered));
    day
}

/// Number of the day, days since 1970.
pub(super) fn today() -> u32 {
    ticket::day_of(now_s())
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn refuse(sender: &Sender, why: &str) {
    // Closing sends what is in the outbox first.
    let _ = sender.send(&ToServer::Refused { why });
    sender.close();
}

/// Longest labels of a server, in bytes.
const LABELS_LEN_MAX: usize = 256;

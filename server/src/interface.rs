//! Interfaces: which keys a device's firmware speaks, learnt once per fingerprint.
//!
//! One device of a fingerprint is asked (`Describe`), the others wait; their mailboxes are not read before.
//! What was learnt goes to the store, where routes find the paths.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::Instant;
use imlink_protocol::id::Fingerprint;
use imlink_protocol::interface::{Entries, Kind};
use imlink_protocol::key::Key;
use imlink_protocol::limits::INTERFACE_LEN_MAX;
use imlink_protocol::message::{GoAwayReason, ToDevice};
use imlink_protocol::serving::Transmit;
use imlink_store::Error;
use sha2::{Digest, Sha256};

use crate::conn::{About, ConnId};
use crate::reactor::{End, Reactor};
use crate::store_work::Done;

/// Interfaces kept per I/O thread; past it the known ones are forgotten and asked of the store again.
const INTERFACES_MAX: usize = 4096;
/// A device that did not give its whole interface by then lets another one try.
const ASKED_MAX: Duration = Duration::from_secs(30);

/// Keys that a firmware lists.
#[derive(Debug)]
pub(crate) struct Listed {
    messages: Box<[Key]>,
    calls: Box<[Key]>,
}

/// What is known of one device's interface.
#[derive(Clone, Debug)]
pub(crate) enum Interface {
    /// It states none: keys are unchecked.
    Raw,
    /// Being learnt.
    Learning,
    /// These keys and no others.
    Known(Arc<Listed>),
}

impl Interface {
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self, Self::Learning)
    }

    pub(crate) fn lists_message(&self, key: Key) -> bool {
        match self {
            Self::Raw => true,
            Self::Learning => false,
            Self::Known(listed) => listed.messages.contains(&key),
        }
    }

    pub(crate) fn lists_call(&self, key: Key) -> bool {
        match self {
            Self::Raw => true,
            Self::Learning => false,
            Self::Known(listed) => listed.calls.contains(&key),
        }
    }
}

type Scope = (String, Fingerprint);

/// The interfaces of one I/O thread.
#[derive(Default)]
pub(crate) struct Interfaces {
    known: HashMap<Scope, Arc<Listed>>,
    learning: HashMap<Scope, Learning>,
}

struct Learning {
    stage: Stage,
    waiting: Vec<ConnId>,
}

enum Stage {
    /// The store is asked, or is to be asked again.
    Store { is_asked: bool },
    /// This device is asked, until when it may take; what came so far.
    Device { conn: ConnId, until: Instant, bytes: Vec<u8> },
}

impl Interfaces {
    /// What is known at attach.
    pub(crate) fn of(&self, about: &About) -> Interface {
        if !about.fingerprint.is_some() {
            return Interface::Raw;
        }
        self.known.get(&scope(about)).map_or(Interface::Learning, |listed| Interface::Known(listed.clone()))
    }
}

impl Reactor {
    /// The device waits until its interface is known.
    pub(crate) fn learn_interface(&mut self, id: ConnId) {
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        let scope = scope(&device.about);
        if let Some(learning) = self.interfaces.learning.get_mut(&scope) {
            learning.waiting.push(id);
            return;
        }
        let learning = Learning { stage: Stage::Store { is_asked: true }, waiting: vec![id] };
        self.interfaces.learning.insert(scope.clone(), learning);
        self.ask_store(scope);
    }

    fn ask_store(&mut self, (tenant, fingerprint): Scope) {
        let store = self.shared.store.clone();
        self.start(async move {
            let result = store.interface(&tenant, fingerprint).await;
            Done::Interface { tenant, fingerprint, result }
        });
    }

    pub(crate) fn handle_interface(
        &mut self,
        tenant: String,
        fingerprint: Fingerprint,
        result: Result<Option<Bytes>, Error>,
    ) {
        let scope = (tenant, fingerprint);
        match result {
            Ok(Some(bytes)) => match listed(&bytes) {
                Some(listed) => self.interface_known(scope, listed),
                None => self.ask_next_device(scope),
            },
            Ok(None) => self.ask_next_device(scope),
            Err(error) => {
                tracing::debug!(%error, %fingerprint, "the interface is asked for later");
                self.shared.metrics.count_retry("interface");
                if let Some(learning) = self.interfaces.learning.get_mut(&scope) {
                    learning.stage = Stage::Store { is_asked: false };
                }
            }
        }
    }

    /// Asks the first device that is still there.
    fn ask_next_device(&mut self, scope: Scope) {
        let Some(mut learning) = self.interfaces.learning.remove(&scope) else { return };
        learning.waiting.retain(|id| self.conn(*id).is_some_and(|conn| conn.device().is_some()));
        // The last one asked gets its turn behind all others.
        if let Stage::Device { conn, .. } = &learning.stage
            && learning.waiting.first() == Some(conn)
        {
            learning.waiting.rotate_left(1);
        }
        let Some(first) = learning.waiting.first().copied() else { return };
        learning.stage = Stage::Device { conn: first, until: self.now.after(ASKED_MAX), bytes: Vec::new() };
        self.interfaces.learning.insert(scope, learning);
        self.describe(first, 0);
    }

    fn describe(&mut self, id: ConnId, offset: u32) {
        if let Some(conn) = self.conn(id) {
            conn.out.transmit(&ToDevice::Describe { offset });
            self.mark(id.index);
        }
    }

    /// A part of the interface came from the device that was asked.
    pub(crate) fn handle_chunk(&mut self, id: ConnId, offset: u32, total: u32, chunk: &[u8]) {
        let Some(device) = self.conn(id).and_then(|conn| conn.device()) else { return };
        if let Interface::Raw = device.interface {
            return self.close(id.index, End::GoAway(GoAwayReason::Order, 0));
        }
        let scope = scope(&device.about);
        let asked = self.interfaces.learning.get_mut(&scope).map(|learning| &mut learning.stage);
        // Asked before another one was, or asked twice: its answer comes too late and does no harm.
        let Some(Stage::Device { conn, bytes, .. }) = asked else { return };
        if *conn != id || offset as usize != bytes.len() {
            return;
        }
        let end = bytes.len() + chunk.len();
        if total as usize > INTERFACE_LEN_MAX || chunk.is_empty() || end > total as usize {
            return self.close(id.index, End::GoAway(GoAwayReason::Order, 0));
        }
        bytes.extend_from_slice(chunk);
        if end < total as usize {
            return self.describe(id, end as u32);
        }
        let interface = Bytes::from(std::mem::take(bytes));
        let digest = Sha256::digest(&interface);
        let is_its_own = digest.get(..16).is_some_and(|begin| begin == scope.1.0);
        let Some(listed) = listed(&interface).filter(|_| is_its_own) else {
            tracing::warn!(fingerprint = %scope.1, "a device's interface does not fit its fingerprint");
            self.close(id.index, End::GoAway(GoAwayReason::Malformed, 60));
            return self.ask_next_device(scope);
        };
        self.interface_known(scope.clone(), listed);
        self.put_interface(scope, interface);
    }

    fn put_interface(&mut self, (tenant, fingerprint): Scope, interface: Bytes) {
        let store = self.shared.store.clone();
        self.start(async move {
            let result = store.put_interface(&tenant, fingerprint, &interface).await;
            Done::InterfacePut { tenant, fingerprint, interface, result }
        });
    }

    pub(crate) fn handle_interface_put(
        &mut self,
        tenant: String,
        fingerprint: Fingerprint,
        interface: Bytes,
        result: Result<(), Error>,
    ) {
        if let Err(error) = result {
            tracing::debug!(%error, %fingerprint, "the interface is stored later");
            self.shared.metrics.count_retry("put-interface");
            self.sweep.put_interface_later((tenant, fingerprint), interface);
        }
    }

    fn interface_known(&mut self, scope: Scope, listed: Listed) {
        let listed = Arc::new(listed);
        if self.interfaces.known.len() >= INTERFACES_MAX {
            self.interfaces.known.clear();
        }
        self.interfaces.known.insert(scope.clone(), listed.clone());
        let Some(learning) = self.interfaces.learning.remove(&scope) else { return };
        for id in learning.waiting {
            if let Some(device) = self.conn(id).and_then(|conn| conn.device()) {
                device.interface = Interface::Known(listed.clone());
                self.read_on(id.index);
            }
        }
    }

    /// Asks again where the store did not answer or the asked device left.
    pub(crate) fn retry_interfaces(&mut self) {
        let now = self.now;
        let scopes: Vec<Scope> = self.interfaces.learning.keys().cloned().collect();
        for scope in scopes {
            let asked = match self.interfaces.learning.get_mut(&scope).map(|learning| &mut learning.stage) {
                Some(Stage::Store { is_asked }) if !*is_asked => {
                    *is_asked = true;
                    None
                }
                Some(Stage::Device { conn, until, .. }) => Some((*conn, now >= *until)),
                _ => continue,
            };
            match asked {
                None => self.ask_store(scope),
                Some((_, true)) => self.ask_next_device(scope),
                Some((id, _)) if self.conn(id).is_none_or(|conn| conn.device().is_none()) => {
                    self.ask_next_device(scope)
                }
                Some(_) => {}
            }
        }
        for ((tenant, fingerprint), interface) in self.sweep.take_interfaces() {
            self.put_interface((tenant, fingerprint), interface);
        }
    }
}

fn scope(about: &About) -> Scope {
    (about.name.tenant().to_owned(), about.fingerprint)
}

/// The keys of an interface; `None` when it is not one.
fn listed(interface: &[u8]) -> Option<Listed> {
    let entries: Vec<_> = Entries::new(interface).collect::<Result<_, _>>().ok()?;
    let of = |kind| entries.iter().filter(|entry| entry.kind == kind).map(|entry| entry.key).collect();
    Some(Listed { messages: of(Kind::Message), calls: of(Kind::Call) })
}

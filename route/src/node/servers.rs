//! The IM-servers that are linked to this route, and those that are known to be gone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use imlink_link::Sender;
use imlink_link::seal::PublicKey;
use imlink_protocol::device::LinkKind;
use imlink_protocol::link::node::Load;
use imlink_store::lease;
use parking_lot::{Mutex, RwLock};

use crate::choose::{Candidate, choose, has_labels};
use crate::devices::{NameTag, Seat};
use crate::request::Server;

/// One IM-server, linked and proven.
pub(crate) struct ServerLink {
    pub(crate) name: String,
    pub(crate) incarnation: u64,
    /// For sealed links of devices; empty for none.
    pub(crate) address: String,
    /// For plain ones.
    pub(crate) plain_address: String,
    pub(crate) capacity: u32,
    pub(crate) labels: String,
    pub(crate) sender: Sender,
    /// The key that it proved; none within this process.
    pub(crate) key: Option<PublicKey>,
    tag: NameTag,
    report: Mutex<Report>,
    /// Devices sent there since the last report.
    assigned: AtomicU32,
}

struct Report {
    load: Load,
    at: Option<Instant>,
    heard: Instant,
}

/// All of them.
pub(crate) struct Servers {
    links: RwLock<HashMap<u64, Arc<ServerLink>>>,
    past: Mutex<Past>,
    started: Instant,
}

#[derive(Default)]
struct Past {
    /// Incarnations seen to end.
    gone: VecDeque<u64>,
    /// Incarnations that another one of the same name followed.
    replaced: VecDeque<(String, u64)>,
}

impl ServerLink {
    pub(crate) fn new(
        server: lease::Server,
        plain_address: String,
        sender: Sender,
        key: Option<PublicKey>,
        tag: NameTag,
    ) -> Self {
        let report = Report { load: Load::default(), at: None, heard: Instant::now() };
        Self {
            name: server.name,
            incarnation: server.incarnation,
            address: server.device_address,
            plain_address,
            capacity: server.capacity,
            labels: server.labels,
            sender,
            key,
            tag,
            report: Mutex::new(report),
            assigned: AtomicU32::new(0),
        }
    }

    /// A sign of life.
    pub(crate) fn heard(&self, now: Instant) {
        self.report.lock().heard = now;
    }

    /// Time since the last sign of life.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.report.lock().heard)
    }

    /// Takes its report over.
    pub(crate) fn reported(&self, load: Load, now: Instant) {
        let mut report = self.report.lock();
        report.load = load;
        report.at = Some(now);
        self.assigned.store(0, Ordering::Relaxed);
    }

    pub(crate) fn lease(&self) -> lease::Server {
        lease::Server {
            name: self.name.clone(),
            incarnation: self.incarnation,
            device_address: self.address.clone(),
            capacity: self.capacity,
            labels: self.labels.clone(),
        }
    }

    /// Where devices of this kind of link go; empty for nowhere.
    pub(crate) fn address_of(&self, kind: LinkKind) -> &str {
        match kind {
            LinkKind::Sealed => &self.address,
            LinkKind::Plain => &self.plain_address,
        }
    }

    fn candidate(&self, now: Instant, labels: &str, kind: LinkKind) -> Candidate {
        let report = self.report.lock();
        Candidate {
            load: report.load,
            age: report.at.map(|at| now.saturating_duration_since(at)),
            assigned: self.assigned.load(Ordering::Relaxed),
            capacity: self.capacity,
            is_allowed: has_labels(&self.labels, labels) && !self.address_of(kind).is_empty(),
        }
    }

    fn info(&self, now: Instant) -> Server {
        let report = self.report.lock();
        Server {
            name: self.name.clone(),
            incarnation: self.incarnation,
            address: self.address.clone(),
            capacity: self.capacity,
            labels: self.labels.clone(),
            load: report.load,
            age: report.at.map(|at| now.saturating_duration_since(at)),
        }
    }
}

impl Default for Servers {
    fn default() -> Self {
        Self { links: RwLock::default(), past: Mutex::default(), started: Instant::now() }
    }
}

impl Servers {
    /// Enters `link`. What it replaces is returned: an older link of the same incarnation, or another
    /// incarnation of the same name, which stays replaced from then on.
    pub(crate) fn enter(&self, link: &Arc<ServerLink>) -> Option<Arc<ServerLink>> {
        let mut links = self.links.write();
        let older = links.values().find(|one| one.name == link.name).cloned();
        if let Some(older) = &older {
            links.remove(&older.incarnation);
            if older.incarnation != link.incarnation {
                let mut past = self.past.lock();
                past.replaced.push_back((older.name.clone(), older.incarnation));
                if past.replaced.len() > PAST_MAX {
                    past.replaced.pop_front();
                }
            }
        }
        links.insert(link.incarnation, link.clone());
        older
    }

    /// Takes `link` out, if it was not replaced meanwhile.
    pub(crate) fn leave(&self, link: &Arc<ServerLink>) -> bool {
        let mut links = self.links.write();
        let is_it = links.get(&link.incarnation).is_some_and(|one| Arc::ptr_eq(one, link));
        if is_it {
            links.remove(&link.incarnation);
        }
        is_it
    }

    /// The link to `incarnation`.
    pub(crate) fn link(&self, incarnation: u64) -> Option<Arc<ServerLink>> {
        self.links.read().get(&incarnation).cloned()
    }

    /// The link to the server that holds `seat`: its name fits too.
    pub(crate) fn seated(&self, seat: Seat) -> Option<Arc<ServerLink>> {
        self.link(seat.incarnation).filter(|link| link.tag == seat.server)
    }

    /// All links.
    pub(crate) fn links(&self) -> Vec<Arc<ServerLink>> {
        self.links.read().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.links.read().len()
    }

    /// Whether so much waits for `incarnation` that nothing new should be sent to its devices.
    pub(crate) fn is_congested(&self, incarnation: u64, waiting_max: usize) -> bool {
        self.links.read().get(&incarnation).is_some_and(|link| link.sender.waiting() > waiting_max)
    }

    /// The server for the next device, counted as assigned there.
    pub(crate) fn choose(&self, labels: &str, kind: LinkKind, now: Instant, draw: u64) -> Option<Arc<ServerLink>> {
        let links = self.links();
        let candidates: Vec<Candidate> = links.iter().map(|link| link.candidate(now, labels, kind)).collect();
        let link = links.get(choose(&candidates, draw)?)?.clone();
        link.assigned.fetch_add(1, Ordering::Relaxed);
        Some(link)
    }

    /// For people, by name.
    pub(crate) fn infos(&self, now: Instant) -> Vec<Server> {
        let mut infos: Vec<Server> = self.links.read().values().map(|link| link.info(now)).collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
    }

    /// `incarnation` was seen to end.
    pub(crate) fn went(&self, incarnation: u64) {
        let mut past = self.past.lock();
        past.gone.push_back(incarnation);
        if past.gone.len() > PAST_MAX {
            past.gone.pop_front();
        }
    }

    /// `incarnation` lives after all.
    pub(crate) fn came_back(&self, incarnation: u64) {
        self.past.lock().gone.retain(|gone| *gone != incarnation);
    }

    /// Whether `incarnation` was seen to end.
    pub(crate) fn is_gone(&self, incarnation: u64) -> bool {
        self.past.lock().gone.contains(&incarnation)
    }

    /// Whether another incarnation followed `incarnation` under this name.
    pub(crate) fn is_replaced(&self, name: &str, incarnation: u64) -> bool {
        self.past.lock().replaced.iter().any(|(of, old)| of == name && *old == incarnation)
    }

    /// Whether every living server had the time to find this route.
    pub(crate) fn had_time(&self) -> bool {
        self.started.elapsed() > FIND_TIME
    }
}

/// Incarnations remembered as gone or replaced.
const PAST_MAX: usize = 1024;
/// A server looks for routes more often than this; also the length of a lease.
const FIND_TIME: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, incarnation: u64) -> Arc<ServerLink> {
        let (side, _) = imlink_link::pair(1024);
        let server = lease::Server {
            name: name.into(),
            incarnation,
            device_address: "127.0.0.1:1".into(),
            capacity: 10,
            labels: "zone=eu".into(),
        };
        Arc::new(ServerLink::new(server, String::new(), side.sender, None, NameTag::default()))
    }

    #[test]
    fn the_newer_incarnation_of_a_name_takes_its_place_for_good() {
        let servers = Servers::default();
        let (old, new) = (link("im-1", 1), link("im-1", 2));
        assert!(servers.enter(&old).is_none());
        assert!(Arc::ptr_eq(&servers.enter(&new).unwrap(), &old));
        assert!(servers.link(1).is_none() && servers.link(2).is_some());
        assert!(servers.is_replaced("im-1", 1) && !servers.is_replaced("im-1", 2));
        assert!(!servers.leave(&old) && servers.leave(&new));
    }

    #[test]
    fn a_server_without_a_report_gets_no_device() {
        let servers = Servers::default();
        let one = link("im-1", 1);
        servers.enter(&one);
        let now = Instant::now();
        assert!(servers.choose("", LinkKind::Sealed, now, 7).is_none());
        one.reported(Load::default(), now);
        assert!(servers.choose("", LinkKind::Plain, now, 7).is_none(), "it takes no plain links");
        assert!(servers.choose("zone=us", LinkKind::Sealed, now, 7).is_none());
        for _ in 0..10 {
            assert!(servers.choose("zone=eu", LinkKind::Sealed, now, 7).is_some());
        }
        assert!(servers.choose("", LinkKind::Sealed, now, 7).is_none(), "ten assigned fill a capacity of ten");
        one.reported(Load { connections: 9, ..Load::default() }, now);
        assert!(servers.choose("", LinkKind::Sealed, now, 7).is_some());
        assert!(servers.choose("", LinkKind::Sealed, now + Duration::from_secs(7), 7).is_none(), "stale");
    }
}

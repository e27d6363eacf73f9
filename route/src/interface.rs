//! Interfaces as the route uses them: path to key for what goes to devices, key to path for what comes.

use std::collections::HashMap;
use std::sync::Arc;

use imlink_protocol::id::Fingerprint;
use imlink_protocol::interface::{Entries, Kind};
use imlink_protocol::key::Key;
use parking_lot::Mutex;

/// What one firmware build speaks.
#[derive(Debug, Default)]
pub(crate) struct Interface {
    messages: HashMap<Box<str>, Key>,
    calls: HashMap<Box<str>, Key>,
    events: HashMap<Key, Arc<str>>,
    /// All of it, in order.
    paths: Vec<(Kind, String)>,
}

impl Interface {
    /// Reads an interface of at most 64 KiB; what follows a wrong entry is not taken.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut interface = Self::default();
        for entry in Entries::new(bytes).flatten() {
            match entry.kind {
                Kind::Message => drop(interface.messages.insert(entry.path.into(), entry.key)),
                Kind::Call => drop(interface.calls.insert(entry.path.into(), entry.key)),
                Kind::Event => drop(interface.events.insert(entry.key, entry.path.into())),
                Kind::Request => {}
            }
            interface.paths.push((entry.kind, entry.path.to_owned()));
        }
        interface
    }

    /// The key of `path` for messages.
    pub(crate) fn message(&self, path: &str) -> Option<Key> {
        self.messages.get(path).copied()
    }

    /// The key of `path` for calls.
    pub(crate) fn call(&self, path: &str) -> Option<Key> {
        self.calls.get(path).copied()
    }

    /// The path of an event's key.
    pub(crate) fn event(&self, key: Key) -> Option<&Arc<str>> {
        self.events.get(&key)
    }

    /// Everything in it.
    pub(crate) fn paths(&self) -> &[(Kind, String)] {
        &self.paths
    }

    /// The paths of `kind`, for people; cut when there are many.
    pub(crate) fn list(&self, kind: Kind) -> String {
        let of_kind = || self.paths.iter().filter(|(of, _)| *of == kind).map(|(_, path)| path.as_str());
        let shown: Vec<&str> = of_kind().take(PATHS_SHOWN_MAX).collect();
        let more = of_kind().count() - shown.len();
        match (shown.is_empty(), more) {
            (true, _) => "none".into(),
            (false, 0) => shown.join(", "),
            (false, more) => format!("{} and {more} more", shown.join(", ")),
        }
    }
}

/// The interfaces read so far; bounded, the oldest half is forgotten.
pub(crate) struct Interfaces {
    read: Mutex<Halves>,
    half_max: usize,
}

#[derive(Default)]
struct Halves {
    young: HashMap<(Box<str>, Fingerprint), Arc<Interface>>,
    old: HashMap<(Box<str>, Fingerprint), Arc<Interface>>,
}

impl Interfaces {
    pub(crate) fn new(max: usize) -> Self {
        Self { read: Mutex::default(), half_max: (max / 2).max(1) }
    }

    pub(crate) fn find(&self, tenant: &str, fingerprint: Fingerprint) -> Option<Arc<Interface>> {
        let key = (Box::from(tenant), fingerprint);
        let mut halves = self.read.lock();
        if let Some(interface) = halves.young.get(&key) {
            return Some(interface.clone());
        }
        let interface = halves.old.remove(&key)?;
        halves.keep(key, interface.clone(), self.half_max);
        Some(interface)
    }

    pub(crate) fn keep(&self, tenant: &str, fingerprint: Fingerprint, interface: Arc<Interface>) {
        self.read.lock().keep((tenant.into(), fingerprint), interface, self.half_max);
    }
}

impl Halves {
    fn keep(&mut self, key: (Box<str>, Fingerprint), interface: Arc<Interface>, half_max: usize) {
        if self.young.len() >= half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, interface);
    }
}

/// Paths that a failure lists at most.
const PATHS_SHOWN_MAX: usize = 32;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An interface of raw paths, as a device would state it.
    pub(crate) fn encoded(paths: &[(Kind, &str)]) -> Vec<u8> {
        use imlink_protocol::frame;
        use imlink_protocol::interface::Entry;
        let mut all = Vec::new();
        for &(kind, path) in paths {
            let mut out = [0; 256];
            let entry = Entry { kind, key: Key::raw(path), path, schema: &[] };
            let len = frame::encode(&entry, &mut out).unwrap();
            // An entry is a frame's body: one byte of length before it, four of check behind it.
            all.extend_from_slice(&out[1..len - frame::CHECK_LEN]);
        }
        all
    }

    #[test]
    fn a_path_has_its_key_only_for_its_kind() {
        let bytes = encoded(&[(Kind::Message, "led/set"), (Kind::Call, "led/get"), (Kind::Event, "button")]);
        let interface = Interface::read(&bytes);
        assert_eq!(interface.message("led/set"), Some(Key::raw("led/set")));
        assert_eq!(interface.message("led/get"), None);
        assert_eq!(interface.call("led/get"), Some(Key::raw("led/get")));
        assert_eq!(interface.event(Key::raw("button")).map(|path| &**path), Some("button"));
        assert_eq!((interface.list(Kind::Call), interface.list(Kind::Request)), ("led/get".into(), "none".into()));
    }

    #[test]
    fn garbage_behind_an_entry_is_not_taken() {
        let mut bytes = encoded(&[(Kind::Message, "led/set")]);
        bytes.extend_from_slice(&[0xff; 40]);
        assert_eq!(Interface::read(&bytes).paths().len(), 1);
    }
}

//! Small tables: interfaces, idempotency keys, leases.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use imlink_protocol::id::Fingerprint;
use parking_lot::RwLock;

use crate::idempotency::Idempotent;
use crate::{Config, Error};

/// What firmware builds speak, by tenant and fingerprint.
#[derive(Debug)]
pub(super) struct Interfaces {
    max: usize,
    known: RwLock<HashMap<(String, Fingerprint), Bytes>>,
}

impl Interfaces {
    pub(super) fn new(max: usize) -> Self {
        Self { max, known: RwLock::default() }
    }

    pub(super) fn put(&self, tenant: &str, fingerprint: Fingerprint, interface: &[u8]) -> Result<(), Error> {
        let mut known = self.known.write();
        let key = (tenant.to_owned(), fingerprint);
        if known.len() >= self.max && !known.contains_key(&key) {
            return Err(Error::Full(format!("{} interfaces are kept: raise interfaces_max", self.max)));
        }
        known.insert(key, Bytes::copy_from_slice(interface));
        Ok(())
    }

    pub(super) fn read(&self, tenant: &str, fingerprint: Fingerprint) -> Option<Bytes> {
        self.known.read().get(&(tenant.to_owned(), fingerprint)).cloned()
    }
}

/// Idempotency keys of clients.
#[derive(Debug)]
pub(super) struct Keys {
    max: usize,
    age_ms: u64,
    used: HashMap<String, Use>,
    /// In the order in which they are forgotten.
    order: VecDeque<(u64, String)>,
}

#[derive(Debug)]
struct Use {
    body_hash: [u8; 32],
    answer: Option<Bytes>,
}

impl Keys {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            max: config.idempotency_keys_max,
            age_ms: u64::try_from(config.idempotency_age.as_millis()).unwrap_or(u64::MAX),
            used: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn first_use(
        &mut self,
        tenant: &str,
        key: &str,
        body_hash: [u8; 32],
        now_ms: u64,
    ) -> Result<Idempotent, Error> {
        while self.order.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms) {
            if let Some((_, old)) = self.order.pop_front() {
                self.used.remove(&old);
            }
        }
        let name = name_of(tenant, key);
        if let Some(used) = self.used.get(&name) {
            return Ok(match &used.answer {
                _ if used.body_hash != body_hash => Idempotent::Conflict,
                Some(answer) => Idempotent::Done(answer.clone()),
                None => Idempotent::Pending,
            });
        }
        if self.used.len() >= self.max {
            let why = format!("{} idempotency keys are remembered: raise idempotency_keys_max", self.max);
            return Err(Error::Full(why));
        }
        self.order.push_back((now_ms.saturating_add(self.age_ms), name.clone()));
        self.used.insert(name, Use { body_hash, answer: None });
        Ok(Idempotent::New)
    }

    pub(super) fn done(&mut self, tenant: &str, key: &str, answer: &[u8]) {
        if let Some(used) = self.used.get_mut(&name_of(tenant, key)) {
            used.answer = Some(Bytes::copy_from_slice(answer));
        }
    }
}

fn name_of(tenant: &str, key: &str) -> String {
    format!("{tenant}/{key}")
}

/// Who is alive, by name.
#[derive(Debug)]
pub(super) struct Leases<T> {
    held: HashMap<String, Lease<T>>,
}

#[derive(Debug)]
struct Lease<T> {
    holder: T,
    incarnation: u64,
    until_ms: u64,
}

impl<T> Default for Leases<T> {
    fn default() -> Self {
        Self { held: HashMap::new() }
    }
}

impl<T: Clone> Leases<T> {
    pub(super) fn register(&mut self, name: &str, incarnation: u64, holder: T, until_ms: u64) {
        self.held.insert(name.to_owned(), Lease { holder, incarnation, until_ms });
    }

    pub(super) fn live(&mut self, now_ms: u64) -> Vec<T> {
        self.held.retain(|_, lease| lease.until_ms > now_ms);
        self.held.values().map(|lease| lease.holder.clone()).collect()
    }

    pub(super) fn remove(&mut self, name: &str, incarnation: u64) {
        if self.held.get(name).is_some_and(|lease| lease.incarnation == incarnation) {
            self.held.remove(name);
        }
    }
}

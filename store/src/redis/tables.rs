//! Interfaces, idempotency keys, leases.

use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::id::Fingerprint;
use redis::Value;

use super::RedisStore;
use super::layout::{self, Fields, ROUTES_KEY, Reply, SERVERS_KEY};
use super::script::Call;
use crate::idempotency::Idempotent;
use crate::lease::{Route, Server};
use crate::{Error, lease};

impl RedisStore {
    pub(crate) async fn put_interface(
        &self,
        tenant: &str,
        fingerprint: Fingerprint,
        interface: &[u8],
    ) -> Result<(), Error> {
        let keeper = &self.shared.keeper;
        let mut cmd = redis::cmd("SET");
        cmd.arg(layout::interface_key(tenant, fingerprint)).arg(interface);
        keeper.ask(&keeper.link()?, cmd).await.map(|_| ())
    }

    pub(crate) async fn interface(&self, tenant: &str, fingerprint: Fingerprint) -> Result<Option<Bytes>, Error> {
        let keeper = &self.shared.keeper;
        let mut cmd = redis::cmd("GET");
        cmd.arg(layout::interface_key(tenant, fingerprint));
        match keeper.ask(&keeper.link()?, cmd).await? {
            Value::Nil => Ok(None),
            some => layout::bytes_of(Some(some)).map(|bytes| Some(bytes.into())),
        }
    }

    pub(crate) async fn idempotent(&self, tenant: &str, key: &str, body_hash: [u8; 32]) -> Result<Idempotent, Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::Idempotent, &[&layout::idempotency_key(tenant, key)]);
        call.arg(&body_hash).arg(ms(keeper.config.idempotency_age));
        let mut reply = Reply::new(keeper.ask(&keeper.link()?, call).await?)?;
        Ok(match reply.number()? {
            0 => Idempotent::New,
            1 => Idempotent::Done(reply.bytes()?.into()),
            2 => Idempotent::Pending,
            _ => Idempotent::Conflict,
        })
    }

    pub(crate) async fn idempotent_done(&self, tenant: &str, key: &str, answer: &[u8]) -> Result<(), Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::IdempotentDone, &[&layout::idempotency_key(tenant, key)]);
        call.arg(answer);
        keeper.ask(&keeper.link()?, call).await.map(|_| ())
    }

    pub(crate) async fn register_route(&self, route: &lease::Route, lease: Duration) -> Result<(), Error> {
        let description = route.node_address.as_bytes();
        self.lease(ROUTES_KEY, &route.name, ms(lease), route.incarnation, description).await
    }

    pub(crate) async fn routes(&self) -> Result<Vec<lease::Route>, Error> {
        let live = self.leases(ROUTES_KEY).await?.into_iter();
        let route = |(name, incarnation, description): Held| Route {
            name,
            incarnation,
            node_address: String::from_utf8_lossy(&description).into_owned(),
        };
        Ok(live.map(route).collect())
    }

    pub(crate) async fn remove_route(&self, name: &str, incarnation: u64) -> Result<(), Error> {
        self.lease(ROUTES_KEY, name, String::new(), incarnation, &[]).await
    }

    /// The description of a server: capacity 4 · length of the address 1 · address · labels.
    pub(crate) async fn register_server(&self, server: &lease::Server, lease: Duration) -> Result<(), Error> {
        let address = server.device_address.as_bytes();
        let address = address.get(..usize::from(u8::MAX)).unwrap_or(address);
        let mut description = server.capacity.to_be_bytes().to_vec();
        description.push(u8::try_from(address.len()).unwrap_or(u8::MAX));
        description.extend_from_slice(address);
        description.extend_from_slice(server.labels.as_bytes());
        self.lease(SERVERS_KEY, &server.name, ms(lease), server.incarnation, &description).await
    }

    pub(crate) async fn servers(&self) -> Result<Vec<lease::Server>, Error> {
        let live = self.leases(SERVERS_KEY).await?.into_iter();
        Ok(live.filter_map(read_server).collect())
    }

    pub(crate) async fn remove_server(&self, name: &str, incarnation: u64) -> Result<(), Error> {
        self.lease(SERVERS_KEY, name, String::new(), incarnation, &[]).await
    }

    async fn lease(
        &self,
        key: &str,
        name: &str,
        lease_ms: String,
        incarnation: u64,
        description: &[u8],
    ) -> Result<(), Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::Lease, &[key]);
        call.arg(name).arg(lease_ms).arg(&incarnation.to_be_bytes()).arg(description);
        keeper.ask(&keeper.link()?, call).await.map(|_| ())
    }

    /// Leases that are not over by the store's time.
    async fn leases(&self, key: &str) -> Result<Vec<Held>, Error> {
        let keeper = &self.shared.keeper;
        let mut pipeline = redis::Pipeline::with_capacity(2);
        pipeline.cmd("TIME").cmd("HGETALL").arg(key);
        let mut answers = keeper.ask_all(&keeper.link()?, &pipeline).await?.into_iter();
        let unreadable = |error: redis::ParsingError| Error::Unusable(error.to_string());
        let (seconds, micros): (u64, u64) =
            redis::from_redis_value(answers.next().unwrap_or_default()).map_err(unreadable)?;
        let now_ms = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        let held: Vec<(String, Vec<u8>)> =
            redis::from_redis_value(answers.next().unwrap_or_default()).map_err(unreadable)?;
        let live = held.into_iter().filter_map(|(name, value)| {
            let mut fields = Fields(&value);
            let until_ms = fields.int::<7>()?;
            let incarnation = fields.int::<8>()?;
            (until_ms > now_ms).then(|| (name, incarnation, fields.0.to_vec()))
        });
        Ok(live.collect())
    }
}

/// Name, incarnation, description.
type Held = (String, u64, Vec<u8>);

fn read_server((name, incarnation, description): Held) -> Option<Server> {
    let mut fields = Fields(&description);
    let capacity = u32::try_from(fields.int::<4>()?).ok()?;
    let len = usize::try_from(fields.int::<1>()?).ok()?;
    let (address, labels) = fields.0.split_at_checked(len)?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some(Server { name, incarnation, device_address: text(address), capacity, labels: text(labels) })
}

fn ms(duration: Duration) -> String {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1).to_string()
}

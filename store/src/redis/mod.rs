//! The store in Redis ≥ 7.0 or Valkey, for more than one machine.
//!
//! Every operation on a device is one script on keys of one slot, called with binary arguments; batches are
//! pipelines. A call that is [`Error::Away`] may have been executed: each can be repeated.
//!
//! One server at one address is spoken to. Sentinel and Cluster come with an address source and a connection per
//! slot range in [`link`]; keys and scripts are made for them.

pub mod acl;
mod devices;
mod events;
mod layout;
mod link;
mod mailboxes;
mod nodes;
mod script;
mod server_info;
mod tables;
mod tokens;

use std::sync::Arc;

use redis::Value;
use tokio::sync::watch;

use self::link::Keeper;
use crate::tries::Tries;
use crate::{Config, Error};

/// A handle; clones share the connection, which closes with the last of them.
#[derive(Clone, Debug)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keeper: Arc<Keeper>,
    tries: Tries,
    groups: events::KnownGroups,
    watchdog: tokio::task::AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.watchdog.abort();
    }
}

impl RedisStore {
    pub(crate) async fn open(url: &str, config: Config) -> Result<Self, Error> {
        let keeper = Arc::new(Keeper::open(url, config).await?);
        let watchdog = tokio::spawn(keeper.clone().watch_over()).abort_handle();
        let shared = Shared { keeper, tries: Tries::default(), groups: events::KnownGroups::default(), watchdog };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(crate) async fn now_ms(&self) -> Result<u64, Error> {
        let keeper = &self.shared.keeper;
        let time = keeper.ask(&keeper.link()?, redis::cmd("TIME")).await?;
        let (seconds, micros): (u64, u64) =
            redis::from_redis_value(time).map_err(|error| Error::Unusable(error.to_string()))?;
        Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        let keeper = &self.shared.keeper;
        match keeper.ask(&keeper.link()?, redis::cmd("PING")).await? {
            Value::SimpleString(_) | Value::Okay => Ok(()),
            other => Err(layout::unexpected(&other)),
        }
    }

    pub(crate) fn outages(&self) -> watch::Receiver<u64> {
        self.shared.keeper.outages()
    }
}

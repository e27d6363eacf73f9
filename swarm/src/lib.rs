//! Simulated fleets made of the real device-client.
//!
//! ```text
//! Swarm ── Fleet (one thread, one runtime) ── device · device · …       each one task, about 8 KiB
//!   │                                            └ runner, messages, calls, events in that one task
//!   └ Live: counters for a progress line ──▶ Report at the end
//! ```
//!
//! Each device is what firmware links, over tokio's sockets: it keeps its cursor and its events over
//! reconnects, acknowledges what it handled and answers the call `echo`. What it handled goes, if wanted,
//! to a [`Ledger`], so that a test can judge loss, duplicates and order.
#![forbid(unsafe_code)]

mod config;
mod device;
mod fleet;
mod keys;
mod ledger;
mod limit;
mod live;
mod pace;
mod report;

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

pub use config::{Config, ConfigError, DEVICES_MAX, Speaks};
pub use device::{CMD, ECHO, INTERFACE, LED, PAYLOAD_MAX, TELEMETRY};
pub use keys::Keys;
pub use ledger::{Handled, Ledger, payload_hash};
pub use limit::LimitError;
pub use live::{Live, Snapshot};
pub use report::{Latency, Report};

/// A fleet of simulated devices.
#[derive(Clone, Debug)]
pub struct Swarm {
    config: Config,
    ledger: Ledger,
    live: Arc<Live>,
}

/// Why a fleet could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The process may not open enough files.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The ledger could not be opened or written.
    #[error("ledger {path}")]
    Ledger {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread or its runtime could not be started, or ended early.
    #[error("a thread of the swarm failed")]
    Thread(#[source] std::io::Error),
}

impl Swarm {
    /// A fleet as `config` says; opens the ledger's file if one is named.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        let ledger = match &config.ledger {
            None => Ledger::none(),
            Some(path) => {
                Ledger::file(path).map_err(|source| Error::Ledger { path: path.display().to_string(), source })?
            }
        };
        Ok(Self { config, ledger, live: Arc::new(Live::new()) })
    }

    /// What is handled goes to `ledger` instead.
    pub fn with_ledger(mut self, ledger: Ledger) -> Self {
        self.ledger = ledger;
        self
    }

    /// The counters, to be looked at while the fleet runs.
    pub fn live(&self) -> Arc<Live> {
        self.live.clone()
    }

    /// Runs the fleet until `shutdown`, then lets every device leave in good order (5 s at most).
    pub async fn run(self, shutdown: CancellationToken) -> Result<Report, Error> {
        limit::ensure_open_files(self.config.devices)?;
        let began = Instant::now();
        let threads = self.config.threads.min(self.config.devices.max(1));
        let mut fleets = Vec::new();
        for part in 0..threads {
            let fleet = fleet::Fleet {
                config: self.config.clone(),
                ledger: self.ledger.clone(),
                live: self.live.clone(),
                part,
                parts: threads,
            };
            fleets.push(fleet.spawn(shutdown.clone()).map_err(Error::Thread)?);
        }
        for fleet in fleets {
            let gone = || std::io::Error::other("it ended without a result");
            fleet.await.map_err(|_| Error::Thread(gone()))?.map_err(Error::Thread)?;
        }
        if let (Err(source), Some(path)) = (self.ledger.flush(), &self.config.ledger) {
            return Err(Error::Ledger { path: path.display().to_string(), source });
        }
        Ok(Report::new(&self.config, &self.live, began.elapsed()))
    }
}

//! One thread's share of the devices.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use imlink_device_client::tokio::TokioClock;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::device::{self, Context};
use crate::ledger::Ledger;
use crate::live::Live;

/// Devices `part`, `part + parts`, … of a fleet, on one thread: they need no locks among each other.
pub(crate) struct Fleet {
    pub(crate) config: Config,
    pub(crate) ledger: Ledger,
    pub(crate) live: Arc<Live>,
    pub(crate) part: u32,
    pub(crate) parts: u32,
}

/// How often a ledger's file is brought up to date.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

impl Fleet {
    /// Starts the thread; the receiver gets its result.
    pub(crate) fn spawn(self, shutdown: CancellationToken) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let (done, result) = oneshot::channel();
        std::thread::Builder::new().name(format!("swarm-{}", self.part)).spawn(move || {
            let ended = self.run(shutdown);
            // Nobody waits when the swarm itself was dropped.
            let _ = done.send(ended);
        })?;
        Ok(result)
    }

    fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        local.block_on(&runtime, self.devices(shutdown));
        Ok(())
    }

    /// Switches the devices on at their rate, and waits for all of them.
    async fn devices(self, shutdown: CancellationToken) {
        let Self { config, ledger, live, part, parts } = self;
        let context = Rc::new(Context { config, ledger, live, shutdown, clock: TokioClock::new() });
        let flusher = tokio::task::spawn_local(flush(context.clone()));
        let began = Instant::now();
        let mut devices = Vec::new();
        for index in (part..context.config.devices).step_by(parts as usize) {
            let due = began + Duration::from_secs_f64(f64::from(index) / context.config.connect_rate);
            if due > Instant::now() {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = context.shutdown.cancelled() => break,
                }
            }
            devices.push(tokio::task::spawn_local(device::run(context.clone(), index)));
        }
        for device in devices {
            // A device's task ends by itself; one that panicked has said so.
            let _ = device.await;
        }
        flusher.abort();
    }
}

async fn flush(context: Rc<Context>) {
    while context.ledger.is_kept() {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        // An error shows again in the flush at the end, which is reported.
        let _ = context.ledger.flush();
    }
}

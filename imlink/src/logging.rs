//! Logs: to standard error, for people or as JSON.
//!
//! ```text
//! any thread ─▶ LINES_MAX lines ─▶ one thread ─▶ standard error
//!                  └─ full: the line is dropped and counted
//! ```
//!
//! Nobody may read standard error (a full pipe, a stopped terminal). Then only the thread that writes it waits, and
//! neither a device nor the end of the process does.

use std::fmt;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Lines that wait to be written; about 200 bytes each.
const LINES_MAX: usize = 8192;
/// How long the end of the process waits for what is not written yet. The library takes at most 1.1 s of its own.
const FLUSH_MAX: Duration = Duration::from_millis(1500);

/// The running log. What waits is written when it is dropped, as far as somebody reads.
pub(crate) struct Log {
    dropped: ErrorCounter,
    writer: Option<WorkerGuard>,
}

/// Logs from now on what `filter` (a level, or `target=level,…`) lets through.
pub(crate) fn start(filter: &str, format: LogFormat) -> anyhow::Result<Log> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("log level `{filter}` is not one of error, warn, info, debug, trace, or a filter such as info,imlink_route=debug")
    })?;
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX).thread_name("imlink-log");
    let (out, writer) = builder.finish(std::io::stderr());
    let log = Log { dropped: out.error_counter(), writer: Some(writer) };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(out);
    let started = match format {
        LogFormat::Human => {
            lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_target(true).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))?;
    Ok(log)
}

/// Says `text` on standard error at the end of the process, which does not wait for a reader for long.
pub(crate) fn last_words(text: String) {
    bounded(move || eprintln!("{text}"));
}

/// Does `work`, or leaves it to itself after [`FLUSH_MAX`].
fn bounded(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let worker = thread::Builder::new().name("imlink-last".into()).spawn(move || {
        work();
        // Whoever waited may have given up.
        let _ = done.send(());
    });
    if worker.is_ok() {
        // Time is over, or it is done.
        let _ = is_done.recv_timeout(FLUSH_MAX);
    }
}

impl Log {
    /// Enters the lines that were dropped in `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Dropped(self.dropped.clone())));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // In a thread of its own: the library says on standard output when it gives up, and that may be full as
            // well.
            bounded(move || drop(writer));
        }
    }
}

struct Dropped(ErrorCounter);

impl fmt::Debug for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dropped").field(&self.0.dropped_lines()).finish()
    }
}

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Lines of the log that were dropped because nobody read them";
        let encoder = encoder.encode_descriptor("imlink_log_lines_dropped", help, None, MetricType::Counter)?;
        ConstCounter::new(self.0.dropped_lines() as u64).encode(encoder)
    }
}

//! Logs: to standard error, for people or as JSON.

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Logs from now on what `filter` (a level, or `target=level,…`) lets through.
pub(crate) fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("log level `{filter}` is not one of error, warn, info, debug, trace, or a filter such as info,imlink_route=debug")
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Human => {
            lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_target(true).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
}

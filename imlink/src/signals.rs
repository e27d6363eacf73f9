//! SIGTERM and SIGINT: the first asks to leave in good order, the second ends at once.

use std::process::exit;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// A token that the first signal cancels. Must be called within a runtime.
pub(crate) fn shutdown() -> anyhow::Result<CancellationToken> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let token = CancellationToken::new();
    let first = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "leaving; a second signal ends it at once");
        first.cancel();
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        exit(Exit::Interrupted as i32);
    });
    Ok(token)
}

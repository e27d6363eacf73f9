//! The bar of a transfer.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::bar::bar;

/// Longer than a gateway waits for a device or for a request's body.
const STALLED: Duration = Duration::from_secs(150);

/// Draws on standard error where that is a terminal, and says little elsewhere.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
    is_quiet: bool,
    is_drawn: bool,
}

impl Progress {
    /// Of `size` bytes; with `json` nothing is said.
    pub(super) fn new(size: u64, json: bool) -> Self {
        let template = "{elapsed:>4} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}  {msg}";
        let (bar, is_drawn) = bar(Some(size), template, json);
        Self { bar, is_quiet: json, is_drawn }
    }

    /// So many bytes are there.
    pub(super) fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Ends when nothing has moved for so long that the gateway would have said why.
    pub(super) async fn stalled(&self) {
        let mut seen = self.bar.position();
        loop {
            tokio::time::sleep(STALLED).await;
            let now = self.bar.position();
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    /// What is going on.
    pub(super) fn say(&self, text: &str) {
        if self.is_drawn {
            self.bar.set_message(text.to_owned());
        } else if !self.is_quiet && !text.is_empty() {
            eprintln!("{text}");
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

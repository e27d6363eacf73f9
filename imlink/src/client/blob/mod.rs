//! `imlink blob`: files to and from devices, over any number of cuts.

mod fetch;
mod key;
mod progress;
mod send;

use std::time::{Duration, Instant};

use super::{Api, ClientError};
use crate::cli::{BlobArgs, BlobCommand};
use crate::exit::Exit;

/// Does what `args` say.
pub(crate) async fn blob(args: &BlobArgs) -> Result<Exit, ClientError> {
    match &args.command {
        BlobCommand::Send(send) => send::send(&Api::new(&args.client)?, send, args.client.json).await,
        BlobCommand::Fetch(fetch) => fetch::fetch(&Api::new(&args.client)?, fetch, args.client.json).await,
        BlobCommand::Key(key) => key::key(key, args.client.json),
    }
}

/// Decides whether to try again, and waits before it.
struct Patience {
    wait: Duration,
    since: Instant,
    /// Bytes known to be kept at the other end.
    kept: u64,
    /// Whether the gateway answered yet: one that was never there is an error at once.
    is_known: bool,
    /// Times that it was tried again.
    tries: u32,
}

impl Patience {
    fn new(wait_s: u64) -> Self {
        let wait = Duration::from_secs(wait_s);
        Self { wait, since: Instant::now(), kept: 0, is_known: false, tries: 0 }
    }

    /// So many bytes are kept.
    fn see(&mut self, kept: u64) {
        self.is_known = true;
        if kept > self.kept {
            (self.kept, self.since) = (kept, Instant::now());
        }
    }

    /// After `error`: waits, or gives it back when it is of no use to try again.
    async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        let pause = match &error {
            ClientError::Unreachable { .. } if self.is_known => PAUSE,
            ClientError::Refused(problem) if AGAIN.contains(&problem.name()) => {
                self.is_known = true;
                problem.more.retry_after_ms.map_or(PAUSE, Duration::from_millis)
            }
            _ => return Err(error),
        };
        if self.since.elapsed() >= self.wait {
            return Err(error);
        }
        self.tries += 1;
        tokio::time::sleep(pause.min(self.wait)).await;
        Ok(())
    }
}

/// Problems that may be gone when it is tried again.
const AGAIN: &[&str] = &[
    "blob-offset",
    "busy",
    "deadline",
    "disconnected",
    "draining",
    "offline",
    "overloaded",
    "rate-limited",
    "store-away",
];
const PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use imlink_route::http::Problem;

    fn refused(name: &str) -> ClientError {
        ClientError::Refused(Box::new(Problem::named(name, 500, "x")))
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_gone_later_is_tried_again_and_nothing_else() {
        let mut patience = Patience::new(60);
        let away = || ClientError::Unreachable { url: String::new(), why: String::new() };
        assert!(patience.after(away()).await.is_err(), "it was never there");
        for name in AGAIN {
            assert!(patience.after(refused(name)).await.is_ok(), "{name}");
        }
        assert!(patience.after(away()).await.is_ok());
        for name in ["blob-hash", "blob-signature", "too-large", "forbidden", "not-found", "blob-unsupported"] {
            assert!(patience.after(refused(name)).await.is_err(), "{name}");
        }
        assert!(Patience::new(0).after(refused("offline")).await.is_err(), "no patience");
    }
}

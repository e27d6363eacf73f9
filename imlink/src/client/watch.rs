//! `imlink watch`.

use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use imlink_route::http::{EventView, Problem};
use reqwest::Method;

use super::sse::{Frame, Frames};
use super::{Api, ClientError, print_line, readable};
use crate::cli::WatchArgs;
use crate::exit::Exit;

/// Pause before a broken stream is resumed.
const RESUME_PAUSE: Duration = Duration::from_secs(1);
/// A stream is silent for at most 15 s; past this it is taken for broken.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Interval in which a group's position is committed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// What a commit may take.
const COMMIT_WAIT: Duration = Duration::from_secs(10);

/// Prints events until enough came or nobody reads them; a broken stream is resumed where it ended.
pub(crate) async fn watch(args: &WatchArgs) -> Result<Exit, ClientError> {
    let mut watch = Watch {
        api: Api::new(&args.client)?,
        args,
        position: args.position.clone(),
        seen: 0,
        committed: None,
        commit_at: tokio::time::Instant::now(),
        was_open: false,
    };
    loop {
        match watch.stream().await {
            Ok(()) => {
                watch.commit().await?;
                return Ok(Exit::Done);
            }
            Err(error @ ClientError::Unreachable { .. }) if watch.was_open => {
                eprintln!("{error}\n  resuming");
                tokio::time::sleep(RESUME_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

struct Watch<'a> {
    api: Api,
    args: &'a WatchArgs,
    position: Option<String>,
    seen: u64,
    committed: Option<String>,
    commit_at: tokio::time::Instant,
    was_open: bool,
}

impl Watch<'_> {
    /// Reads one stream. `Ok` when there is nothing more to do.
    async fn stream(&mut self) -> Result<(), ClientError> {
        let query = [("group", &self.args.group), ("devices", &self.args.devices), ("position", &self.position)];
        let query: Vec<_> = query.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))).collect();
        let request = self.api.request(Method::GET, "/v1/events", None).query(&query);
        let mut body = self.api.ask(request).await?.bytes_stream();
        self.was_open = true;
        let mut frames = Frames::default();
        loop {
            let silent = || self.broken("the stream fell silent");
            let next = tokio::time::timeout(SILENCE_MAX, body.next()).await.map_err(|_| silent())?;
            let bytes = match next {
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => return Err(self.api.unreachable(&error)),
                None => return Err(self.broken("the stream ended")),
            };
            let mut whole = Vec::new();
            frames.feed(&bytes, |frame| whole.push(frame)).map_err(anyhow::Error::from)?;
            for frame in whole {
                if !self.take(frame)? {
                    return Ok(());
                }
            }
            if self.commit_at.elapsed() >= COMMIT_INTERVAL {
                self.commit().await?;
            }
        }
    }

    /// Prints one event; false when it was the last one wanted.
    fn take(&mut self, frame: Frame) -> Result<bool, ClientError> {
        if !frame.id.is_empty() {
            self.position = Some(frame.id.clone());
        }
        match frame.event.as_str() {
            "event" => {}
            "end" => {
                let read = serde_json::from_str::<Problem>(&frame.data);
                let problem = read.context("the stream ended with something that is not imlink's")?;
                return Err(match problem.name() {
                    "draining" | "overloaded" | "store-away" => self.broken(&problem.detail),
                    _ => ClientError::Refused(Box::new(problem)),
                });
            }
            _ => return Ok(true),
        }
        let event: EventView = serde_json::from_str(&frame.data).context("an event is not imlink's")?;
        if !print_line(&self.line(&event, &frame.id)?)? {
            return Ok(false);
        }
        self.seen += 1;
        Ok(self.args.count.is_none_or(|count| self.seen < count))
    }

    fn line(&self, event: &EventView, position: &str) -> anyhow::Result<String> {
        if self.args.client.json {
            let mut json = serde_json::to_value(event)?;
            json["position"] = position.into();
            return Ok(json.to_string());
        }
        let payload = STANDARD.decode(&event.payload_base64);
        let payload = payload.map_err(|error| anyhow::anyhow!("an event's payload is not base64: {error}"))?;
        let about = if event.path.is_empty() { &event.key } else { &event.path };
        Ok(format!("{} {about} #{} {}", event.device, event.sequence, readable(&payload)))
    }

    async fn commit(&mut self) -> Result<(), ClientError> {
        let (true, Some(group), Some(position)) = (self.args.commit, &self.args.group, &self.position) else {
            return Ok(());
        };
        self.commit_at = tokio::time::Instant::now();
        if self.committed.as_ref() == Some(position) {
            return Ok(());
        }
        let request = self.api.request(Method::POST, "/v1/events/commit", Some(COMMIT_WAIT));
        self.api.ask(request.query(&[("group", group), ("position", position)])).await?;
        self.committed = Some(position.clone());
        Ok(())
    }

    fn broken(&self, why: &str) -> ClientError {
        ClientError::Unreachable { url: self.api.url().into(), why: why.into() }
    }
}

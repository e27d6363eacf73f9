//! The steps of the demo. Each asks over HTTP what any backend would ask.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::{StreamExt, stream};
use hdrhistogram::Histogram;
use imlink_route::http::{DeviceView, EventView, MessageView};
use imlink_swarm::{Config, Live, Report, Swarm};
use reqwest::{Method, header};
use tokio_util::sync::CancellationToken;

use super::outcome::{self, Attached, CALL_TEXT, Call, Commands, Reconnect};
use super::{Cut, STEP_MAX, Stage};
use crate::client::{Api, ClientError, Frames};
use crate::swarm::provision;

/// Commands in flight.
const IN_FLIGHT: usize = 64;
/// Pause between two looks at something.
const LOOK: Duration = Duration::from_millis(20);
/// Name of the device whose connection is cut.
const CUT_PREFIX: &str = "garage";

/// Waits until all devices are attached.
pub(super) async fn attach(stage: &Stage, live: &Live) -> Attached {
    let began = Instant::now();
    let devices = u64::try_from(stage.ids.len()).unwrap_or(u64::MAX);
    while !live.is_attached(devices) && began.elapsed() < STEP_MAX {
        tokio::time::sleep(LOOK).await;
    }
    let attached = Attached { devices: live.snapshot().attached, seconds: began.elapsed().as_secs_f64() };
    stage.say(&format!("{} devices attached", attached.devices));
    attached
}

/// A command to every device, each awaited until the device carried it out.
pub(super) async fn command_all(stage: &Stage) -> Commands {
    let began = Instant::now();
    let mut commands = Commands::default();
    // 1 µs to 1 min with three digits.
    let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).ok();
    let one = |id: &String| {
        let (api, id) = (stage.api.clone(), id.clone());
        async move {
            let began = Instant::now();
            let answer = send(&api, &id, "acked").await;
            (id, answer, began.elapsed())
        }
    };
    let mut answers = stream::iter(stage.ids.iter().map(one)).buffer_unordered(IN_FLIGHT);
    while let Some((id, answer, took)) = answers.next().await {
        commands.sent += 1;
        match answer {
            Ok(message) if message.state == "acked" => {
                commands.acked += 1;
                if let Some(latency) = &mut latency {
                    latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                }
            }
            Ok(message) => {
                commands.problem = commands.problem.or(Some(format!("{} of {id} is {}", message.id, message.state)))
            }
            Err(error) => commands.problem = commands.problem.or(Some(error.to_string())),
        }
    }
    commands.seconds = began.elapsed().as_secs_f64();
    if let Some(latency) = latency {
        let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
        (commands.p50_ms, commands.p99_ms) = (ms(0.5), ms(0.99));
    }
    stage.say(&format!("{} of {} commands acknowledged", commands.acked, commands.sent));
    commands
}

/// A question to the first device.
pub(super) async fn call(stage: &Stage) -> Option<Call> {
    let device = stage.ids.first()?.clone();
    let began = Instant::now();
    let request = octets(&stage.api, &format!("/v1/devices/{device}/calls/echo")).body(CALL_TEXT);
    let answer = stage.api.ask(request).await.ok()?.bytes().await.ok()?;
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    stage.say(&format!("{device} answered a call"));
    Some(Call { device, answer, ms })
}

/// Cuts a device's connection, sends it a command, mends the path, and waits until the command is done.
pub(super) async fn reconnect(stage: &Stage, path: Cut) -> anyhow::Result<Option<Reconnect>> {
    let keys = stage.keys.clone();
    let config = Config { routes: vec![path.address], prefix: CUT_PREFIX.into(), keys, ..Config::default() };
    let device = config.device_id(0);
    provision(&stage.api, std::slice::from_ref(&device), stage.keys.as_ref()).await?;
    let stop = CancellationToken::new();
    let running = tokio::spawn(Swarm::new(config)?.run(stop.clone()));
    let back = cut_and_mend(stage, &path, &device).await;
    stop.cancel();
    running.await.context("the device broke")??;
    Ok(back)
}

async fn cut_and_mend(stage: &Stage, path: &Cut, device: &str) -> Option<Reconnect> {
    let before = until(async || show(&stage.api, device).await.filter(|view| view.online)).await?;
    path.cut();
    until(async || show(&stage.api, device).await.filter(|view| !view.online)).await?;
    let sent = send(&stage.api, device, "stored").await.ok()?;
    stage.say(&format!("{device} lost its connection; a command for it is {}", sent.state));
    let while_away = state(&stage.api, device, &sent.id).await?;
    let mended = Instant::now();
    path.mend();
    until(async || state(&stage.api, device, &sent.id).await.filter(|state| state == "acked")).await;
    let seconds = mended.elapsed().as_secs_f64();
    let afterwards = state(&stage.api, device, &sent.id).await?;
    let after = show(&stage.api, device).await?;
    stage.say(&format!("{device} is back; the command is {afterwards}"));
    let epoch = |view: &DeviceView| view.session.as_ref().map_or(0, |session| session.epoch);
    Some(Reconnect { while_away, afterwards, epochs: (epoch(&before), epoch(&after)), seconds })
}

/// What `look` finds, looking again until [`STEP_MAX`] is over.
async fn until<T>(look: impl AsyncFn() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < STEP_MAX {
        if let Some(found) = look().await {
            return Some(found);
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

fn octets(api: &Api, path: &str) -> reqwest::RequestBuilder {
    api.request(Method::POST, path, Some(STEP_MAX)).header(header::CONTENT_TYPE, "application/octet-stream")
}

async fn send(api: &Api, device: &str, wait: &str) -> Result<MessageView, ClientError> {
    let path = format!("/v1/devices/{device}/messages/led/set?wait={wait}");
    api.ask_json(octets(api, &path).body(vec![1])).await
}

async fn show(api: &Api, device: &str) -> Option<DeviceView> {
    api.ask_json(api.request(Method::GET, &format!("/v1/devices/{device}"), Some(STEP_MAX))).await.ok()
}

async fn state(api: &Api, device: &str, message: &str) -> Option<String> {
    let request = api.request(Method::GET, &format!("/v1/devices/{device}/messages/{message}"), Some(STEP_MAX));
    api.ask_json::<MessageView>(request).await.ok().map(|message| message.state)
}

/// A stream of all events, counted as it comes.
pub(super) struct Events {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    names: HashSet<(String, String, u64)>,
    repeated: u64,
}

impl Events {
    /// Counts events from now on, of the devices that answer for the fleet.
    pub(super) async fn watch(api: &Api) -> anyhow::Result<Self> {
        let request = api.request(Method::GET, "/v1/events?devices=lamp-*", None);
        let mut body = api.ask(request).await?.bytes_stream();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let counted = seen.clone();
        tokio::spawn(async move {
            let mut frames = Frames::default();
            while let Some(Ok(bytes)) = body.next().await {
                let mut seen = counted.lock().unwrap_or_else(PoisonError::into_inner);
                let fed = frames.feed(&bytes, |frame| {
                    let Ok(event) = serde_json::from_str::<EventView>(&frame.data) else { return };
                    if !seen.names.insert((event.device, event.queue, event.sequence)) {
                        seen.repeated += 1;
                    }
                });
                if fed.is_err() {
                    return;
                }
            }
        });
        Ok(Self { seen })
    }

    /// Waits until as many came as devices know to be stored. The last ones may be stored without their
    /// devices knowing: those left before the answer.
    pub(super) async fn compare(self, report: &Report) -> outcome::Events {
        let (published, stored) = (report.events_published, report.events_stored);
        let look = || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            (u64::try_from(seen.names.len()).unwrap_or(u64::MAX), seen.repeated)
        };
        until(async || (look().0 >= stored).then_some(())).await;
        let (received, repeated) = look();
        outcome::Events { published, stored, received, repeated }
    }
}

//! `/v1/events`: what devices published, as server-sent events.
//!
//! ```text
//! event: open                        once, at the beginning
//! id: POSITION                       where the stream begins
//! data: {}
//!
//! event: event
//! id: POSITION                       resume behind this event: Last-Event-ID
//! data: {"device":…,"path":…,"key":…,"queue":…,"sequence":…,"stored_ms":…,"payload_base64":…}
//!
//! :                                  every 15 s without an event
//!
//! event: end                         the stream is over, and why
//! data: {"type":…,"title":…,"status":…,"detail":…}
//! ```
//!
//! A stream that resumes misses nothing and may bring again what was sent and not received.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use imlink_protocol::id::check_device_id;
use tokio::time::Interval;

use super::Api;
use super::openapi::Refusals;
use super::problem::Problem;
use super::query::Query;
use super::views::EventView;
use crate::Events;
use crate::access::{Caller, Verb};
use crate::request::{Failed, Failure, Subscription};

/// Interval of keep-alive comments.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What clients are told to wait before they come back.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is looked whether a stream's token still counts.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// Events as they are stored, as a stream of server-sent events.
///
/// Resumes behind `Last-Event-ID` (or `position`); else at the position the group committed; else from now
/// on. A stream ends with an event `end` that says why, and never drops an event in between.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", security(("token" = ["events"])),
    params(
        ("group" = Option<String>, Query, description = "consumer group whose committed position is kept in the store"),
        ("devices" = Option<String>, Query, description = "only devices of this form; * stands for any run of characters"),
        ("position" = Option<String>, Query, description = "as Last-Event-ID, for clients that cannot set it"),
        ("Last-Event-ID" = Option<String>, Header, description = "resume behind the event with this id"),
    ),
    responses(
        (status = 200, description = "the stream", body = EventView, content_type = "text/event-stream"),
        Refusals,
    ),
)]
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::new(query.as_deref(), &["group", "devices", "position"])?;
    let position =
        match headers.get("last-event-id") {
            None => query.text("position"),
            Some(id) => Some(id.to_str().map_err(|_| {
                Problem::new(Failure::BadRequest, "`Last-Event-ID` is not a position as given in `id:`")
            })?),
        };
    let subscription = Subscription {
        tenant: caller.tenant.to_string(),
        group: query.text("group").map(group_name).transpose()?,
        position: position.filter(|position| !position.is_empty()).map(Into::into),
        devices: query.text("devices").map(Into::into),
        within: caller.patterns(Verb::Events),
    };
    let events = api.route.events(subscription).await?;
    let headers = [(header::CACHE_CONTROL, "no-store"), (header::HeaderName::from_static("x-accel-buffering"), "no")];
    let sse = Sse::new(frames(api, caller, events)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok((headers, sse).into_response())
}

/// Commit a group's position.
///
/// Everything up to it is processed: a later stream of the group without `Last-Event-ID` begins behind it,
/// and the store may forget what every group has committed.
#[utoipa::path(
    post, path = "/v1/events/commit", tag = "events", security(("token" = ["events"])),
    params(
        ("group" = String, Query, description = "consumer group"),
        ("position" = String, Query, description = "the `id:` of the last event that was processed"),
    ),
    responses((status = 204, description = "committed"), Refusals),
)]
pub(super) async fn commit(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Arc<Caller>>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Problem> {
    let query = Query::new(query.as_deref(), &["group", "position"])?;
    let needed = |name| {
        let missing = || Problem::new(Failure::BadRequest, format!("parameter `{name}` is missing"));
        query.text(name).ok_or_else(missing)
    };
    let group = group_name(needed("group")?)?;
    api.route.commit(&caller.tenant, &group, needed("position")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn group_name(group: &str) -> Result<String, Problem> {
    match check_device_id(group) {
        Ok(()) => Ok(group.into()),
        Err(error) => Err(Problem::new(Failure::BadRequest, format!("group `{group}` {error}"))),
    }
}

enum Stage {
    Open,
    Running,
    Over,
}

fn frames(api: Arc<Api>, caller: Arc<Caller>, events: Events) -> impl Stream<Item = Result<Frame, Infallible>> {
    let look = tokio::time::interval(LOOK);
    stream::unfold((api, caller, look, events, Stage::Open), |(api, caller, mut look, mut events, stage)| async move {
        let (frame, stage) = match stage {
            Stage::Open => {
                let open = Frame::default().event("open").id(events.position()).retry(RETRY).data("{}");
                (open, Stage::Running)
            }
            Stage::Running => tokio::select! {
                failed = outlived(&api, &caller, &mut look) => (end(failed.into()), Stage::Over),
                next = events.next() => match next {
                    Ok(event) => {
                        let data = serde_json::to_string(&EventView::from(&event)).unwrap_or_default();
                        (Frame::default().event("event").id(event.position).data(data), Stage::Running)
                    }
                    Err(failed) => (end(failed.into()), Stage::Over),
                },
                () = api.shutdown.cancelled() => {
                    let problem = Problem::new(Failure::Draining, "the route is leaving; resume at another one, or here later");
                    (end(problem.after(RETRY)), Stage::Over)
                }
            },
            Stage::Over => return None,
        };
        Some((Ok(frame), (api, caller, look, events, stage)))
    })
}

/// Ends when the token of a stream counts no more.
pub(super) async fn outlived(api: &Api, caller: &Caller, look: &mut Interval) -> Failed {
    loop {
        if let Err(failed) = api.route.is_current(caller) {
            return failed;
        }
        look.tick().await;
    }
}

fn end(problem: Problem) -> Frame {
    Frame::default().event("end").data(serde_json::to_string(&problem).unwrap_or_default())
}

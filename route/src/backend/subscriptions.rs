//! The subscriptions of one backend link, each a task that sends as many events as it has credit for.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use imlink_protocol::link::backend::{Event, Failure, ToBackend};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::BackendLink;
use crate::access::Verb;
use crate::core::poll_now;
use crate::events::{self, Events, Positions};
use crate::outgoing::Outgoing;
use crate::request::{self, Failed, Subscription};

/// All subscriptions of one link. Dropping it ends them.
pub(super) struct Subscriptions {
    backend: Arc<BackendLink>,
    running: HashMap<u64, Running>,
}

struct Running {
    credit: Arc<Semaphore>,
    commits: mpsc::Sender<String>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscriptions {
    pub(super) fn new(backend: Arc<BackendLink>) -> Self {
        Self { backend, running: HashMap::new() }
    }

    pub(super) fn begin(&mut self, number: u64, group: &str, position: &str, credit: u32) {
        self.running.retain(|_, running| !running.task.is_finished());
        let limits = &self.backend.core.config.limits;
        if self.running.contains_key(&number) {
            let why = "a subscription of this number is open on this link: number them anew";
            return self.refuse(number, &Failed::new(Failure::Conflict, why));
        }
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let caller = &self.backend.caller;
        let subscription = Subscription {
            tenant: caller.tenant.to_string(),
            group: some(group),
            position: some(position),
            devices: None,
            within: caller.patterns(Verb::Events),
        };
        let credit = Arc::new(Semaphore::new(credit.min(limits.credit_max) as usize));
        let (commits, to_commit) = mpsc::channel(COMMITS_MAX);
        let committing = subscription.group.clone();
        let task = tokio::spawn(serve(
            self.backend.clone(),
            number,
            subscription,
            credit.clone(),
            committing.map(|group| (group, to_commit)),
        ));
        self.running.insert(number, Running { credit, commits, task: task.abort_handle() });
    }

    pub(super) fn credit(&mut self, number: u64, events: u32) {
        if let Some(running) = self.running.get(&number) {
            let max = self.backend.core.config.limits.credit_max as usize;
            let room = max.saturating_sub(running.credit.available_permits());
            running.credit.add_permits(room.min(events as usize));
        }
    }

    pub(super) fn commit(&mut self, number: u64, position: &str) {
        let Some(running) = self.running.get(&number) else { return };
        if running.commits.try_send(position.to_owned()).is_err() {
            let why = "commits come faster than the store takes them, or the subscription has no group";
            self.refuse(number, &Failed::later(Failure::Overloaded, Duration::from_secs(1), why));
        }
    }

    pub(super) fn end(&mut self, number: u64) {
        self.running.remove(&number);
    }

    fn refuse(&self, number: u64, failed: &Failed) {
        self.backend.put_failed(number, failed, &mut Outgoing::default());
    }
}

type Commits = Option<(String, mpsc::Receiver<String>)>;

async fn serve(
    backend: Arc<BackendLink>,
    number: u64,
    subscription: Subscription,
    credit: Arc<Semaphore>,
    mut commits: Commits,
) {
    let mut out = Outgoing::default();
    let failed = match Events::subscribe(&backend.core, subscription).await {
        Err(failed) => failed,
        Ok(mut events) => {
            let mut committed = Positions::START;
            loop {
                tokio::select! {
                    biased;
                    Some(position) = next_commit(&mut commits) => {
                        let group = commits.as_ref().map_or("", |(group, _)| group);
                        match commit(&backend, group, &position, &committed).await {
                            Ok(now) => committed = now,
                            Err(failed) => backend.put_failed(number, &failed, &mut out),
                        }
                        out.flush();
                    }
                    event = next(&mut events, &credit, &backend) => match event {
                        Ok(event) => {
                            put(&backend, number, &event, &mut out);
                            put_ready(&backend, number, &mut events, &credit, &mut out);
                            out.flush();
                        }
                        Err(failed) => break failed,
                    },
                }
            }
        }
    };
    backend.put_failed(number, &failed, &mut out);
}

/// The next event that there is credit for and that the backend has room for.
async fn next(events: &mut Events, credit: &Semaphore, backend: &BackendLink) -> Result<request::Event, Failed> {
    while backend.sender.waiting() > WAITING_MAX && !backend.sender.is_closed() {
        tokio::time::sleep(FULL_PAUSE).await;
    }
    // A semaphore that is never closed always gives.
    let permit = credit.acquire().await;
    let event = events.next().await?;
    if let Ok(permit) = permit {
        permit.forget();
    }
    Ok(event)
}

/// Those that are there already, as far as the credit goes.
fn put_ready(backend: &BackendLink, number: u64, events: &mut Events, credit: &Semaphore, out: &mut Outgoing) {
    while let Ok(permit) = credit.try_acquire() {
        // An error comes again at the next call.
        let Some(Ok(event)) = poll_now(pin!(events.next())) else { return };
        permit.forget();
        put(backend, number, &event, out);
    }
}

async fn next_commit(commits: &mut Commits) -> Option<String> {
    match commits {
        Some((_, commits)) => commits.recv().await,
        None => None,
    }
}

async fn commit(backend: &BackendLink, group: &str, position: &str, before: &Positions) -> Result<Positions, Failed> {
    let tenant = &backend.caller.tenant;
    let position = events::decode(position, tenant)?;
    events::commit(&backend.core, tenant, group, &position, before).await?;
    Ok(position)
}

fn put(backend: &BackendLink, number: u64, event: &request::Event, out: &mut Outgoing) {
    let message = ToBackend::Event(Event {
        request: number,
        position: &event.position,
        device: &event.device,
        key: event.key,
        path: &event.path,
        queue: event.queue,
        sequence: event.sequence,
        stored_ms: event.stored_ms,
        payload: &event.payload,
    });
    if out.put(&backend.sender, &message).is_err() {
        let why = format!(
            "event {} of queue {} of device {} does not fit a frame with its position: read it over HTTP",
            event.sequence, event.queue, event.device
        );
        backend.put_failed(number, &Failed::new(Failure::TooLarge, why), out);
    }
}

/// Commits that wait for the store.
const COMMITS_MAX: usize = 64;
/// Bytes that may wait for a backend before its subscriptions pause.
const WAITING_MAX: usize = 4 * 1024 * 1024;
const FULL_PAUSE: Duration = Duration::from_millis(5);

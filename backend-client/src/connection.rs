//! One link and what waits for answers on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use imlink_link::{Batch, Receiver, SendError, Sender};
use imlink_protocol::frame;
use imlink_protocol::link::backend::{FromBackend, ToBackend};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::dial::Dialled;
use crate::events::Event;
use crate::{Error, Replied, Sent};

/// A welcomed link in use.
pub(crate) struct Connection {
    sender: Sender,
    waiting: Mutex<HashMap<u64, Waiting>>,
    numbers: AtomicU64,
    /// As many requests as the route takes.
    pub(crate) room: Semaphore,
    /// The route is leaving, or the link ended: nothing new goes here.
    pub(crate) leaving: CancellationToken,
}

/// Whoever waits for the answer to a request.
pub(crate) enum Waiting {
    Message(oneshot::Sender<Result<Sent, Error>>),
    Call(oneshot::Sender<Result<Replied, Error>>),
    Events(mpsc::UnboundedSender<Result<Event, Error>>),
}

impl Connection {
    pub(crate) fn start(dialled: Dialled) -> Arc<Self> {
        let connection = Arc::new(Self {
            sender: dialled.link.sender,
            waiting: Mutex::default(),
            numbers: AtomicU64::new(1),
            room: Semaphore::new(dialled.requests_max.min(Semaphore::MAX_PERMITS)),
            leaving: CancellationToken::new(),
        });
        tokio::spawn(read(connection.clone(), dialled.link.receiver));
        connection
    }

    /// A number for a request, entered as waiting.
    pub(crate) fn begin(&self, waiting: Waiting) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(number, waiting);
        number
    }

    /// Nobody waits for `number` any longer. Whether it still was waiting.
    pub(crate) fn forget(&self, number: u64) -> bool {
        self.waiting.lock().remove(&number).is_some()
    }

    /// Sends one frame.
    pub(crate) fn send<T: Serialize>(&self, message: &T) -> Result<(), Error> {
        self.sender.send(message).map_err(|error| match error {
            SendError::TooLong => Error::TooLong,
            SendError::Closed | SendError::Full { .. } => Error::NotConnected,
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn close(&self) {
        self.sender.close();
        self.leaving.cancel();
    }

    fn take(&self, batch: &Batch) -> Result<(), ()> {
        let mut waiting = self.waiting.lock();
        for body in batch.frames() {
            let message = frame::decode::<ToBackend<'_>>(body.map_err(drop)?).map_err(drop)?;
            // Whoever dropped its end of a channel does not want the answer.
            match message {
                ToBackend::Message { request, id, state } => {
                    if let Some(Waiting::Message(answer)) = waiting.remove(&request) {
                        let _ = answer.send(Ok(Sent { id, state }));
                    }
                }
                ToBackend::Replied { request, status, payload } => {
                    if let Some(Waiting::Call(answer)) = waiting.remove(&request) {
                        let payload = batch.share(payload);
                        let _ = answer.send(Ok(Replied { status, payload }));
                    }
                }
                ToBackend::Failed { request, failure, retry_after_ms, detail } => {
                    let error = Error::of(failure, retry_after_ms, detail);
                    match waiting.remove(&request) {
                        Some(one) => one.fail(error),
                        None => tracing::debug!(%error, "the route reports"),
                    }
                }
                ToBackend::Event(event) => {
                    if let Some(Waiting::Events(events)) = waiting.get(&event.request) {
                        let _ = events.send(Ok(Event::read(&event, batch)));
                    }
                }
                ToBackend::GoAway => self.leaving.cancel(),
                ToBackend::Pong | ToBackend::Welcome { .. } => {}
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let waiting = self.waiting.lock();
        self.leaving.is_cancelled() && waiting.values().all(|one| matches!(one, Waiting::Events(_)))
    }
}

impl Waiting {
    fn fail(self, error: Error) {
        match self {
            Self::Message(answer) => drop(answer.send(Err(error))),
            Self::Call(answer) => drop(answer.send(Err(error))),
            Self::Events(events) => drop(events.send(Err(error))),
        }
    }
}

async fn read(connection: Arc<Connection>, mut receiver: Receiver) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            batch = receiver.receive() => {
                heard = Instant::now();
                let Ok(Some(batch)) = batch else { break };
                if connection.take(&batch).is_err() {
                    break;
                }
            }
            _ = tick.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    break;
                }
                // A link that takes no ping ends by its silence.
                let _ = connection.sender.send(&FromBackend::Ping);
            }
        }
        if connection.is_done() {
            break;
        }
    }
    connection.close();
    // Subscriptions see their channel end and go on elsewhere; requests may have been done.
    let waiting = std::mem::take(&mut *connection.waiting.lock());
    for one in waiting.into_values() {
        if !matches!(one, Waiting::Events(_)) {
            one.fail(Error::Lost);
        }
    }
}

/// How often a sign of life is asked for, and the longest silence.
const TICK: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = Duration::from_secs(16);

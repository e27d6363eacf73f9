//! The client: requests of many tasks over one link at a time.

use std::sync::Arc;
use std::time::Duration;

use imlink_protocol::MessageId;
use imlink_protocol::link::backend::{Failure, FromBackend, State};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::connection::{Connection, Waiting};
use crate::dial::{ConnectError, Target};
use crate::events::Events;
use crate::message::millis;
use crate::{Access, Call, Error, Message, Replied, Sent};

/// A client of a route; cheap to clone. Its link is closed when the last clone and the last [`Events`] are
/// dropped.
#[derive(Clone)]
pub struct Client {
    current: watch::Receiver<Option<Arc<Connection>>>,
    _open: Arc<DropGuard>,
}

impl Client {
    /// Connects to the first of `addresses` (`host:port`, or `imlinks://host:port`
    /// for TLS; several separated by commas) that welcomes it.
    /// `access` is a token, or more than that; `name` names this backend in logs, in the form of a device id.
    pub async fn connect(addresses: &str, access: impl Into<Access>, name: &str) -> Result<Self, ConnectError> {
        let target = Target::new(addresses, access.into(), name)?;
        let first = Connection::start(target.dial(0).await?);
        let (publish, current) = watch::channel(Some(first.clone()));
        let end = CancellationToken::new();
        tokio::spawn(keep_linked(target, first, publish, end.clone()));
        Ok(Self { current, _open: Arc::new(end.drop_guard()) })
    }

    /// Stores a message for a device and waits as asked. With an idempotency key it is repeated when its
    /// link is lost, until its time is over. Dropping the future takes nothing back.
    pub async fn send(&self, message: &Message<'_>) -> Result<Sent, Error> {
        let deadline = Instant::now() + message.timeout;
        loop {
            let connection = self.connection(deadline).await?;
            let sent = self
                .ask(&connection, deadline, Waiting::Message, |number, left| {
                    connection.send(&FromBackend::Send(message.numbered(number, left)))
                })
                .await;
            let is_unsure = match &sent {
                Err(Error::Lost) => true,
                Err(Error::Failed { failure, .. }) => *failure == Failure::MayBeStored,
                _ => false,
            };
            if !is_unsure || message.idempotency_key.is_empty() || Instant::now() >= deadline {
                return sent;
            }
            tokio::time::sleep(REPEAT_PAUSE).await;
        }
    }

    /// Asks a device. Dropping the future cancels the call if it did not start yet.
    pub async fn call(&self, call: &Call<'_>) -> Result<Replied, Error> {
        let deadline = Instant::now() + call.timeout;
        let connection = self.connection(deadline).await?;
        self.ask(&connection, deadline, Waiting::Call, |request, left| {
            connection.send(&FromBackend::Call {
                request,
                device: call.device,
                path: call.path,
                timeout_ms: millis(left),
                payload: call.payload,
            })
        })
        .await
    }

    /// What became of a message.
    pub async fn state(&self, device: &str, id: MessageId) -> Result<State, Error> {
        let deadline = Instant::now() + LOOK_UP_MAX;
        let connection = self.connection(deadline).await?;
        let answer = self.ask(&connection, deadline, Waiting::Message, |request, _| {
            connection.send(&FromBackend::State { request, device, id })
        });
        Ok(answer.await?.state)
    }

    /// Takes a message back that did not reach its device; [`Failure::Conflict`] if it is too late.
    pub async fn cancel(&self, device: &str, id: MessageId) -> Result<State, Error> {
        let deadline = Instant::now() + LOOK_UP_MAX;
        let connection = self.connection(deadline).await?;
        let answer = self.ask(&connection, deadline, Waiting::Message, |request, _| {
            connection.send(&FromBackend::Cancel { request, device, id })
        });
        Ok(answer.await?.state)
    }

    /// Events from `position` on, as given with an event. Empty: from the position of `group`, or from now
    /// on without one. It goes on over new links by itself.
    pub async fn events(&self, group: &str, position: &str) -> Result<Events, Error> {
        Events::subscribe(self.clone(), group, position).await
    }

    /// The link for a new request; waits for one until `deadline`.
    pub(crate) async fn connection(&self, deadline: Instant) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.linked() {
            return Ok(connection);
        }
        let mut current = self.current.clone();
        let linked = current.wait_for(|one| one.as_ref().is_some_and(|one| !one.leaving.is_cancelled()));
        match timeout_at(deadline, linked).await {
            Ok(Ok(one)) => one.clone().ok_or(Error::NotConnected),
            _ => Err(Error::NotConnected),
        }
    }

    fn linked(&self) -> Option<Arc<Connection>> {
        let current = self.current.borrow();
        current.as_ref().filter(|one| !one.leaving.is_cancelled()).cloned()
    }

    async fn ask<T>(
        &self,
        connection: &Arc<Connection>,
        deadline: Instant,
        waiting: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Waiting,
        send: impl FnOnce(u64, Duration) -> Result<(), Error>,
    ) -> Result<T, Error> {
        let room = timeout_at(deadline, connection.room.acquire()).await;
        let _room = room.map_err(|_| Error::NotConnected)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let (answer, answered) = oneshot::channel();
        let number = connection.begin(waiting(answer));
        // Answered requests are no longer entered, so that this does nothing then.
        let _abandon = Abandon { connection, number };
        send(number, left).inspect_err(|_| {
            connection.forget(number);
        })?;
        // The link may have ended before the request was entered, and then nobody ends its wait.
        if connection.is_closed() && connection.forget(number) {
            return Err(Error::Lost);
        }
        match timeout_at(deadline + ANSWER_MARGIN, answered).await {
            Ok(Ok(answer)) => answer,
            _ => Err(Error::Lost),
        }
    }
}

/// Tells the route, when dropped, that nobody waits any longer.
struct Abandon<'a> {
    connection: &'a Connection,
    number: u64,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if self.connection.forget(self.number) {
            let request = self.number;
            // A link that takes nothing has nobody to tell.
            let _ = self.connection.send(&FromBackend::Abandon { request });
        }
    }
}

/// Replaces the link whenever it ends or its route leaves.
async fn keep_linked(
    target: Target,
    mut connection: Arc<Connection>,
    publish: watch::Sender<Option<Arc<Connection>>>,
    end: CancellationToken,
) {
    let mut turn = 0;
    loop {
        tokio::select! {
            () = connection.leaving.cancelled() => {}
            () = end.cancelled() => return connection.close(),
        }
        publish.send_replace(None);
        let mut pause = PAUSE_FIRST;
        connection = loop {
            turn += 1;
            match target.dial(turn).await {
                Ok(dialled) => break Connection::start(dialled),
                Err(error) => tracing::warn!(%error, "no link to a route"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_LONGEST),
                () = end.cancelled() => return,
            }
        };
        publish.send_replace(Some(connection.clone()));
    }
}

/// Pauses between tries to connect.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);
/// Pause before a send is repeated under its idempotency key.
const REPEAT_PAUSE: Duration = Duration::from_millis(50);
/// The route answers by the deadline; so much longer its answer may be on its way.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);
const LOOK_UP_MAX: Duration = Duration::from_secs(10);

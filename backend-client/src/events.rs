//! A subscription to events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use imlink_link::Batch;
use imlink_protocol::Key;
use imlink_protocol::link::backend::{self, FromBackend};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connection::{Connection, Waiting};
use crate::{Client, Error};

/// An event of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Resume position behind this event.
    pub position: String,
    /// Device id.
    pub device: String,
    /// Path and schema.
    pub key: Key,
    /// Path, empty while the device's interface is unknown.
    pub path: String,
    /// Incarnation of the device's event queue; (device, queue, sequence) names an event for ever.
    pub queue: u64,
    /// Position in that queue.
    pub sequence: u64,
    /// Store's time of storing, ms since 1970.
    pub stored_ms: u64,
    /// What happened.
    pub payload: Bytes,
}

impl Event {
    pub(crate) fn read(event: &backend::Event<'_>, batch: &Batch) -> Self {
        Self {
            position: event.position.to_owned(),
            device: event.device.to_owned(),
            key: event.key,
            path: event.path.to_owned(),
            queue: event.queue,
            sequence: event.sequence,
            stored_ms: event.stored_ms,
            payload: batch.share(event.payload),
        }
    }
}

/// Events in order of each device. Over a new link it goes on behind the last event handed out; before the
/// first one, from the group's position, or from then on without a group.
pub struct Events {
    client: Client,
    group: String,
    position: String,
    open: Open,
    /// Handed out since the route was given credit.
    used: u32,
}

struct Open {
    connection: Arc<Connection>,
    number: u64,
    events: mpsc::UnboundedReceiver<Result<Event, Error>>,
}

impl Events {
    pub(crate) async fn subscribe(client: Client, group: &str, position: &str) -> Result<Self, Error> {
        let open = open(&client, group, position).await?;
        Ok(Self { client, group: group.into(), position: position.into(), open, used: 0 })
    }

    /// The next event; waits for it. May be dropped and called again without losing anything.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            match self.open.events.recv().await {
                Some(Ok(event)) => {
                    self.position.clone_from(&event.position);
                    self.give_credit();
                    return Ok(event);
                }
                Some(Err(error)) => return Err(error),
                None => {
                    self.open = open(&self.client, &self.group, &self.position).await?;
                    self.used = 0;
                }
            }
        }
    }

    /// Resume position behind the last event handed out; empty before the first.
    pub fn position(&self) -> &str {
        &self.position
    }

    /// Tells the store that the group processed everything handed out so far. Not awaited: a commit that
    /// is lost with its link makes events come again, never go missing.
    pub fn commit(&self) -> Result<(), Error> {
        if self.position.is_empty() {
            return Ok(());
        }
        self.open.connection.send(&FromBackend::Commit { request: self.open.number, position: &self.position })
    }

    fn give_credit(&mut self) {
        self.used += 1;
        if self.used >= CREDIT / 2 {
            let credit = FromBackend::Credit { request: self.open.number, events: self.used };
            // A link that takes nothing ends, and the next one begins with new credit.
            let _ = self.open.connection.send(&credit);
            self.used = 0;
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let request = self.open.number;
        if self.open.connection.forget(request) {
            let _ = self.open.connection.send(&FromBackend::Abandon { request });
        }
    }
}

async fn open(client: &Client, group: &str, position: &str) -> Result<Open, Error> {
    let deadline = Instant::now() + LINK_WAIT;
    loop {
        let connection = client.connection(deadline).await?;
        let (tell, events) = mpsc::unbounded_channel();
        let number = connection.begin(Waiting::Events(tell));
        let subscribe = FromBackend::Subscribe { request: number, group, position, credit: CREDIT };
        if connection.send(&subscribe).is_ok() && !connection.is_closed() {
            return Ok(Open { connection, number, events });
        }
        connection.forget(number);
        if Instant::now() >= deadline {
            return Err(Error::NotConnected);
        }
        tokio::time::sleep(LINK_POLL).await;
    }
}

/// Events on their way at most.
const CREDIT: u32 = 4096;
/// Longest wait for a new link.
const LINK_WAIT: Duration = Duration::from_secs(60);
const LINK_POLL: Duration = Duration::from_millis(20);

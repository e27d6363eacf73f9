//! A pipeline: one task that keeps many requests in flight over a link of its own.
//!
//! ```text
//! send, send, … ──▶ one buffer ──flush──▶ link ──receive──▶ Done, Done, …
//! ```
//!
//! No lock, no task, no channel and no allocation per request: requests gather in a buffer until
//! [`Pipeline::flush`] or [`Pipeline::receive`], and answers come as many as arrived together, each with the
//! caller's own tag.

use std::time::Duration;

use imlink_link::{Batch, Link, SendError, encode_onto};
use imlink_protocol::frame;
use imlink_protocol::link::backend::{FromBackend, ToBackend};
use slab::Slab;

use crate::dial::{ConnectError, Target};
use crate::message::millis;
use crate::{Access, Call, Error, Message, Replied, Sent};

/// Many requests of one task.
pub struct Pipeline {
    target: Target,
    link: Link,
    requests_max: usize,
    /// Tags of the requests in flight; the key is the request's number.
    waiting: Slab<u64>,
    buffer: Vec<u8>,
    turn: usize,
    /// Its route leaves: a new link is made when nothing is in flight.
    is_leaving: bool,
}

/// A request came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// As given with the request.
    pub tag: u64,
    /// The answer.
    pub outcome: Result<Outcome, Error>,
}

/// What a request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To a send.
    Sent(Sent),
    /// To a call.
    Replied(Replied),
}

impl Pipeline {
    /// Connects as [`Client::connect`](crate::Client::connect) does.
    pub async fn connect(addresses: &str, access: impl Into<Access>, name: &str) -> Result<Self, ConnectError> {
        let target = Target::new(addresses, access.into(), name)?;
        let dialled = target.dial(0).await?;
        Ok(Self {
            target,
            link: dialled.link,
            requests_max: dialled.requests_max,
            waiting: Slab::new(),
            buffer: Vec::new(),
            turn: 0,
            is_leaving: false,
        })
    }

    /// Begins a send; `tag` comes back with its [`Done`].
    pub fn send(&mut self, tag: u64, message: &Message<'_>) -> Result<(), Error> {
        self.begin(tag, |number| FromBackend::Send(message.numbered(number, message.timeout)))
    }

    /// Begins a call; `tag` comes back with its [`Done`].
    pub fn call(&mut self, tag: u64, call: &Call<'_>) -> Result<(), Error> {
        self.begin(tag, |request| FromBackend::Call {
            request,
            device: call.device,
            path: call.path,
            timeout_ms: millis(call.timeout),
            payload: call.payload,
        })
    }

    /// Hands everything begun so far to the link.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if let Err(SendError::Full { .. }) = self.link.sender.send_encoded(&self.buffer) {
            // The route does not read any more: what is in flight ends as lost.
            self.link.sender.close();
        }
        self.buffer.clear();
    }

    /// Flushes and waits until something is done; adds it to `done`. When the link is lost, everything in
    /// flight is done with [`Error::Lost`] and a new link is made. With nothing in flight it returns at once.
    pub async fn receive(&mut self, done: &mut Vec<Done>) -> Result<(), ConnectError> {
        self.flush();
        let before = done.len();
        while done.len() == before && !self.waiting.is_empty() {
            let batch = match self.link.sender.is_closed() {
                true => Ok(None),
                false => self.link.receiver.receive().await,
            };
            let taken = match batch {
                Ok(Some(batch)) => self.take(&batch, done),
                _ => Err(()),
            };
            if taken.is_err() {
                let lost = self.waiting.drain().map(|tag| Done { tag, outcome: Err(Error::Lost) });
                done.extend(lost);
                self.relink().await?;
            }
        }
        if self.is_leaving && self.waiting.is_empty() {
            self.relink().await?;
        }
        Ok(())
    }

    /// Requests begun and not done.
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that the route takes at once on this link.
    pub fn requests_max(&self) -> usize {
        self.requests_max
    }

    /// Whether the route asked to be left: begin nothing new until [`Self::receive`] made a new link.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    fn begin<'a>(&mut self, tag: u64, message: impl FnOnce(u64) -> FromBackend<'a>) -> Result<(), Error> {
        if self.waiting.len() >= self.requests_max {
            return Err(Error::Full { max: self.requests_max });
        }
        let entry = self.waiting.vacant_entry();
        // Numbers begin at 1: 0 concerns the link itself.
        let message = message(entry.key() as u64 + 1);
        encode_onto(&message, &mut self.buffer).map_err(|_| Error::TooLong)?;
        entry.insert(tag);
        Ok(())
    }

    fn take(&mut self, batch: &Batch, done: &mut Vec<Done>) -> Result<(), ()> {
        for body in batch.frames() {
            let message = frame::decode::<ToBackend<'_>>(body.map_err(drop)?).map_err(drop)?;
            let (request, outcome) = match message {
                ToBackend::Message { request, id, state } => (request, Ok(Outcome::Sent(Sent { id, state }))),
                ToBackend::Replied { request, status, payload } => {
                    let payload = batch.share(payload);
                    (request, Ok(Outcome::Replied(Replied { status, payload })))
                }
                ToBackend::Failed { request, failure, retry_after_ms, detail } => {
                    (request, Err(Error::of(failure, retry_after_ms, detail)))
                }
                ToBackend::GoAway => {
                    self.is_leaving = true;
                    continue;
                }
                ToBackend::Event(_) | ToBackend::Pong | ToBackend::Welcome { .. } => continue,
            };
            let number = request.checked_sub(1).and_then(|key| usize::try_from(key).ok());
            if let Some(tag) = number.and_then(|key| self.waiting.try_remove(key)) {
                done.push(Done { tag, outcome });
            }
        }
        Ok(())
    }

    async fn relink(&mut self) -> Result<(), ConnectError> {
        let mut tries = 0;
        let dialled = loop {
            self.turn += 1;
            match self.target.dial(self.turn).await {
                Ok(dialled) => break dialled,
                Err(error) if tries >= RELINK_TRIES => return Err(error),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(RELINK_PAUSE).await;
        };
        self.link = dialled.link;
        self.requests_max = dialled.requests_max;
        self.is_leaving = false;
        Ok(())
    }
}

/// Tries to connect again, at so long a pause, before it is given up.
const RELINK_TRIES: u32 = 100;
const RELINK_PAUSE: Duration = Duration::from_millis(100);

//! What is asked and what is answered.

use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::MessageId;
use imlink_protocol::link::backend::{Send, State, Wait};
use imlink_protocol::message::Code;

/// A message to be stored for a device until it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Device id.
    pub device: &'a str,
    /// Path, such as `led/set`.
    pub path: &'a str,
    /// The command.
    pub payload: &'a [u8],
    /// What to wait for. Default [`Wait::Stored`].
    pub wait: Wait,
    /// Longest wait for the answer. Default 10 s.
    pub timeout: Duration,
    /// Lifetime in seconds, 0 for the route's default. Default 0.
    pub ttl_s: u32,
    /// The same text again within 24 h gives the first message again; empty for none, at most 64 bytes.
    pub idempotency_key: &'a str,
}

impl<'a> Message<'a> {
    /// `payload` for `path` of `device`.
    pub fn new(device: &'a str, path: &'a str, payload: &'a [u8]) -> Self {
        Self { device, path, payload, wait: Wait::Stored, timeout: TIMEOUT_DEFAULT, ttl_s: 0, idempotency_key: "" }
    }

    /// Waits until the device acknowledged it, or it came to another end.
    pub fn acked(self) -> Self {
        Self { wait: Wait::Acked, ..self }
    }

    /// Waits at most this long.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Expires after so many seconds.
    pub fn ttl_s(self, ttl_s: u32) -> Self {
        Self { ttl_s, ..self }
    }

    /// Makes repeating it harmless.
    pub fn idempotency_key(self, idempotency_key: &'a str) -> Self {
        Self { idempotency_key, ..self }
    }

    pub(crate) fn numbered(&self, request: u64, timeout: Duration) -> Send<'a> {
        Send {
            request,
            device: self.device,
            path: self.path,
            ttl_s: self.ttl_s,
            wait: self.wait,
            timeout_ms: millis(timeout),
            idempotency_key: self.idempotency_key,
            payload: self.payload,
        }
    }
}

/// A question to a device, never stored.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Device id.
    pub device: &'a str,
    /// Path.
    pub path: &'a str,
    /// The question.
    pub payload: &'a [u8],
    /// Time to the deadline. Default 10 s.
    pub timeout: Duration,
}

impl<'a> Call<'a> {
    /// `payload` for `path` of `device`.
    pub fn new(device: &'a str, path: &'a str, payload: &'a [u8]) -> Self {
        Self { device, path, payload, timeout: TIMEOUT_DEFAULT }
    }

    /// Waits at most this long.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

/// A message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id for life.
    pub id: MessageId,
    /// Its state when the answer was given.
    pub state: State,
}

/// A device's answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replied {
    /// [`Code::OK`], or how the handler failed.
    pub status: Code,
    /// The answer.
    pub payload: Bytes,
}

/// A duration as the link says it: at least a millisecond.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

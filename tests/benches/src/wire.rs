//! What a protocol has to say for the benchmark, and what may be heard in return.
//!
//! A [`Wire`] is one connection's state without its socket: it is fed bytes and appends bytes.
//! Devices answer each command at once inside [`Wire::hear`], so that every protocol's devices act alike.
//! A wire keeps to what its peer needs for this benchmark; it is no general client.

pub mod imlink;
pub mod imlink_http;
pub mod mqtt;
pub mod nats;
pub mod raw;
pub mod tls;

/// Bytes of a pushed command's payload; the first eight are its request number.
pub const COMMAND_LEN: usize = 16;

/// A device without a key.
pub const PLAIN: &str = r#"{"proof":"plain"}"#;

/// Bytes of an event's payload.
pub const EVENT_LEN: usize = 32;

/// Which side a connection plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The device of this number: takes commands and answers each, publishes events.
    Device(u32),
    /// A backend: pushes commands, hears the answers and every event.
    Backend,
}

/// What one message from the server meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection is usable: session and subscriptions are confirmed.
    Attached,
    /// At a device: a command came, and its answer is already on the way out.
    Commanded,
    /// At a backend: the device acted on the push of this number.
    Answered(u64),
    /// At a backend: one event.
    Delivered,
    /// At a device: the server took this many events.
    Taken(u32),
    /// Nothing that the benchmark counts.
    Quiet,
}

/// The peer sent something that this wire does not expect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected bytes from the server: {0}")]
pub struct Unexpected(pub String);

/// One connection's protocol.
pub trait Wire: Sized {
    /// A connection that has sent and heard nothing.
    fn new(role: Role) -> Self;

    /// What imlink is told of its devices over HTTP, before they come.
    fn provisioned() -> String {
        PLAIN.into()
    }

    /// Appends what is to be sent when the connection is up.
    fn open(&mut self, out: &mut Vec<u8>);

    /// Appends one push to a device (backends only).
    fn push(&mut self, device: u32, request: u64, out: &mut Vec<u8>);

    /// Appends `count` events and whatever makes the server confirm them (devices only).
    fn publish(&mut self, count: u32, out: &mut Vec<u8>);

    /// Takes one message from the front of `bytes`: its length and meaning, `None` while it is incomplete.
    /// What it calls for in return is appended to `out`.
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<(usize, Event)>, Unexpected>;
}

/// The payload of the push of this number.
fn command(request: u64) -> [u8; COMMAND_LEN] {
    let mut payload = [0; COMMAND_LEN];
    payload[..8].copy_from_slice(&request.to_be_bytes());
    payload
}

/// The request number at the front of a command or an answer.
fn request_of(payload: &[u8]) -> Result<u64, Unexpected> {
    match payload.first_chunk() {
        Some(number) => Ok(u64::from_be_bytes(*number)),
        None => Err(Unexpected(format!("a payload of {} bytes", payload.len()))),
    }
}

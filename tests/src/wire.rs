//! A peer that speaks frames by hand: rightly, or as wrongly as a test wants.

use std::net::SocketAddr;
use std::time::Duration;

use imlink_protocol::frame;
use imlink_protocol::id::{Cursor, Fingerprint};
use imlink_protocol::limits::LINK_FRAME_LEN_MAX;
use imlink_protocol::message::{FromDevice, Hello};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for a frame or for the end of a connection unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// `message` as a frame.
///
/// # Panics
/// When it is longer than the largest frame.
pub fn framed<T: Serialize + ?Sized>(message: &T) -> Vec<u8> {
    let mut out = vec![0; LINK_FRAME_LEN_MAX + 64];
    let len = frame::encode(message, &mut out).expect("a message that fits the largest frame");
    out.truncate(len);
    out
}

/// A `Hello` with nothing special, for `device` with a plain identity.
pub fn hello(device: &str) -> Hello<'_> {
    Hello {
        version: imlink_protocol::VERSION,
        tenant: "-",
        device,
        incarnation: 1,
        attempt: 1,
        epoch: 0,
        cursor: Cursor::default(),
        receive_limit: 4096,
        window: 4,
        fingerprint: Fingerprint::NONE,
        event_queue: 0,
        ticket: &[],
    }
}

/// One body as it came, to be read as the messages of the test's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body(pub(crate) Vec<u8>);

impl Body {
    /// The body as a message.
    ///
    /// # Panics
    /// When it is none: imlink sent nonsense.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> T {
        frame::decode(&self.0).unwrap_or_else(|why| panic!("imlink sent {:02x?}: {why}", self.0))
    }
}

/// A connection to a listener of imlink.
pub struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Wire {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await;
        let stream = stream.unwrap_or_else(|why| panic!("cannot connect to {address}: {why}"));
        stream.set_nodelay(true).expect("TCP_NODELAY on a fresh socket");
        Self { stream, input: Vec::new() }
    }

    /// Connects as `device` and waits for the answer to its `Hello`.
    pub async fn attach(address: SocketAddr, hello: Hello<'_>) -> (Self, Body) {
        let mut wire = Self::connect(address).await;
        wire.send(&FromDevice::Hello(hello)).await;
        let answer = wire.next().await.expect("an answer to Hello");
        (wire, answer)
    }

    /// Writes `bytes`; false when the peer has closed.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Writes `message` as a frame.
    pub async fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> bool {
        self.write(&framed(message)).await
    }

    /// The next frame's body, `None` when the peer closed.
    ///
    /// # Panics
    /// When nothing comes within [`PATIENCE`], and when it is not a frame.
    pub async fn next(&mut self) -> Option<Body> {
        tokio::time::timeout(PATIENCE, self.next_frame()).await.expect("a frame, or the connection's end")
    }

    /// The next frame's body if it comes `within` that time.
    pub async fn next_within(&mut self, within: Duration) -> Option<Body> {
        tokio::time::timeout(within, self.next_frame()).await.ok().flatten()
    }

    /// All frames until the peer closes.
    ///
    /// # Panics
    /// When it does not close `within` that time.
    pub async fn last_words(&mut self, within: Duration) -> Vec<Body> {
        let all = async {
            let mut bodies = Vec::new();
            while let Some(body) = self.next_frame().await {
                bodies.push(body);
            }
            bodies
        };
        let closed = tokio::time::timeout(within, all).await;
        closed.unwrap_or_else(|_| panic!("the connection is still open after {within:?}"))
    }

    /// Waits until the peer said something, or closed.
    pub async fn readable(&mut self) {
        // A reset is an answer as well.
        let _ = self.stream.readable().await;
    }

    /// Takes all bytes, of whatever form, until the peer closes.
    ///
    /// # Panics
    /// When it does not close `within` that time.
    pub async fn drained(&mut self, within: Duration) -> Vec<u8> {
        let mut came = std::mem::take(&mut self.input);
        let all = async { while matches!(self.stream.read_buf(&mut came).await, Ok(1..)) {} };
        tokio::time::timeout(within, all).await.unwrap_or_else(|_| panic!("still open after {within:?}"));
        came
    }

    async fn next_frame(&mut self) -> Option<Body> {
        loop {
            let whole = frame::split(&self.input, LINK_FRAME_LEN_MAX);
            if let Some(frame) = whole.unwrap_or_else(|why| panic!("imlink sent what is no frame: {why}")) {
                let (body, len) = (Body(frame.body.to_vec()), frame.len);
                self.input.drain(..len);
                return Some(body);
            }
            // A reset is an end as well: the peer had bytes of ours unread.
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

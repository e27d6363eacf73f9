//! A server that says what a test wants it to say, true or not.

use std::net::SocketAddr;
use std::time::Duration;

use imlink_protocol::frame;
use imlink_protocol::message::{FromDevice, ToDevice, Welcome};
use imlink_tests::wire::framed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longest wait for the board.
const PATIENCE: Duration = Duration::from_secs(50);

/// A listener on loopback.
pub struct Liar {
    listener: TcpListener,
}

/// One connection of a board.
pub struct Victim {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Liar {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn bind() -> Self {
        Self { listener: listen().await }
    }

    /// Where boards connect.
    ///
    /// # Panics
    /// Never: the listener is bound.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound listener has an address")
    }

    /// The next connection, once its `Hello` has come.
    ///
    /// # Panics
    /// When none comes within 50 s.
    pub async fn accept(&self) -> Victim {
        let mut victim = Victim { stream: accept(&self.listener).await, input: Vec::new() };
        victim.look(|frame| assert!(matches!(frame, FromDevice::Hello(_)), "{frame:?}")).await;
        victim
    }

    /// The next connection, welcomed as session `epoch`.
    pub async fn welcome(&self, epoch: u64) -> Victim {
        let mut victim = self.accept().await;
        victim.say(&ToDevice::Welcome(welcome(epoch))).await;
        victim
    }
}

/// A `Welcome` with nothing special.
pub fn welcome(epoch: u64) -> Welcome<'static> {
    Welcome {
        epoch,
        generation: 1,
        heartbeat_s: 300,
        frame_limit: 4096,
        event_window: 8,
        event_position: 0,
        time_ms: 0,
        grant: b"",
    }
}

impl Victim {
    /// Says `message`.
    pub async fn say(&mut self, message: &ToDevice<'_>) {
        self.write(&framed(message)).await;
    }

    /// Writes bytes; the board may have closed.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Looks at the next frame of the board.
    ///
    /// # Panics
    /// When none comes within 50 s, or when it is not one.
    pub async fn look<R>(&mut self, look: impl FnOnce(&FromDevice<'_>) -> R) -> R {
        loop {
            if let Some(whole) = frame::split(&self.input, 65_536).expect("the board sends frames") {
                let result = look(&frame::decode(whole.body).expect("the board sends what there is"));
                let len = whole.len;
                self.input.drain(..len);
                return result;
            }
            read(&mut self.stream, &mut self.input).await;
        }
    }

    /// Waits until the board closes.
    pub async fn closed(&mut self) {
        closed(&mut self.stream).await;
    }
}

/// A listener on a free port of loopback.
pub(crate) async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback")
}

/// The next connection; panics when none comes within 50 s.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = timeout(PATIENCE, listener.accept()).await.expect("the board connects");
    let (stream, _) = accepted.expect("a connection");
    stream.set_nodelay(true).expect("TCP_NODELAY on a fresh socket");
    stream
}

/// Reads what comes next; panics when nothing does within 50 s.
pub(crate) async fn read(stream: &mut TcpStream, input: &mut Vec<u8>) {
    let len = timeout(PATIENCE, stream.read_buf(input)).await.expect("the board says something");
    assert_ne!(len.expect("a connection"), 0, "the board closed the connection");
}

/// Waits until the board closes; panics when it does not within 50 s.
pub(crate) async fn closed(stream: &mut TcpStream) {
    let mut rest = [0; 1024];
    let is_open = async |stream: &mut TcpStream, rest: &mut [u8]| stream.read(rest).await.is_ok_and(|len| len > 0);
    while timeout(PATIENCE, is_open(stream, &mut rest)).await.expect("the board closes") {}
}

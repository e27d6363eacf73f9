//! A server of a few lines over a real socket, that says what a test wants it to say.

use std::time::Duration;

use imlink_device_client::Key;
use imlink_protocol::frame;
use imlink_protocol::message::{Flags, FromDevice, ToDevice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::wire::{bytes, welcome};

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    listener: TcpListener,
    address: String,
}

pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    bytes: Vec<u8>,
}

impl Server {
    pub(crate) async fn bind() -> Self {
        Self::at("127.0.0.1:0").await
    }

    /// At what the host calls `localhost`.
    pub(crate) async fn bind_localhost() -> Self {
        Self::at("localhost:0").await
    }

    async fn at(place: &str) -> Self {
        let listener = TcpListener::bind(place).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }

    /// `IP:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = timeout(DEADLINE, self.listener.accept()).await.expect("no connection").unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, bytes: Vec::new() }
    }

    /// Accepts, takes `Hello` and opens session `epoch`.
    pub(crate) async fn welcome(&self, epoch: u64, event_position: u64) -> Peer {
        let mut peer = self.accept().await;
        assert!(peer.recv().await.starts_with("Hello"));
        peer.send(&welcome(epoch, event_position)).await;
        peer
    }
}

pub(crate) fn message(sequence: u64, key: Key, payload: &[u8]) -> ToDevice<'_> {
    ToDevice::Message { sequence, key, expiry_ms: 0, flags: Flags::NONE, payload }
}

impl Peer {
    pub(crate) async fn send(&mut self, message: &ToDevice<'_>) {
        self.stream.write_all(&bytes(message)).await.unwrap();
    }

    /// The next frame, as its `Debug` text.
    pub(crate) async fn recv(&mut self) -> String {
        self.look(|frame| format!("{frame:?}")).await
    }

    pub(crate) async fn look<R>(&mut self, look: impl FnOnce(&FromDevice<'_>) -> R) -> R {
        loop {
            if let Some(whole) = frame::split(&self.bytes, 65_536).unwrap() {
                let result = look(&frame::decode(whole.body).unwrap());
                let len = whole.len;
                self.bytes.drain(..len);
                return result;
            }
            let read = timeout(DEADLINE, self.stream.read_buf(&mut self.bytes)).await.expect("nothing came");
            assert_ne!(read.unwrap(), 0, "the device closed the connection");
        }
    }

    pub(crate) async fn expect(&mut self, frame: FromDevice<'_>) {
        assert_eq!(self.recv().await, format!("{frame:?}"));
    }

    /// Waits until the device closes, ignoring what it still sends.
    pub(crate) async fn closed(&mut self) {
        let mut rest = [0; 256];
        while timeout(DEADLINE, self.stream.read(&mut rest)).await.expect("it stays open").is_ok_and(|len| len > 0) {}
    }
}

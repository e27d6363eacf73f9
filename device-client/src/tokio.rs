//! Sockets, clock and randomness of a host.

use core::net::{IpAddr, SocketAddr};
use std::io;

use embedded_io_async::{ErrorType, Read, Write};
use embedded_nal_async::{AddrType, Dns, TcpConnect};
use imlink_protocol::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::platform::{Clock, Rng, RngError};

/// TCP by tokio, with `TCP_NODELAY`, and names by the host's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioStack {
    /// Address to connect from; the host's choice when there is none. More than about 28,000 connections
    /// to one server need several.
    pub source: Option<IpAddr>,
}

/// A connection of [`TokioStack`].
#[derive(Debug)]
pub struct TokioConnection(TcpStream);

impl TcpConnect for TokioStack {
    type Error = io::Error;
    type Connection<'a> = TokioConnection;

    async fn connect(&self, remote: SocketAddr) -> io::Result<TokioConnection> {
        let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.set_nodelay(true)?;
        socket.connect(remote).await.map(TokioConnection)
    }
}

impl Dns for TokioStack {
    type Error = io::Error;

    async fn get_host_by_name(&self, host: &str, kind: AddrType) -> io::Result<IpAddr> {
        let found = tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip());
        let is_asked = |ip: &IpAddr| match kind {
            AddrType::IPv4 => ip.is_ipv4(),
            AddrType::IPv6 => ip.is_ipv6(),
            AddrType::Either => true,
        };
        found.into_iter().find(is_asked).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl ErrorType for TokioConnection {
    type Error = io::Error;
}

impl Read for TokioConnection {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).await
    }
}

impl Write for TokioConnection {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }
}

/// tokio's clock.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        let ms = self.start.elapsed().as_millis();
        Instant::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }

    async fn sleep_until(&self, at: Instant) {
        let after = core::time::Duration::from_millis(at.as_millis());
        match self.start.checked_add(after) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => core::future::pending().await,
        }
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioRng;

impl Rng for TokioRng {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        getrandom::fill(bytes).map_err(|_| RngError)
    }
}

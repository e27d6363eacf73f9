//! One TCP connection of the generator: a socket, its [`Wire`], and what is not yet parsed or written.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::wire::{Event, Role, Unexpected, Wire};

/// What ends a connection, and with it the run.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The server closed it.
    #[error("the server closed the connection of {0:?}")]
    Closed(Role),
    /// The server said something this benchmark does not understand.
    #[error("{0:?}: {1}")]
    Unexpected(Role, Unexpected),
    /// The system refused.
    #[error("{0:?}: {1}")]
    Io(Role, io::Error),
}

/// One connection; bytes are counted as the application sees them, without TCP's own.
pub struct Connection<W> {
    socket: OwnedFd,
    role: Role,
    wire: W,
    opened: bool,
    unparsed: Vec<u8>,
    unsent: Vec<u8>,
    sent_bytes: u64,
    received_bytes: u64,
}

impl<W: Wire> Connection<W> {
    /// Starts to connect; `nth` spreads large fleets over source addresses.
    pub fn connect(server: SocketAddr, role: Role, nth: usize) -> Result<Self, ConnectionError> {
        let socket = connect(server, nth).map_err(|error| ConnectionError::Io(role, error.into()))?;
        Ok(Self {
            socket,
            role,
            wire: W::new(role),
            opened: false,
            unparsed: Vec::new(),
            unsent: Vec::new(),
            sent_bytes: 0,
            received_bytes: 0,
        })
    }

    /// Takes a readiness edge: reads all there is, hands each event to `on`, writes what is owed.
    pub fn handle_ready(
        &mut self,
        buffer: &mut [u8],
        mut on: impl FnMut(Event, &mut W, &mut Vec<u8>),
    ) -> Result<(), ConnectionError> {
        if !self.opened {
            let state = sockopt::socket_error(&self.socket).and_then(|result| result);
            state.map_err(|error| self.io(error))?;
            self.opened = true;
            self.wire.open(&mut self.unsent);
        }
        loop {
            let length = match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) => return Err(ConnectionError::Closed(self.role)),
                Ok(length) => length,
                Err(Errno::AGAIN | Errno::NOTCONN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(self.io(error)),
            };
            self.received_bytes += length as u64;
            let filled = length == buffer.len();
            self.handle_bytes(buffer.get(..length).unwrap_or_default(), &mut on)
                .map_err(|error| ConnectionError::Unexpected(self.role, error))?;
            if !filled {
                break;
            }
        }
        self.flush()
    }

    /// Lets the wire append bytes outside of an edge, and sends them.
    pub fn write(&mut self, put: impl FnOnce(&mut W, &mut Vec<u8>)) -> Result<(), ConnectionError> {
        put(&mut self.wire, &mut self.unsent);
        self.flush()
    }

    /// What this connection is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Bytes sent and received so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.sent_bytes, self.received_bytes)
    }

    fn handle_bytes(
        &mut self,
        bytes: &[u8],
        on: &mut impl FnMut(Event, &mut W, &mut Vec<u8>),
    ) -> Result<(), Unexpected> {
        let joined;
        let mut rest = if self.unparsed.is_empty() {
            bytes
        } else {
            self.unparsed.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.unparsed);
            &joined
        };
        while let Some((length, event)) = self.wire.hear(rest, &mut self.unsent)? {
            rest = rest.get(length..).unwrap_or_default();
            on(event, &mut self.wire, &mut self.unsent);
        }
        self.unparsed.extend_from_slice(rest);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ConnectionError> {
        let mut written = 0;
        while let Some(rest) = self.unsent.get(written..).filter(|rest| !rest.is_empty()) {
            match net::send(&self.socket, rest, net::SendFlags::NOSIGNAL) {
                Ok(length) => written += length,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.io(error)),
            }
        }
        self.sent_bytes += written as u64;
        self.unsent.drain(..written);
        Ok(())
    }

    fn io(&self, error: Errno) -> ConnectionError {
        ConnectionError::Io(self.role, error.into())
    }
}

impl<W> AsFd for Connection<W> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn connect(server: SocketAddr, nth: usize) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &SocketAddrV4::new(source(nth), 0))?;
    match net::connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// The kernel finds a free port quickly for about 14,000 connections from one address to one port; other runs
/// and other programs of this machine have addresses of their own.
fn source(nth: usize) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let block = u8::try_from(nth / CONNECTIONS_PER_SOURCE).unwrap_or(u8::MAX);
    // 127.16.0.0 to 127.31.255.255, by block and process.
    Ipv4Addr::new(127, 16 | (block & 15), high, low)
}

const CONNECTIONS_PER_SOURCE: usize = 8_000;

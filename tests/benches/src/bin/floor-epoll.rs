//! Floor: a bare relay in one thread on epoll; no session, no queue limit, no store. Speaks `wire::raw`.
//! The least system calls that a relay with one socket per device can do.
//!
//! Usage: `floor-epoll PORT`
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddrV4};

use imlink_bench::poller::Poller;
use imlink_bench::wire::raw::{ACK, BACKEND, Frame, HELLO, PUSH, UPACK, UPLINK, put_frame};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

fn main() -> anyhow::Result<()> {
    let port: u16 = std::env::args().nth(1).unwrap_or_default().parse()?;
    let mut relay = Relay::listen(port)?;
    loop {
        relay.turn()?;
    }
}

/// Connections are numbered by their descriptor, which is also their token.
type Number = usize;

struct Connection {
    socket: OwnedFd,
    unparsed: Vec<u8>,
    unsent: Vec<u8>,
}

struct Relay {
    poller: Poller,
    listener: OwnedFd,
    connections: Vec<Option<Connection>>,
    devices: Vec<Option<Number>>,
    backend: Option<Number>,
    /// Connections that got something to send in this turn.
    owing: Vec<Number>,
    buffer: Box<[u8]>,
}

impl Relay {
    fn listen(port: u16) -> anyhow::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        net::listen(&listener, BACKLOG)?;
        let poller = Poller::new()?;
        poller.add(&listener, LISTENER)?;
        Ok(Self {
            poller,
            listener,
            connections: Vec::new(),
            devices: Vec::new(),
            backend: None,
            owing: Vec::new(),
            buffer: vec![0; READ_LEN].into_boxed_slice(),
        })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        for number in self.poller.wait(None)? {
            if number == LISTENER {
                self.accept()?;
            } else {
                self.read(number);
                self.owing.push(number);
            }
        }
        for number in std::mem::take(&mut self.owing) {
            self.flush(number);
        }
        Ok(())
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let socket = match net::accept_with(&self.listener, SocketFlags::NONBLOCK) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            sockopt::set_tcp_nodelay(&socket, true)?;
            let number = usize::try_from(socket.as_raw_fd())?;
            self.poller.add(&socket, number)?;
            let connection = Connection { socket, unparsed: Vec::new(), unsent: Vec::new() };
            if self.connections.len() <= number {
                self.connections.resize_with(number + 1, || None);
            }
            if let Some(slot) = self.connections.get_mut(number) {
                *slot = Some(connection);
            }
        }
    }

    fn read(&mut self, number: Number) {
        loop {
            let Some(connection) = slot(&mut self.connections, number) else {
                return;
            };
            let length = match rustix::io::read(&connection.socket, &mut *self.buffer) {
                Err(Errno::AGAIN) => return,
                Ok(0) | Err(_) => return self.close(number),
                Ok(length) => length,
            };
            let mut bytes = std::mem::take(&mut connection.unparsed);
            let buffer = std::mem::take(&mut self.buffer);
            let fresh = buffer.get(..length).unwrap_or_default();
            let rest = if bytes.is_empty() {
                self.handle_frames(number, fresh).to_vec()
            } else {
                bytes.extend_from_slice(fresh);
                self.handle_frames(number, &bytes).to_vec()
            };
            if let Some(connection) = slot(&mut self.connections, number) {
                connection.unparsed = rest;
            }
            self.buffer = buffer;
            if length < self.buffer.len() {
                return;
            }
        }
    }

    /// Acts on all whole frames; what is left.
    fn handle_frames<'a>(&mut self, number: Number, mut bytes: &'a [u8]) -> &'a [u8] {
        while let Some(frame) = Frame::first(bytes) {
            self.handle(number, frame);
            bytes = bytes.get(frame.whole.len()..).unwrap_or_default();
        }
        bytes
    }

    fn handle(&mut self, number: Number, frame: Frame<'_>) {
        match frame.kind {
            HELLO => {
                let Some(device) = frame.device() else { return };
                if self.devices.len() <= device {
                    self.devices.resize(device + 1, None);
                }
                if let Some(slot) = self.devices.get_mut(device) {
                    *slot = Some(number);
                }
                self.put(Some(number), frame.whole);
            }
            BACKEND => {
                self.backend = Some(number);
                self.put(Some(number), frame.whole);
            }
            PUSH => {
                let device = frame.device().and_then(|device| self.devices.get(device));
                self.put(device.copied().flatten(), frame.whole);
            }
            ACK => self.put(self.backend, frame.whole),
            UPLINK => {
                self.put(self.backend, frame.whole);
                let mut taken = Vec::new();
                put_frame(&mut taken, UPACK, &[]);
                self.put(Some(number), &taken);
            }
            _ => {}
        }
    }

    fn put(&mut self, to: Option<Number>, bytes: &[u8]) {
        let Some(number) = to else { return };
        if let Some(connection) = slot(&mut self.connections, number) {
            if connection.unsent.is_empty() {
                self.owing.push(number);
            }
            connection.unsent.extend_from_slice(bytes);
        }
    }

    fn flush(&mut self, number: Number) {
        let Some(connection) = slot(&mut self.connections, number) else {
            return;
        };
        if connection.unsent.is_empty() {
            return;
        }
        match net::send(&connection.socket, &connection.unsent, net::SendFlags::NOSIGNAL) {
            Ok(sent) if sent == connection.unsent.len() => connection.unsent = Vec::new(),
            Ok(sent) => drop(connection.unsent.drain(..sent)),
            Err(Errno::AGAIN) => {}
            Err(_) => self.close(number),
        }
    }

    fn close(&mut self, number: Number) {
        if let Some(slot) = self.connections.get_mut(number) {
            *slot = None;
        }
        if self.backend == Some(number) {
            self.backend = None;
        }
    }
}

fn slot(connections: &mut [Option<Connection>], number: Number) -> Option<&mut Connection> {
    connections.get_mut(number)?.as_mut()
}

const LISTENER: usize = usize::MAX;
const READ_LEN: usize = 65_536;
const BACKLOG: i32 = 65_535;

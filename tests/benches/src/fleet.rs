//! A backend side and a fleet of devices against one server, in one thread: the connections and
//! the readiness loop that drives them. A measurement calls [`Fleet::turn`] until it has what it wants.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::connection::Connection;
use crate::poller::Poller;
use crate::wire::{Event, Role, Wire};

/// Where the server listens; many protocols have one port for both sides.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The port for devices.
    pub devices: SocketAddr,
    /// The port for backends.
    pub backends: SocketAddr,
}

/// How many connections of each side. Those of backends come first and are numbered from 0.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Backend connections.
    pub backends: usize,
    /// Devices.
    pub devices: usize,
}

/// Application bytes on all four legs, seen from the generator.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Traffic {
    /// Backend to server.
    pub backend_sent: u64,
    /// Server to backend.
    pub backend_received: u64,
    /// Device to server.
    pub device_sent: u64,
    /// Server to device.
    pub device_received: u64,
}

/// All connections of one run.
pub struct Fleet<W> {
    poller: Poller,
    connections: Vec<Connection<W>>,
    size: Size,
    buffer: Box<[u8]>,
}

impl<W: Wire> Fleet<W> {
    /// Attaches all, at most `ATTACHING_MAX` at a time: fewer than the smallest listen backlog among the peers.
    pub fn attach(target: Target, size: Size) -> anyhow::Result<Self> {
        let mut fleet = Self {
            poller: Poller::new()?,
            connections: Vec::with_capacity(size.backends + size.devices),
            size,
            buffer: vec![0; READ_LEN].into_boxed_slice(),
        };
        let total = size.backends + size.devices;
        let (mut attached, mut progress) = (0, Instant::now());
        while attached < total {
            while fleet.connections.len() < total && fleet.connections.len() - attached < ATTACHING_MAX {
                fleet.connect_next(target)?;
            }
            let before = attached;
            fleet.turn(Some(Duration::from_secs(1)), |_, event, _, _| {
                attached += usize::from(event == Event::Attached);
            })?;
            if attached > before {
                progress = Instant::now();
            } else if progress.elapsed() > STALL {
                bail!("{attached} of {total} attached, then nothing for {STALL:?}");
            }
        }
        Ok(fleet)
    }

    /// Waits for readiness at most that long, and hands each event to `on` with its connection's number,
    /// its wire and its outgoing bytes. One write per connection and turn.
    pub fn turn(
        &mut self,
        timeout: Option<Duration>,
        mut on: impl FnMut(usize, Event, &mut W, &mut Vec<u8>),
    ) -> anyhow::Result<()> {
        for token in self.poller.wait(timeout)? {
            let connection = self.connections.get_mut(token).context("an unknown token")?;
            connection.handle_ready(&mut self.buffer, |event, wire, out| {
                on(token, event, wire, out);
            })?;
        }
        Ok(())
    }

    /// Turns for that long, only keeping the connections alive.
    pub fn idle(&mut self, duration: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.turn(Some(left), |_, _, _, _| {})?;
        }
        Ok(())
    }

    /// Lets the wire of one connection append bytes and sends them.
    pub fn write(&mut self, number: usize, put: impl FnOnce(&mut W, &mut Vec<u8>)) -> anyhow::Result<()> {
        let connection = self.connections.get_mut(number).context("no such connection")?;
        Ok(connection.write(put)?)
    }

    /// How many connections of each side there are.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Bytes so far.
    pub fn traffic(&self) -> Traffic {
        let mut traffic = Traffic::default();
        for connection in &self.connections {
            let (sent, received) = connection.traffic();
            match connection.role() {
                Role::Backend => {
                    traffic.backend_sent += sent;
                    traffic.backend_received += received;
                }
                Role::Device(_) => {
                    traffic.device_sent += sent;
                    traffic.device_received += received;
                }
            }
        }
        traffic
    }

    fn connect_next(&mut self, target: Target) -> anyhow::Result<()> {
        let number = self.connections.len();
        let (server, role) = match number.checked_sub(self.size.backends) {
            None => (target.backends, Role::Backend),
            Some(device) => (target.devices, Role::Device(u32::try_from(device)?)),
        };
        let connection = Connection::connect(server, role, number)?;
        self.poller.add(&connection, number)?;
        self.connections.push(connection);
        Ok(())
    }
}

/// Without any progress for this long a run has failed.
pub const STALL: Duration = Duration::from_secs(5);

const ATTACHING_MAX: usize = 64;
const READ_LEN: usize = 65_536;

//! A gateway in memory that stores events as the real ones do, over connections in memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use embedded_nal_async::{AddrType, Dns, TcpConnect};
use imlink_protocol::frame;
use imlink_protocol::message::{FromDevice, ToDevice};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::spawn_local;

use crate::wire::{bytes, welcome};

/// How the gateway behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// It cannot be reached.
    Away,
    /// What it says after `Welcome` does not arrive.
    Mute,
    /// It closes the connection after an event.
    Abrupt,
}

/// The gateway; clones are the same.
#[derive(Clone)]
pub(crate) struct Gateway(Rc<Inner>);

struct Inner {
    mood: Cell<Mood>,
    epoch: Cell<u64>,
    /// Last stored number of each queue.
    positions: RefCell<BTreeMap<u64, u64>>,
    /// (queue, number, payload) in the order they were stored.
    stored: RefCell<Vec<(u64, u64, Vec<u8>)>>,
}

impl Gateway {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Inner {
            mood: Cell::new(Mood::Well),
            epoch: Cell::new(0),
            positions: RefCell::default(),
            stored: RefCell::default(),
        }))
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.0.mood.set(mood);
    }

    pub(crate) fn stored(&self) -> Vec<(u64, u64, Vec<u8>)> {
        self.0.stored.borrow().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.stored.borrow().len()
    }

    fn store(&self, queue: u64, sequence: u64, payload: &[u8]) {
        let mut positions = self.0.positions.borrow_mut();
        let last = positions.entry(queue).or_default();
        let mut stored = self.0.stored.borrow_mut();
        if sequence <= *last {
            let known = stored.iter().find(|(of, number, _)| (*of, *number) == (queue, sequence));
            assert!(known.is_none_or(|(_, _, kept)| kept == payload), "number {sequence} was given to two events");
        } else {
            *last = sequence;
            stored.push((queue, sequence, payload.to_vec()));
        }
    }

    async fn serve(self, mut stream: DuplexStream) -> Option<()> {
        let (mut input, mut queue) = (Vec::new(), 0);
        loop {
            let mut answers = Vec::new();
            let mut is_over = false;
            while let Some(whole) = frame::split(&input, 65_536).expect("the device sends frames") {
                let len = whole.len;
                match frame::decode(whole.body).expect("the device sends what there is") {
                    FromDevice::Hello(hello) => {
                        queue = hello.event_queue;
                        self.0.epoch.set(self.0.epoch.get() + 1);
                        let position = self.0.positions.borrow().get(&queue).copied().unwrap_or_default();
                        answers.extend(bytes(&welcome(self.0.epoch.get(), position)));
                    }
                    FromDevice::Event { sequence, payload, .. } => {
                        self.store(queue, sequence, payload);
                        if self.0.mood.get() != Mood::Mute {
                            answers.extend(bytes(&ToDevice::EventAck { sequence }));
                        }
                        is_over = self.0.mood.get() == Mood::Abrupt;
                    }
                    FromDevice::Bye => return None,
                    _ => {}
                }
                input.drain(..len);
            }
            if is_over {
                return None;
            }
            stream.write_all(&answers).await.ok()?;
            if stream.read_buf(&mut input).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// The device's end of a connection.
pub(crate) struct Link(DuplexStream);

impl TcpConnect for Gateway {
    type Error = io::Error;
    type Connection<'a> = Link;

    async fn connect(&self, _: SocketAddr) -> io::Result<Link> {
        if self.0.mood.get() == Mood::Away {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = duplex(256);
        spawn_local(self.clone().serve(far));
        Ok(Link(near))
    }
}

impl Dns for Gateway {
    type Error = io::Error;

    async fn get_host_by_name(&self, _: &str, _: AddrType) -> io::Result<IpAddr> {
        Err(io::ErrorKind::NotFound.into())
    }

    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::NotFound.into())
    }
}

impl embedded_io_async::ErrorType for Link {
    type Error = io::Error;
}

impl embedded_io_async::Read for Link {
    async fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes).await
    }
}

impl embedded_io_async::Write for Link {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

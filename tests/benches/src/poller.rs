//! Readiness of sockets: Linux' epoll, edge-triggered, with time-outs to the nanosecond.
//!
//! A socket is registered once for reading and writing. An edge is reported once, so a reader
//! reads until a read comes back short, and a writer writes until it is refused.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// A set of sockets, each with the token it was registered under.
pub struct Poller {
    epoll: rustix::fd::OwnedFd,
    ready: Vec<epoll::Event>,
}

impl Poller {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, ready: Vec::with_capacity(READY_MAX) })
    }

    /// Watches a socket, both ways; closing it ends the watch.
    pub fn add(&self, socket: impl AsFd, token: usize) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(token as u64), flags)?;
        Ok(())
    }

    /// Waits until something is ready or time is over (`None`: for ever); the tokens of what is ready.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<usize>> {
        let timeout = timeout.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        self.ready.clear();
        let room = rustix::buffer::spare_capacity(&mut self.ready);
        match epoll::wait(&self.epoll, room, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.ready.iter().map(|event| event.data.u64() as usize).collect())
    }
}

const READY_MAX: usize = 1_024;

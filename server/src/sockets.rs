//! The sockets of an I/O thread: accepting, reading, writing.
//!
//! Readiness is told once for each change, so what is not taken when it is told is remembered and taken in a
//! later round.

use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use imlink_protocol::device::LinkKind;
use imlink_protocol::message::GoAwayReason;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Token};

use crate::conn::{Conn, ConnId, Phase};
use crate::reactor::{End, Reactor};

impl Reactor {
    /// Takes what waits at the listeners.
    pub(crate) fn accept(&mut self) {
        self.accept_at = None;
        for kind in [LinkKind::Sealed, LinkKind::Plain] {
            self.accept_of(kind);
        }
    }

    fn accept_of(&mut self, kind: LinkKind) {
        let which = usize::from(kind == LinkKind::Plain);
        for _ in 0..ACCEPTS_MAX {
            let Some(Some(listener)) = self.listeners.get(which) else { return };
            match listener.accept() {
                Ok((stream, peer)) => {
                    self.shared.metrics.accepted.inc();
                    self.admit_stream(stream, peer, kind);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) => {
                    // Out of file descriptors or the like: those who are attached go on, those who wait to be
                    // accepted are not told of again.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    self.accept_at = Some(self.now.after(ACCEPT_AGAIN));
                    return;
                }
            }
        }
        self.accept_at = Some(self.now);
    }

    /// Takes a socket into the slab and watches it.
    pub(crate) fn insert(&mut self, mut stream: TcpStream, phase: Phase) -> Option<ConnId> {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let entry = self.conns.vacant_entry();
        let index = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(index), interest) {
            tracing::warn!(%error, "a connection cannot be watched");
            return None;
        }
        entry.insert(Conn::new(stream, serial, phase, self.now));
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        self.shared.metrics.connections.inc();
        Some(ConnId { index: index as u32, serial })
    }

    /// Takes a connection out of the slab, socket and all.
    pub(crate) fn take_out(&mut self, index: u32) -> Option<Conn> {
        let mut conn = self.conns.try_remove(index as usize)?;
        let _ = self.poll.registry().deregister(&mut conn.stream);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.metrics.connections.dec();
        Some(conn)
    }

    pub(crate) fn handle_ready(&mut self, index: u32, event: &Event, scratch: &mut [u8]) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let id = ConnId { index, serial: conn.serial };
        if event.is_writable() && !conn.out.bytes.is_empty() {
            self.mark(index);
        }
        let is_ended = event.is_read_closed() || event.is_error();
        if event.is_readable() || is_ended {
            self.read(id, is_ended, scratch);
        }
    }

    /// Reads what is there. After a short read the socket is empty and the next byte is a new event, but an
    /// end that came together with the last bytes is not: it is read on to.
    pub(crate) fn read(&mut self, id: ConnId, is_ended: bool, scratch: &mut [u8]) {
        for _ in 0..READS_MAX {
            let Some(conn) = self.conn(id) else { return };
            match conn.stream.read(scratch) {
                Ok(0) => return self.close(id.index, End::Gone("closed")),
                Ok(len) => {
                    self.shared.metrics.bytes_in.inc_by(len as u64);
                    self.handle_bytes(id.index, scratch.get_mut(..len).unwrap_or_default());
                    if len < scratch.len() && !is_ended {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.close(id.index, End::Gone("broken")),
            }
        }
        self.unread.push(id);
    }

    pub(crate) fn flush(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.is_dirty = false;
        let mut written = 0;
        let mut is_broken = false;
        while let Some(rest) = conn.out.bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match conn.stream.write(rest) {
                Ok(len) => written += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    is_broken = true;
                    break;
                }
            }
        }
        let metrics = &self.shared.metrics;
        metrics.bytes_out.inc_by(written as u64);
        metrics.messages.inc_by(std::mem::take(&mut conn.out.messages).into());
        conn.out.bytes.drain(..written);
        let waiting = conn.out.bytes.len();
        if waiting == 0 {
            let emptied = std::mem::take(&mut conn.out.bytes);
            if self.spare.len() < SPARE_BUFFERS && emptied.capacity() <= SPARE_LEN_MAX {
                self.spare.push(emptied);
            }
            if let Phase::Closing { .. } = conn.phase {
                let _ = conn.stream.shutdown(std::net::Shutdown::Write);
            }
        }
        if is_broken {
            self.close(index, End::Gone("broken"));
        } else if waiting == 0 {
            self.put_chunk(index);
        } else if waiting > self.shared.config.limits.out_len_max {
            self.close(index, End::GoAway(GoAwayReason::Slow, 0));
        }
    }

    /// Gives a connection that is about to write a used buffer, so that idle ones need none. It comes back
    /// with the next flush, written to or not.
    pub(crate) fn lend_buffer(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index as usize)
            && conn.out.bytes.capacity() == 0
            && let Some(buffer) = self.spare.pop()
        {
            conn.out.bytes = buffer;
            self.mark(index);
        }
    }
}

/// Output buffers kept for reuse, each of at most this many bytes.
const SPARE_BUFFERS: usize = 256;
const SPARE_LEN_MAX: usize = 16 * 1024;
/// Buffers read from one socket in one round, and sockets accepted: the others get their turn.
const READS_MAX: usize = 4;
const ACCEPTS_MAX: usize = 1024;
/// Pause before accepting again when the system refused.
const ACCEPT_AGAIN: Duration = Duration::from_millis(250);

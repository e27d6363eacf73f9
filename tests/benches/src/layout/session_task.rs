//! The task of one connection: reads, lets the session answer, writes. Its future is a socket and a number.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use imlink_protocol::KeyMark;
use imlink_protocol::frame::{self, Frame};
use imlink_protocol::message::{FromDevice, Hello, ToDevice, Welcome};
use imlink_protocol::serving::{Incoming, MailboxHead, Opening, Session, Transmit as _};
use imlink_store::DeviceKey;
use imlink_store::session::{Attach, Attached};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::tasks::{Conn, Device, Io, Out, with_io};

/// Serves one connection until it ends.
pub(super) async fn serve(stream: TcpStream) {
    // In a box, so that the attached connection's future has no room for it.
    let Some((stream, index)) = Box::pin(admit(stream)).await else { return };
    std::future::poll_fn(|context| with_io(|io| io.turn(index, &stream, context))).await;
}

async fn admit(mut stream: TcpStream) -> Option<(TcpStream, u32)> {
    let mut bytes = vec![0; FRAME_LEN_MAX];
    let mut length = 0;
    let body_end = loop {
        length += stream.read(bytes.get_mut(length..)?).await.ok().filter(|read| *read > 0)?;
        if let Some(Frame { len, .. }) = frame::split(bytes.get(..length)?, FRAME_LEN_MAX).ok()? {
            break len;
        }
    };
    let frame = frame::split(bytes.get(..body_end)?, FRAME_LEN_MAX).ok()??;
    let Ok(FromDevice::Hello(hello)) = frame::decode(frame.body) else { return None };
    let index = with_io(|io| io.attach(&hello))?;
    Some((stream, index))
}

impl Io {
    fn attach(&mut self, hello: &Hello<'_>) -> Option<u32> {
        let name = DeviceKey::new(hello.tenant, hello.device).ok()?;
        ready(self.store.identity(&name)).ok()??;
        let attach = Attach {
            device: name.clone(),
            server: "tasks".into(),
            server_incarnation: 1,
            incarnation: hello.incarnation,
            attempt: hello.attempt,
            key: KeyMark::PLAIN,
            epoch_floor: hello.epoch,
            cursor: hello.cursor,
            fingerprint: hello.fingerprint,
            receive_limit: hello.receive_limit,
            event_queue: hello.event_queue,
            window: hello.window.into(),
        };
        let Ok(Attached::Session(new)) = ready(self.store.attach(&attach)) else { return None };
        let now = self.now();
        let opening = Opening {
            epoch: new.epoch,
            generation: new.generation,
            offered: new.offered,
            cursor: hello.cursor,
            window: hello.window,
            receive_limit: hello.receive_limit,
            interval: imlink_protocol::limits::HEARTBEAT_DEFAULT,
            event_position: new.event_position,
            store_ms: new.now_ms,
        };
        let mut out = Out::default();
        out.transmit(&ToDevice::Welcome(Welcome {
            epoch: new.epoch,
            generation: new.generation,
            heartbeat_s: 300,
            frame_limit: 4_096,
            event_window: imlink_protocol::limits::EVENT_WINDOW_MAX,
            event_position: new.event_position,
            time_ms: new.now_ms,
            grant: &[],
        }));
        let mut session = Session::new(now, &opening);
        let head = MailboxHead { generation: new.generation, last: new.last };
        session.handle_page(now, [], head, new.more, &mut out);
        let device = Box::new(Device {
            name,
            incarnation: hello.incarnation,
            attempt: hello.attempt,
            receive_limit: hello.receive_limit,
            window: hello.window,
            event_queue: hello.event_queue,
            session,
            reports: Vec::new(),
        });
        Some(self.insert(Conn { input: Vec::new(), out, waker: None, device }))
    }

    /// Everything that can be done for this connection now; ready when it ended.
    fn turn(&mut self, index: u32, stream: &TcpStream, context: &mut Context<'_>) -> Poll<()> {
        let Some(conn) = self.conns.get_mut(index as usize) else { return Poll::Ready(()) };
        if conn.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            conn.waker = Some(context.waker().clone());
        }
        while stream.poll_read_ready(context).is_ready() {
            let mut scratch = std::mem::take(&mut self.scratch);
            let read = stream.try_read(&mut scratch);
            let is_over = match read {
                Ok(0) => true,
                Ok(length) => !self.handle_bytes(index, scratch.get(..length).unwrap_or_default()),
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            };
            self.scratch = scratch;
            if is_over {
                // The benchmark ends with its first device.
                return Poll::Ready(());
            }
        }
        self.flush(index, stream, context)
    }

    /// Takes whole frames; whether the connection goes on.
    fn handle_bytes(&mut self, index: u32, bytes: &[u8]) -> bool {
        let Some(conn) = self.conns.get_mut(index as usize) else { return false };
        let joined;
        let mut rest = bytes;
        if !conn.input.is_empty() {
            conn.input.extend_from_slice(bytes);
            joined = std::mem::take(&mut conn.input);
            rest = &joined;
        }
        loop {
            match frame::split(rest, FRAME_LEN_MAX) {
                Err(_) => return false,
                Ok(None) => break,
                Ok(Some(Frame { body, len })) => {
                    if !self.handle_body(index, body) {
                        return false;
                    }
                    rest = rest.get(len..).unwrap_or_default();
                }
            }
        }
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.input = rest.to_vec();
        }
        true
    }

    fn handle_body(&mut self, index: u32, body: &[u8]) -> bool {
        let now = self.now();
        let Some(conn) = self.conns.get_mut(index as usize) else { return false };
        let Ok(message) = frame::decode::<FromDevice<'_>>(body) else { return false };
        let Ok(incoming) = conn.device.session.handle_frame(now, &message, &mut conn.out) else { return false };
        match incoming {
            Incoming::Acked(upto) => self.handle_acked(index, upto),
            Incoming::Nothing | Incoming::Heartbeat => {}
            _ => return false,
        }
        true
    }

    fn flush(&mut self, index: u32, stream: &TcpStream, context: &mut Context<'_>) -> Poll<()> {
        let Some(conn) = self.conns.get_mut(index as usize) else { return Poll::Ready(()) };
        let mut written = 0;
        while let Some(rest) = conn.out.0.get(written..).filter(|rest| !rest.is_empty()) {
            match stream.try_write(rest) {
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if stream.poll_write_ready(context).is_pending() {
                        break;
                    }
                }
                Err(_) => return Poll::Ready(()),
            }
        }
        conn.out.0.drain(..written);
        if conn.out.0.is_empty() && conn.out.0.capacity() > 0 {
            let emptied = std::mem::take(&mut conn.out.0);
            self.take_back(emptied);
        }
        Poll::Pending
    }
}

/// The result of a call of the memory store: there at the first poll.
pub(super) fn ready<T>(call: impl Future<Output = T>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("the memory store answers at once"),
    }
}

const FRAME_LEN_MAX: usize = 4_096;

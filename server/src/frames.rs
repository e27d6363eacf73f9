//! What devices send: bytes to frames, frames to what the session makes of them.

use imlink_protocol::frame::{self, Frame, FrameError};
use imlink_protocol::limits::HELLO_FRAME_LEN_MAX;
use imlink_protocol::message::{FromDevice, GoAwayReason, RejectCode};
use imlink_protocol::seal::{self, Opened};
use imlink_protocol::serving::Incoming;

use crate::conn::{ConnId, Phase};
use crate::reactor::{End, Reactor};

impl Reactor {
    /// Takes bytes of a connection; what is not a whole frame yet is kept.
    ///
    /// Records are opened in place.
    pub(crate) fn handle_bytes(&mut self, index: u32, bytes: &mut [u8]) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if let Phase::Closing { .. } = conn.phase {
            return;
        }
        if conn.input.is_empty() {
            conn.partial_since = self.now;
            self.handle_frames(index, bytes);
        } else {
            let mut joined = std::mem::take(&mut conn.input);
            joined.extend_from_slice(bytes);
            self.handle_frames(index, &mut joined);
        }
    }

    fn handle_frames(&mut self, index: u32, bytes: &mut [u8]) {
        let came = bytes.len();
        let mut rest = bytes;
        let Some(serial) = self.conns.get(index as usize).map(|conn| conn.serial) else { return };
        let id = ConnId { index, serial };
        loop {
            // A frame may have ended the connection or sent it to another thread.
            let limit = self.shared.config.limits.frame_len;
            let Some(conn) = self.conn(id) else { return };
            let max = match conn.phase {
                Phase::Greeting { .. } => match seal::take(rest, HELLO_FRAME_LEN_MAX) {
                    Ok(None) => break,
                    Ok(Some((body, len))) => {
                        // The handshake may send the connection, and what came behind, to another thread.
                        let behind = rest.get(len..).unwrap_or_default();
                        return self.handle_greeting(id, body, behind);
                    }
                    Err(error) => return self.refuse_frame(index, error),
                },
                // Kept until the handshake is answered or the session is there: what comes early is not lost and
                // not much.
                Phase::Shaking { .. } | Phase::Attaching(_) => break,
                Phase::Hello { .. } => HELLO_FRAME_LEN_MAX,
                Phase::Attached(_) => limit,
                Phase::Closing { .. } => return,
            };
            let taken = match &mut conn.opener {
                Some(opener) => opener.open(rest, max),
                None => frame::split(rest, max).map(|frame| frame.map(|frame| place(&frame))),
            };
            match taken {
                Ok(None) => break,
                Ok(Some(Opened { start, end, len })) => {
                    let Some((frame, behind)) = std::mem::take(&mut rest).split_at_mut_checked(len) else { return };
                    self.handle_body(index, frame.get(start..end).unwrap_or_default(), behind);
                    rest = behind;
                }
                Err(error) => return self.refuse_frame(index, error),
            }
        }
        let is_new = rest.len() < came;
        self.keep_rest(id, rest, is_new);
    }

    /// Keeps the bytes of a frame that is not whole, within the largest frame. Its time began when its first
    /// byte came: a frame in drops does not renew it.
    pub(crate) fn keep_rest(&mut self, id: ConnId, rest: &[u8], is_new: bool) {
        let frame_len = self.shared.config.limits.frame_len;
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        let is_attached = matches!(conn.phase, Phase::Attached(_));
        let max = frame::LENGTH_LEN_MAX + if is_attached { frame_len } else { HELLO_FRAME_LEN_MAX };
        if rest.len() > max {
            return self.refuse_frame(id.index, FrameError::TooLong { len: rest.len(), max });
        }
        conn.input = rest.into();
        if is_new {
            conn.partial_since = now;
        }
    }

    fn refuse_frame(&mut self, index: u32, error: FrameError) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        tracing::info!(peer = ?conn.peer(), device = ?conn.name(), %error, "connection closed for a bad frame");
        self.shared.metrics.count_closed(error.name());
        let end = match conn.phase {
            Phase::Attached(_) => End::GoAway(GoAwayReason::Malformed, 0),
            _ => End::Reject(RejectCode::Malformed, 0),
        };
        self.close(index, end);
    }

    fn handle_body(&mut self, index: u32, body: &[u8], rest: &[u8]) {
        let message = match frame::decode::<FromDevice<'_>>(body) {
            Ok(message) => message,
            Err(error) => return self.refuse_frame(index, error),
        };
        let now = self.now;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let id = ConnId { index, serial: conn.serial };
        let Phase::Attached(device) = &mut conn.phase else {
            return match message {
                FromDevice::Hello(hello) => self.handle_hello(index, &hello, rest),
                _ => self.close(index, End::Reject(RejectCode::Order, 0)),
            };
        };
        let open = device.session.in_flight();
        let incoming = device.session.handle_frame(now, &message, &mut conn.out);
        self.shared.metrics.acked.inc_by(open.saturating_sub(device.session.in_flight()) as u64);
        let has_output = !conn.out.bytes.is_empty();
        match incoming {
            Ok(incoming) => self.handle_incoming(id, incoming),
            Err(violation) => {
                tracing::info!(peer = ?conn.peer(), device = ?conn.name(), %violation, "connection closed");
                self.shared.metrics.count_closed(violation.name());
                return self.close(index, End::GoAway(GoAwayReason::Order, 0));
            }
        }
        if has_output {
            self.mark(index);
        }
        self.read_on(index);
    }

    /// Its mailbox is compared with the store, once however often it says so.
    fn handle_heartbeat(&mut self, id: ConnId) {
        if let Some(device) = self.conn(id).and_then(|conn| conn.device())
            && !device.is_head_due
        {
            device.is_head_due = true;
            self.batches.heads.push(id);
        }
    }

    fn handle_incoming(&mut self, id: ConnId, incoming: Incoming<'_>) {
        match incoming {
            Incoming::Nothing => {}
            Incoming::Heartbeat => self.handle_heartbeat(id),
            Incoming::Acked(upto) => self.handle_acked(id, upto, None),
            Incoming::Nacked(upto, code) => self.handle_acked(id, upto, Some(code)),
            Incoming::Reply { request, status, payload } => self.handle_reply(id, request, status, payload),
            Incoming::Event { sequence, key, payload } => {
                self.handle_event(id, sequence, key, payload);
            }
            Incoming::Interface { offset, total, chunk } => self.handle_chunk(id, offset, total, chunk),
            Incoming::Blob(frame) => self.handle_device_blob(id, frame),
            Incoming::Bye => self.close(id.index, End::Gone("bye")),
        }
    }
}

/// Where the body of a plain frame is.
fn place(frame: &Frame<'_>) -> Opened {
    let end = frame.len - frame::CHECK_LEN;
    Opened { start: end - frame.body.len(), end, len: frame.len }
}

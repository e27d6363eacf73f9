//! One connection, from `Hello` to its end.

use core::pin::pin;
use core::time::Duration;

use embassy_futures::select::{Either3, select3};
use embedded_io_async::{Error as _, Read, Write};
use imlink_protocol::device::{Event, Profile, Transmit};
use imlink_protocol::interface::Kind;
use imlink_protocol::limits::{INTERFACE_CHUNK_MAX, PARTIAL_FRAME_MAX};
use imlink_protocol::message::{Code, FromDevice, ToDevice};
use imlink_protocol::seal::Opened;
use imlink_protocol::{Instant, frame};

use crate::blob_port::Port;
use crate::core_state::{CallRecord, Core, EventRecord, MESSAGE_OVERHEAD, MessageRecord, ReplyRecord};
use crate::error::{ConfigError, Error};
use crate::interface::Interface;
use crate::platform::Clock;
use crate::queue::shift;
use crate::runner::{before, changed};
use crate::state::Storage;
use crate::wire::Wire;

pub(crate) struct Connection<'r, S, T, B> {
    pub(crate) shared: &'r S,
    pub(crate) stream: T,
    pub(crate) wire: Wire,
    /// The frame at the start of `frame_in` that was opened and could not be handled yet.
    pub(crate) opened: Option<Opened>,
    pub(crate) profile: Profile<'r>,
    pub(crate) interface: Interface,
    pub(crate) blobs: B,
    pub(crate) frame_in: &'r mut [u8],
    pub(crate) frame_out: &'r mut [u8],
    /// Bytes of `frame_in` that came and were not handled.
    pub(crate) filled: usize,
    /// Since when the frame at the start of `frame_in` is not whole.
    pub(crate) partial_since: Option<Instant>,
}

/// What stopped the handling of frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// More bytes are needed.
    Open,
    /// The message at the start finds no room until a handler is done.
    Blocked,
    /// Something has to be sent first.
    Paused,
}

/// Longest control frame: 3 + 1 + 8 + 8 + 16 bytes and some.
const CONTROL_LEN: usize = 44;
/// Longest time for one write to go out.
const WRITE_MAX: Duration = Duration::from_secs(30);

impl<S: Storage, T: Read + Write, B: Port> Connection<'_, S, T, B> {
    /// Runs until the session has ended or the connection broke.
    pub(crate) async fn run(&mut self) -> Result<(), Error> {
        let shared = self.shared;
        // One alarm for many waits: it is set again only when it has to come sooner.
        let mut alarm_at = Instant::from_millis(u64::MAX);
        let mut alarm = pin!(shared.clock().sleep_until(alarm_at));
        let mut reading = Reading::Open;
        loop {
            self.send().await?;
            if shared.with(|_, core| core.session.is_ended()) {
                return Ok(());
            }
            if reading != Reading::Open {
                reading = self.handle_frames()?;
                if reading == Reading::Paused {
                    continue;
                }
            }
            let due = self.due();
            if due < alarm_at {
                alarm_at = due;
                alarm.set(shared.clock().sleep_until(alarm_at));
            }
            let is_open = reading == Reading::Open;
            let filled = self.filled;
            let room = self.frame_in.get_mut(filled..).filter(|_| is_open).unwrap_or_default();
            let read =
                async { if room.is_empty() { core::future::pending().await } else { self.stream.read(room).await } };
            match select3(read, changed(shared), alarm.as_mut()).await {
                Either3::First(Ok(0)) => return Err(Error::Closed),
                Either3::First(Ok(len)) => {
                    self.filled += len;
                    reading = self.handle_frames()?;
                }
                Either3::First(Err(error)) => return Err(Error::Transport(error.kind())),
                Either3::Second(()) => {}
                Either3::Third(()) => {
                    alarm_at = Instant::from_millis(u64::MAX);
                    self.handle_timeout()?;
                }
            }
        }
    }

    fn due(&self) -> Instant {
        let due = self.shared.with(|now, core| core.session.poll_timeout().unwrap_or(now));
        self.partial_since.map_or(due, |since| due.min(since.after(PARTIAL_FRAME_MAX)))
    }

    fn handle_timeout(&mut self) -> Result<(), Error> {
        let partial_since = self.partial_since;
        self.shared.with(|now, core| {
            if partial_since.is_some_and(|since| now >= since.after(PARTIAL_FRAME_MAX)) {
                return Err(Error::PartialFrame);
            }
            core.session.handle_timeout(now).map_err(Error::Session)
        })
    }

    /// Handles the whole frames at the start of `frame_in`.
    fn handle_frames(&mut self) -> Result<Reading, Error> {
        let (frame_in, filled) = (&mut *self.frame_in, self.filled);
        let (wire, opened) = (&mut self.wire, &mut self.opened);
        let receive_limit = self.profile.receive_limit as usize;
        let frame_out = self.frame_out.len();
        let blobs = self.blobs;
        let (taken, reading, now) = self.shared.with(|now, core| {
            let mut taken = 0;
            let reading = loop {
                let rest = frame_in.get_mut(taken..filled).unwrap_or_default();
                let whole = match opened.take() {
                    Some(whole) => whole,
                    None => match wire.take(rest, receive_limit).map_err(Error::Frame)? {
                        Some(whole) => whole,
                        None => break Reading::Open,
                    },
                };
                if !core.session.has_room() {
                    *opened = Some(whole);
                    break Reading::Paused;
                }
                let body = rest.get(whole.start..whole.end).unwrap_or_default();
                let message: ToDevice<'_> = frame::decode(body).map_err(Error::Frame)?;
                if is_blocked(core, &message) {
                    *opened = Some(whole);
                    break Reading::Blocked;
                }
                handle(now, core, &message, frame_out, blobs)?;
                taken += whole.len;
                if core.session.is_ended() {
                    break Reading::Open;
                }
            };
            core.session.handle_reading(now, reading == Reading::Blocked);
            Ok::<_, Error>((taken, reading, now))
        })?;
        shift(frame_in.get_mut(..filled).unwrap_or_default(), taken);
        self.filled -= taken;
        let is_partial = reading == Reading::Open && self.filled > 0;
        self.partial_since = is_partial.then(|| self.partial_since.filter(|_| taken == 0).unwrap_or(now));
        Ok(reading)
    }

    /// Sends all that is due.
    async fn send(&mut self) -> Result<(), Error> {
        loop {
            let (shared, profile, interface) = (self.shared, &self.profile, self.interface);
            let is_greeting = shared.with(|_, core| core.session.state() == crate::StateName::Greeting);
            // `Hello` may be longer than anything sent later; nothing has come yet, so it is made in `frame_in`.
            let is_first = is_greeting && self.filled == 0;
            let out = if is_first { &mut *self.frame_in } else { &mut *self.frame_out };
            let (wire, blobs) = (&mut self.wire, self.blobs);
            let filled =
                shared.with(|now, core| fill(now, core, profile, interface, wire, out, blobs).map(|len| (len, now)));
            let (len, now) = filled?;
            if len == 0 {
                return Ok(());
            }
            let bytes = out.get(..len).unwrap_or_default();
            write(shared, &mut self.stream, bytes, now.after(WRITE_MAX)).await?;
        }
    }
}

/// Writes all of `bytes` before `until`.
pub(crate) async fn write<S: Storage, T: Write>(
    shared: &S,
    stream: &mut T,
    bytes: &[u8],
    until: Instant,
) -> Result<(), Error> {
    let work = async {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = stream.write(rest).await.map_err(|error| Error::Transport(error.kind()))?;
            rest = rest.get(written..).filter(|_| written > 0).ok_or(Error::Closed)?;
        }
        stream.flush().await.map_err(|error| Error::Transport(error.kind()))
    };
    before(shared, until, work).await.unwrap_or(Err(Error::WriteTimeout))
}

/// Whether this is a message that finds no room in the inbox.
fn is_blocked(core: &Core<'_>, frame: &ToDevice<'_>) -> bool {
    match frame {
        ToDevice::Message { sequence, payload, .. } => {
            !core.inbox.fits(payload.len() + MESSAGE_OVERHEAD) && !core.session.is_duplicate(*sequence)
        }
        _ => false,
    }
}

fn handle(
    now: Instant,
    core: &mut Core<'_>,
    frame: &ToDevice<'_>,
    frame_out: usize,
    blobs: impl Port,
) -> Result<(), Error> {
    let event = core.session.handle_frame(now, frame).map_err(Error::Session)?;
    if matches!(frame, ToDevice::Pong { .. } | ToDevice::Message { .. }) {
        core.desk.messages.wake();
    }
    match event {
        None | Some(Event::Ended(_)) => {}
        Some(Event::Attached { stored, keep, .. }) => {
            while core.inbox.len() > keep {
                core.inbox.remove(keep);
            }
            core.remove_stored(stored);
            core.desk.sessions = core.desk.sessions.saturating_add(1);
            core.desk.link.wake();
            blobs.handle_attached();
            let server = core.session.frame_limit().unwrap_or_default();
            let device = u32::try_from(frame_out).unwrap_or(u32::MAX);
            if server < device {
                return Err(Error::FrameLimit { server, device });
            }
            debug!("attached, epoch {}", core.session.epoch());
        }
        Some(Event::Message { id, key, is_redelivered, payload }) => {
            // It was asked whether there is room.
            let _ = core.inbox.push(&MessageRecord { id, key, is_redelivered, payload });
        }
        Some(Event::Call { request, key, payload }) => {
            let refused = if !core.desk.interface.allows(Kind::Call, key) {
                Some(Code::UNKNOWN_PATH)
            } else if core.calls.push(&CallRecord { is_taken: false, request, key, payload }).is_err() {
                Some(if core.calls.len() == 0 { Code::TOO_LARGE } else { Code::BUSY })
            } else {
                core.desk.calls.wake();
                None
            };
            if let Some(code) = refused {
                core.session.refuse_call(request, code);
            }
        }
        Some(Event::Cancelled { request }) => core.remove_call(request),
        Some(Event::Stored(count)) => core.remove_stored(count),
        #[cfg(feature = "blob")]
        Some(Event::Blob(frame)) => blobs.handle_frame(&frame),
        // Frames of transfers, where the protocol knows them and this build takes no part.
        #[cfg(not(feature = "blob"))]
        #[allow(unreachable_patterns, reason = "the protocol may be built with transfers for another crate")]
        Some(_) => {}
    }
    Ok(())
}

/// Writes as many due frames into `out` as fit and returns their bytes.
fn fill(
    now: Instant,
    core: &mut Core<'_>,
    profile: &Profile<'_>,
    interface: Interface,
    wire: &mut Wire,
    out: &mut [u8],
    blobs: impl Port,
) -> Result<usize, Error> {
    let mut len = 0;
    while let Some(free) = out.get_mut(len..).filter(|free| len == 0 || free.len() >= CONTROL_LEN) {
        let is_attached = core.session.state() == crate::StateName::Attached;
        let written = match core.session.poll_transmit(now, profile) {
            None if is_attached => blobs.fill(wire, free),
            None => None,
            Some(Transmit::Frame(frame)) => {
                // Only `Hello` can be longer than `CONTROL_LEN`, and it has the buffer for itself.
                Some(wire.encode(&frame, free).map_err(|_| ConfigError::HelloTooLong)?)
            }
            Some(Transmit::Reply) => reply(core, wire, free),
            Some(Transmit::Event { index, sequence }) => {
                let event = core.events.get(index).unwrap_or(EventRecord { key: crate::Key([0; 4]), payload: &[] });
                let frame = FromDevice::Event { sequence, key: event.key, payload: event.payload };
                wire.encode(&frame, free).ok().inspect(|_| core.session.handle_event_sent(now))
            }
            Some(Transmit::Interface { offset }) => {
                let written = describe(interface, offset, wire, free);
                written.inspect(|_| core.session.handle_interface_sent())
            }
        };
        match written {
            Some(written) => len += written,
            None => break,
        }
    }
    Ok(len)
}

fn reply(core: &mut Core<'_>, wire: &mut Wire, out: &mut [u8]) -> Option<usize> {
    if let Some(ReplyRecord { request, status, payload }) = core.replies.get(0) {
        let len = wire.encode(&FromDevice::Reply { request, status, payload }, out).ok()?;
        core.replies.remove(0);
        core.desk.calls.wake();
        core.session.handle_reply_sent();
        return Some(len);
    }
    core.session.handle_reply_sent();
    Some(0)
}

/// A chunk as long as fits.
fn describe(interface: Interface, offset: u32, wire: &mut Wire, out: &mut [u8]) -> Option<usize> {
    let bytes = interface.bytes();
    let total = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let offset = offset.min(total);
    let room = out.len().checked_sub(CONTROL_LEN).filter(|room| *room > 0)?;
    let rest = bytes.get(offset as usize..).unwrap_or_default();
    let chunk = rest.get(..room.min(INTERFACE_CHUNK_MAX)).unwrap_or(rest);
    wire.encode(&FromDevice::Interface { offset, total, chunk }, out).ok()
}

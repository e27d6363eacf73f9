//! The device's end of transfers.

use heapless::{String, Vec};

use crate::id::check_device_id;

use super::{
    Ack, Action, BlobFault, BlobFrame, Done, Kind, NAME_LEN_MAX, Open, Outcome, Receiver, SIGNATURE_LEN, Sender,
};

/// A device's transfers: one at a time, either way. About 300 bytes, no payload.
///
/// ```text
///                    begun          all written        finished
/// Idle ─Open give─▶ Beginning ────▶ Receiving ───────▶ Verifying ────────▶ Ended ── an Open of the same blob
///  │                  ▲  the same blob opened again goes on where it was ─────┘      is answered at once
///  │                  │
///  └────Open want─▶ Finding ──found─▶ Sending ──▶ Idle
/// ```
///
/// A cut, or a `Done` of the server, leaves a blob that is being received as it is, without a transfer; a blob that
/// is being sent is forgotten. **Driving it: whoever has the flash takes [`poll_work`](Self::poll_work), does it and
/// says so by the `handle_*` named there; whoever has the connection sends what
/// [`poll_transmit`](Self::poll_transmit) gives, when there is nothing else to send.**
#[derive(Debug)]
pub struct Transfers {
    capacity: u32,
    subject: Option<Subject>,
    /// Number in this session of what `state` is about; `None` without one.
    transfer: Option<u32>,
    state: State,
    is_announce_due: bool,
    /// Another transfer that was refused, and why.
    refused: Option<(u32, Outcome)>,
    /// Counts what was begun, so that late results are known for such.
    job: u32,
    is_working: bool,
}

/// What a transfer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What the blob is for.
    pub kind: Kind,
    /// Its name.
    pub name: String<NAME_LEN_MAX>,
    /// Its length in bytes.
    pub size: u32,
    /// Its hash; while it is looked for, that of the version wanted, or zeros.
    pub sha256: [u8; 32],
    /// Its signature, or nothing.
    pub signature: Vec<u8, SIGNATURE_LEN>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    Beginning,
    Receiving(Receiver),
    Verifying,
    Ended {
        outcome: Outcome,
        detail: u32,
        is_told: bool,
    },
    Finding,
    /// `base` is the blob's offset of the buffer's first byte, of which there are `len`.
    Sending {
        sender: Sender,
        is_told: bool,
        base: u32,
        len: usize,
    },
}

/// What is to be done with flash and files. Each is answered by the method named, with `job` as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Check the signature, make ready for the blob: [`Transfers::handle_begun`].
    Begin(Subject),
    /// Write the buffer's first `len` bytes at `offset`: [`Transfers::handle_written`].
    Write {
        /// Where in the blob.
        offset: u32,
        /// Bytes.
        len: usize,
    },
    /// Check the hash of what is written, and mark it where that is wanted: [`Transfers::handle_finished`].
    Verify(Subject),
    /// Find the blob of this name to send: [`Transfers::handle_found`].
    Find(Subject),
    /// Read into the buffer: [`Transfers::handle_read`].
    Read {
        /// Where in the blob.
        offset: u32,
        /// Most bytes, at least one.
        len: usize,
    },
}

/// How work that can be refused ended.
pub type Answer<T> = Result<T, (Outcome, u32)>;

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit<'a> {
    /// This frame; it is taken for sent.
    Frame(BlobFrame<'a>),
    /// Bytes of the buffer as a chunk, as many as fit; offered until [`Transfers::handle_chunk_sent`].
    Chunk {
        /// Number of the transfer.
        transfer: u32,
        /// Where in the blob they begin.
        offset: u32,
        /// Where in the buffer they begin.
        at: usize,
        /// Most bytes.
        len: usize,
    },
}

impl Transfers {
    /// With a buffer of `capacity` bytes (at least 1).
    pub const fn new(capacity: usize) -> Self {
        let max = super::WINDOW_MAX;
        Self {
            capacity: if capacity == 0 {
                1
            } else if capacity < max as usize {
                capacity as u32
            } else {
                max
            },
            subject: None,
            transfer: None,
            state: State::Idle,
            is_announce_due: false,
            refused: None,
            job: 0,
            is_working: false,
        }
    }

    /// A session is open: the server is told that the device takes part.
    pub fn handle_attached(&mut self) {
        self.handle_detached();
        self.is_announce_due = true;
    }

    /// The session is over.
    pub fn handle_detached(&mut self) {
        self.is_announce_due = false;
        self.refused = None;
        self.suspend();
    }

    /// Takes a frame of the server. `Some` is where in the buffer the bytes of a chunk go.
    ///
    /// A peer that breaks a rule of the transfer ends it; the session goes on.
    pub fn handle_frame(&mut self, frame: &BlobFrame<'_>) -> Option<usize> {
        match frame {
            BlobFrame::Open(open) => self.handle_open(open),
            BlobFrame::Done(done) if self.transfer == Some(done.transfer) => self.suspend(),
            BlobFrame::Ack(ack) if self.transfer == Some(ack.transfer) => {
                if let State::Sending { sender, .. } = &mut self.state
                    && sender.handle_ack(ack.offset, ack.limit).is_err()
                {
                    self.end(Outcome::Order, 0);
                }
            }
            BlobFrame::Chunk(chunk) if self.transfer == Some(chunk.transfer) => {
                let taken = match &mut self.state {
                    State::Receiving(receiver) => receiver.handle_chunk(chunk.offset, chunk.bytes.len()),
                    _ => Err(BlobFault::Order),
                };
                match taken {
                    Ok(at) => return Some(at),
                    Err(_) => self.refuse_chunk(),
                }
            }
            BlobFrame::Done(_) | BlobFrame::Ack(_) | BlobFrame::Chunk(_) => {}
        }
        None
    }

    /// The bytes of a chunk could not be put into the buffer.
    pub fn refuse_chunk(&mut self) {
        self.end(Outcome::Order, 0);
    }

    fn handle_open(&mut self, open: &Open<'_>) {
        let Some(subject) = Subject::of(open) else {
            self.refused = Some((open.transfer, Outcome::Order));
            return;
        };
        if self.transfer.is_some() {
            self.refused = Some((open.transfer, Outcome::Busy));
            return;
        }
        self.transfer = Some(open.transfer);
        if open.action == Action::Give && self.subject.as_ref() == Some(&subject) {
            match &mut self.state {
                State::Beginning | State::Verifying => return,
                State::Receiving(receiver) => return receiver.handle_resumed(),
                State::Ended { outcome, is_told, .. } if outcome.is_success() => {
                    *is_told = false;
                    return;
                }
                State::Ended { .. } | State::Idle | State::Finding | State::Sending { .. } => {}
            }
        }
        self.subject = Some(subject);
        self.move_to(match open.action {
            Action::Give => State::Beginning,
            Action::Want => State::Finding,
        });
    }

    /// Whoever does the work begins anew: what it was at is given once more.
    pub fn handle_restarted(&mut self) {
        self.is_working = false;
    }

    /// What is to be done next, and the number to answer with. One thing at a time; nothing until it is answered.
    pub fn poll_work(&mut self) -> Option<(u32, Work)> {
        if self.is_working {
            return None;
        }
        let work = match &self.state {
            State::Beginning => Work::Begin(self.subject.clone()?),
            State::Receiving(receiver) if receiver.is_write_due() => {
                Work::Write { offset: receiver.written(), len: receiver.buffered() }
            }
            State::Verifying => Work::Verify(self.subject.clone()?),
            State::Finding => Work::Find(self.subject.clone()?),
            State::Sending { sender, base, len, .. } => {
                let next = sender.next()?;
                let end = base.saturating_add(u32::try_from(*len).unwrap_or(u32::MAX));
                let size = self.subject.as_ref()?.size;
                let is_used_up = next == end || next < *base || next > end;
                let len = size.saturating_sub(next).min(self.capacity) as usize;
                if !is_used_up || len == 0 {
                    return None;
                }
                Work::Read { offset: next, len }
            }
            State::Idle | State::Receiving(_) | State::Ended { .. } => return None,
        };
        self.is_working = true;
        Some((self.job, work))
    }

    /// [`Work::Begin`] is done: so many bytes of this blob are there already.
    pub fn handle_begun(&mut self, job: u32, begun: Answer<u32>) {
        if !self.is_current(job) {
            return;
        }
        let size = self.subject.as_ref().map_or(0, |subject| subject.size);
        match begun {
            Ok(offset) if offset >= size => self.state = State::Verifying,
            Ok(offset) => self.state = State::Receiving(Receiver::new(size, offset, self.capacity)),
            Err((outcome, detail)) => self.end(outcome, detail),
        }
    }

    /// [`Work::Write`] is done.
    pub fn handle_written(&mut self, job: u32, len: usize, written: Answer<()>) {
        if !self.is_current(job) {
            return;
        }
        match (&mut self.state, written) {
            (State::Receiving(receiver), Ok(())) => {
                receiver.handle_written(len);
                if receiver.is_whole() {
                    self.state = State::Verifying;
                }
            }
            (_, Err((outcome, detail))) => self.end(outcome, detail),
            (_, Ok(())) => {}
        }
    }

    /// [`Work::Verify`] is done.
    pub fn handle_finished(&mut self, job: u32, finished: Answer<Outcome>) {
        if self.is_current(job) {
            match finished {
                Ok(outcome) => self.end(outcome, 0),
                Err((outcome, detail)) => self.end(outcome, detail),
            }
        }
    }

    /// [`Work::Find`] is done: kind, length and hash of the blob.
    pub fn handle_found(&mut self, job: u32, found: Answer<(Kind, u32, [u8; 32])>) {
        if !self.is_current(job) {
            return;
        }
        match (found, &mut self.subject) {
            (Ok((_, _, sha256)), Some(wanted)) if wanted.sha256 != [0; 32] && wanted.sha256 != sha256 => {
                self.end(Outcome::Changed, 0);
            }
            (Ok((kind, size, sha256)), Some(subject)) => {
                (subject.kind, subject.size, subject.sha256) = (kind, size, sha256);
                self.state = State::Sending { sender: Sender::new(size), is_told: false, base: 0, len: 0 };
            }
            (Err((outcome, detail)), _) => self.end(outcome, detail),
            (Ok(_), None) => self.end(Outcome::NotFound, 0),
        }
    }

    /// [`Work::Read`] is done: the buffer holds `len` bytes from `offset` on.
    pub fn handle_read(&mut self, job: u32, offset: u32, len: usize, read: Answer<()>) {
        if !self.is_current(job) {
            return;
        }
        match (&mut self.state, read) {
            (State::Sending { base, len: buffered, .. }, Ok(())) => (*base, *buffered) = (offset, len),
            (_, Err((outcome, detail))) => self.end(outcome, detail),
            (_, Ok(())) => {}
        }
    }

    /// The next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        let frame = |frame| Some(Transmit::Frame(frame));
        if core::mem::take(&mut self.is_announce_due) {
            return frame(BlobFrame::Ack(Ack { transfer: 0, offset: 0, limit: self.capacity }));
        }
        if let Some((transfer, outcome)) = self.refused.take() {
            return frame(BlobFrame::Done(Done { transfer, outcome, detail: 0 }));
        }
        let transfer = self.transfer?;
        match &mut self.state {
            State::Receiving(receiver) => {
                let (offset, limit) = receiver.poll_ack()?;
                frame(BlobFrame::Ack(Ack { transfer, offset, limit }))
            }
            State::Ended { outcome, detail, is_told: is_told @ false } => {
                *is_told = true;
                let done = Done { transfer, outcome: *outcome, detail: *detail };
                self.transfer = None;
                frame(BlobFrame::Done(done))
            }
            State::Sending { is_told: is_told @ false, .. } => {
                *is_told = true;
                let Subject { kind, name, size, sha256, .. } = self.subject.as_ref()?;
                let (kind, size, sha256) = (*kind, *size, *sha256);
                frame(BlobFrame::Open(Open {
                    transfer,
                    action: Action::Give,
                    kind,
                    name,
                    size,
                    sha256,
                    signature: &[],
                }))
            }
            State::Sending { sender, base, len, .. } => {
                let (offset, most) = sender.sendable()?;
                let at = offset.checked_sub(*base)? as usize;
                let len = len.checked_sub(at)?.min(most);
                (len > 0).then_some(Transmit::Chunk { transfer, offset, at, len })
            }
            State::Idle | State::Beginning | State::Verifying | State::Ended { .. } | State::Finding => None,
        }
    }

    /// The first `len` bytes of what was offered are sent.
    pub fn handle_chunk_sent(&mut self, len: usize) {
        if let State::Sending { sender, .. } = &mut self.state {
            sender.handle_sent(len);
        }
    }

    /// The blob that is being received or was received last, and how many bytes of it are written.
    pub fn receiving(&self) -> Option<(&Subject, u32)> {
        let subject = self.subject.as_ref()?;
        match &self.state {
            State::Receiving(receiver) => Some((subject, receiver.written())),
            State::Beginning => Some((subject, 0)),
            State::Verifying => Some((subject, subject.size)),
            State::Ended { outcome, .. } if outcome.is_success() => Some((subject, subject.size)),
            State::Idle | State::Ended { .. } | State::Finding | State::Sending { .. } => None,
        }
    }

    /// How the last blob that was received ended.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Ended { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    /// The transfer is over for its peer; a blob that is being received is kept.
    fn suspend(&mut self) {
        if self.transfer.take().is_some() && matches!(self.state, State::Finding | State::Sending { .. }) {
            self.move_to(State::Idle);
        }
    }

    fn end(&mut self, outcome: Outcome, detail: u32) {
        self.move_to(State::Ended { outcome, detail, is_told: false });
    }

    fn move_to(&mut self, state: State) {
        self.state = state;
        self.job = self.job.wrapping_add(1);
    }

    /// Work ended; whether it still counts.
    fn is_current(&mut self, job: u32) -> bool {
        self.is_working = false;
        self.job == job
    }
}

impl Subject {
    /// What `open` is about, unless its name or signature has a wrong length.
    fn of(open: &Open<'_>) -> Option<Self> {
        let is_signed = [0, SIGNATURE_LEN].contains(&open.signature.len());
        let is_named = check_device_id(open.name).is_ok();
        Some(Self {
            kind: open.kind,
            name: String::try_from(open.name).ok().filter(|_| is_named)?,
            size: open.size,
            sha256: open.sha256,
            signature: Vec::from_slice(open.signature).ok().filter(|_| is_signed)?,
        })
    }
}

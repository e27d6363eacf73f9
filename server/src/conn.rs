//! A connection: its socket, what is half read and half written, and how far the device got.
//!
//! ```text
//! Greeting ──▶ Shaking ──▶ Hello ──▶ Attaching ──▶ Attached ──▶ Closing      a sealed link
//!                          Hello ──▶ …                                     a plain one
//! ```
//!
//! From every phase a fault leads to `Closing`. Up to `Hello` nothing is proved: a record of a sealed link that
//! opens proves who comes, and only then anything is asked or changed for it.

use std::net::SocketAddr;
use std::time::Duration;

use imlink_protocol::Instant;
use imlink_protocol::id::{Cursor, Epoch, Fingerprint, KeyMark, MessageId};
use imlink_protocol::message::Hello;
use imlink_protocol::seal::{Claim, Opener, Records};
use imlink_protocol::serving::Session;
use imlink_seal::{AttachRead, Fast, LoginRead};
use imlink_store::DeviceKey;
use mio::net::TcpStream;
use thin_vec::ThinVec;

use crate::blob::Transfers;
use crate::call::{PendingCall, WaitingCall};
use crate::inbox::LinkId;
use crate::interface::Interface;
use crate::out::Out;

/// Names a connection for as long as it lives: its place in the slab may be taken by another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnId {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

pub(crate) struct Conn {
    pub(crate) stream: TcpStream,
    pub(crate) serial: u32,
    pub(crate) phase: Phase,
    /// A frame that came in part, and since when.
    pub(crate) input: ThinVec<u8>,
    pub(crate) partial_since: Instant,
    pub(crate) out: Out,
    /// Opens the records of a sealed link.
    pub(crate) opener: Option<Box<Opener<Fast>>>,
    pub(crate) is_dirty: bool,
}

/// How far a connection got.
pub(crate) enum Phase {
    /// A sealed link on which nothing came yet; since when.
    Greeting { since: Instant },
    /// Its handshake is worked on; who comes, once that is known.
    Shaking { since: Instant, comes: Option<Box<Comes>> },
    /// `Hello` is awaited: of anybody on a plain link, of who the handshake named on a sealed one.
    Hello { since: Instant, comes: Option<Box<Comes>> },
    /// The store is asked.
    Attaching(Box<Attaching>),
    /// The device has its session.
    Attached(Box<Device>),
    /// The last frame is on its way; until when the peer may take it.
    Closing { until: Instant },
}

/// Who comes over a sealed link. Proved by its first record, not before.
pub(crate) struct Comes {
    pub(crate) name: DeviceKey,
    pub(crate) claim: Claim,
    /// The session to come has a larger epoch than this.
    pub(crate) epoch_floor: Epoch,
    pub(crate) how: Shown,
}

/// What a device showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A ticket, given for this key.
    Ticket(KeyMark),
    /// Nothing, on a plain link: it must be provisioned so.
    Nothing,
    /// Its key, which is one of those that it was provisioned with.
    Key([u8; 32]),
}

impl Shown {
    /// The key that is proved by it.
    pub(crate) const fn key(&self) -> KeyMark {
        match self {
            Self::Ticket(key) => *key,
            Self::Nothing => KeyMark::PLAIN,
            Self::Key(key) => KeyMark::of(key),
        }
    }
}

/// A device that was let in but has no session yet.
pub(crate) struct Attaching {
    pub(crate) about: About,
    /// What it showed: without a ticket its identity is checked first.
    pub(crate) shown: Shown,
    /// Larger of the device's last epoch and the ticket's floor.
    pub(crate) epoch_floor: Epoch,
    pub(crate) cursor: Cursor,
    pub(crate) since: Instant,
    /// The highest message announced meanwhile.
    pub(crate) hinted: MessageId,
    /// Sessions up to this epoch were kicked meanwhile.
    pub(crate) kicked: Epoch,
    pub(crate) calls: Vec<WaitingCall>,
    /// Who wants to hear of which message.
    pub(crate) reports: ThinVec<Report>,
    /// The connection this one is about to replace.
    pub(crate) predecessor: Option<ConnId>,
}

/// An attached device. Its lists are empty most of the time, and take a pointer then.
pub(crate) struct Device {
    pub(crate) about: About,
    pub(crate) session: Session,
    /// Who wants to hear of which message.
    pub(crate) reports: ThinVec<Report>,
    pub(crate) calls: ThinVec<PendingCall>,
    pub(crate) interface: Interface,
    /// A read of the mailbox failed; the sweep tries again.
    pub(crate) is_read_due: bool,
    /// When it is given its next ticket.
    pub(crate) renewal: Instant,
    /// Its mailbox is among those to be compared.
    pub(crate) is_head_due: bool,
    /// Its transfers of blobs, once it said that it takes part in them.
    pub(crate) blob: Option<Box<Transfers>>,
    /// Its session is no longer its own (replaced, kicked, revoked): nothing is detached when it ends.
    pub(crate) is_replaced: bool,
}

/// What `Hello` said, as far as it is needed later.
pub(crate) struct About {
    pub(crate) name: DeviceKey,
    /// The key that it proved.
    pub(crate) key: KeyMark,
    pub(crate) incarnation: u64,
    pub(crate) attempt: u32,
    pub(crate) receive_limit: u32,
    pub(crate) window: u8,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) event_queue: u64,
}

/// A route wants to know what becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) id: MessageId,
    pub(crate) link: LinkId,
    /// The device acknowledged it; else it came to another end.
    pub(crate) is_acked: bool,
}

/// A connection on its way to the I/O thread of its device.
pub(crate) struct Moving {
    pub(crate) stream: TcpStream,
    pub(crate) since: Instant,
    pub(crate) arriving: Arriving,
    /// Bytes that came behind what was handled.
    pub(crate) input: ThinVec<u8>,
}

/// How far a moving connection got.
pub(crate) enum Arriving {
    /// A plain link with its `Hello`.
    Hello(Attaching),
    /// A sealed link whose ticket opened.
    Ticket(Comes, Box<AttachRead>),
    /// A sealed link whose login was read.
    Login(DeviceKey, Box<LoginRead>),
}

impl Comes {
    /// By what its open handshakes are counted.
    pub(crate) fn who(&self) -> (DeviceKey, Claim) {
        (self.name.clone(), self.claim)
    }
}

impl Device {
    /// Whether its link has lasted so long that it should be made anew.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        now.since(self.session.opened()) >= SESSION_AGE_MAX
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_idle = self.calls.is_empty() && self.blob.as_ref().is_none_or(|transfers| !transfers.is_open());
        is_idle && self.session.in_flight() == 0 && !self.session.is_waiting()
    }
}

/// A sealed session is made anew after this long.
const SESSION_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

impl About {
    pub(crate) fn new(name: DeviceKey, key: KeyMark, claim: Claim, hello: &Hello<'_>) -> Self {
        Self {
            name,
            key,
            incarnation: claim.incarnation,
            attempt: claim.attempt,
            receive_limit: hello.receive_limit,
            window: hello.window,
            fingerprint: hello.fingerprint,
            event_queue: hello.event_queue,
        }
    }
}

impl Conn {
    pub(crate) fn new(stream: TcpStream, serial: u32, phase: Phase, now: Instant) -> Self {
        let out = match phase {
            Phase::Greeting { .. } | Phase::Shaking { .. } => Out::unsealed(),
            _ => Out::default(),
        };
        Self { stream, serial, phase, input: ThinVec::new(), partial_since: now, out, opener: None, is_dirty: false }
    }

    /// From here on everything is a record.
    pub(crate) fn seal(&mut self, records: Records<Fast>) {
        self.opener = Some(Box::new(records.opener));
        self.out.seal(records.sealer);
    }

    /// The device's name once it is known.
    pub(crate) fn name(&self) -> Option<&DeviceKey> {
        match &self.phase {
            Phase::Attaching(attaching) => Some(&attaching.about.name),
            Phase::Attached(device) => Some(&device.about.name),
            Phase::Greeting { .. } | Phase::Shaking { .. } | Phase::Hello { .. } | Phase::Closing { .. } => None,
        }
    }

    /// Whether nothing is proved yet.
    pub(crate) fn is_stranger(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Shaking { .. } | Phase::Hello { .. })
    }

    pub(crate) fn device(&mut self) -> Option<&mut Device> {
        match &mut self.phase {
            Phase::Attached(device) => Some(device),
            _ => None,
        }
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_device_takes_less_than_600_bytes_of_the_server() {
        let sizes = [size_of::<Conn>(), size_of::<Device>(), size_of::<Session>(), size_of::<About>()];
        // Besides these: a name of up to 113 bytes and 5 … 9 bytes of the table.
        assert!(sizes[0] + sizes[1] < 600, "{sizes:?}");
    }
}

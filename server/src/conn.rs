//! A connection: its socket, what is half read and half written, and how far the device got.
//!
//! ```text
//! Hello ──▶ Attaching ──▶ Attached ──▶ Closing
//!   │           │                        ▲
//!   └───────────┴───── any fault ────────┘
//! ```

use std::net::SocketAddr;

use imlink_protocol::Instant;
use imlink_protocol::frame;
use imlink_protocol::id::{Cursor, Epoch, Fingerprint, MessageId};
use imlink_protocol::message::{Hello, ToDevice};
use imlink_protocol::serving::{Session, Transmit};
use imlink_store::DeviceKey;
use mio::net::TcpStream;

use crate::call::{PendingCall, WaitingCall};
use crate::inbox::LinkId;
use crate::interface::Interface;

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
    pub(crate) input: Vec<u8>,
    pub(crate) partial_since: Instant,
    pub(crate) out: Out,
    pub(crate) is_dirty: bool,
}

/// How far a connection got.
pub(crate) enum Phase {
    /// Nothing is known of the peer; since when.
    Hello { since: Instant },
    /// The store is asked.
    Attaching(Box<Attaching>),
    /// The device has its session.
    Attached(Box<Device>),
    /// The last frame is on its way; until when the peer may take it.
    Closing { until: Instant },
}

/// A device that was let in but has no session yet.
pub(crate) struct Attaching {
    pub(crate) about: About,
    /// It came without a ticket: its identity is checked first.
    pub(crate) is_ticketless: bool,
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
    pub(crate) reports: Vec<Report>,
    /// The connection this one is about to replace.
    pub(crate) predecessor: Option<ConnId>,
}

/// An attached device.
pub(crate) struct Device {
    pub(crate) about: About,
    pub(crate) session: Session,
    /// Who wants to hear of which message.
    pub(crate) reports: Vec<Report>,
    pub(crate) calls: Vec<PendingCall>,
    pub(crate) interface: Interface,
    /// A read of the mailbox failed; the sweep tries again.
    pub(crate) is_read_due: bool,
    /// Its mailbox is among those to be compared.
    pub(crate) is_head_due: bool,
    /// Its session is no longer its own (replaced, kicked, revoked): nothing is detached when it ends.
    pub(crate) is_replaced: bool,
}

/// What `Hello` said, as far as it is needed later.
pub(crate) struct About {
    pub(crate) name: DeviceKey,
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
    pub(crate) attaching: Attaching,
    /// Bytes that came behind `Hello`.
    pub(crate) input: Vec<u8>,
}

impl About {
    pub(crate) fn new(name: DeviceKey, hello: &Hello<'_>) -> Self {
        Self {
            name,
            incarnation: hello.incarnation,
            attempt: hello.attempt,
            receive_limit: hello.receive_limit,
            window: hello.window,
            fingerprint: hello.fingerprint,
            event_queue: hello.event_queue,
        }
    }
}

impl Conn {
    pub(crate) fn new(stream: TcpStream, serial: u32, phase: Phase, now: Instant) -> Self {
        Self { stream, serial, phase, input: Vec::new(), partial_since: now, out: Out::default(), is_dirty: false }
    }

    /// The device's name once it is known.
    pub(crate) fn name(&self) -> Option<&DeviceKey> {
        match &self.phase {
            Phase::Attaching(attaching) => Some(&attaching.about.name),
            Phase::Attached(device) => Some(&device.about.name),
            Phase::Hello { .. } | Phase::Closing { .. } => None,
        }
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

/// Frames that wait for the socket.
#[derive(Default)]
pub(crate) struct Out {
    pub(crate) bytes: Vec<u8>,
    /// Messages among them, for the metric.
    pub(crate) messages: u32,
}

impl Transmit for Out {
    fn transmit(&mut self, message: &ToDevice<'_>) {
        if let ToDevice::Message { .. } = message {
            self.messages += 1;
        }
        // Sizes were checked against the largest frame before; a message that still does not fit is a fault
        // of ours, and the device gets it on its next connection or the attempt limit ends it.
        if imlink_link::encode_onto(message, &mut self.bytes).is_err() {
            tracing::error!("a frame for a device is longer than {} bytes", imlink_protocol::limits::FRAME_LEN_MAX);
        }
    }
}

/// The largest frame is never larger than what links carry.
const _: () = assert!(
    imlink_protocol::limits::FRAME_LEN_MAX + frame::LENGTH_LEN_MAX <= imlink_protocol::limits::LINK_FRAME_LEN_MAX
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_device_takes_less_than_700_bytes_of_the_server() {
        let sizes = [size_of::<Conn>(), size_of::<Device>(), size_of::<Session>(), size_of::<About>()];
        // Besides these: a name of up to 113 bytes and 5 … 9 bytes of the table.
        assert!(sizes[0] + sizes[1] < 700, "{sizes:?}");
    }
}

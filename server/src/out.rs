//! What waits for a socket: frames of a plain link, records of a sealed one.

use imlink_protocol::frame::{self, EncodeError, LENGTH_LEN_MAX};
use imlink_protocol::limits::FRAME_LEN_MAX;
use imlink_protocol::message::ToDevice;
use imlink_protocol::seal::{Sealer, ToStranger};
use imlink_protocol::serving::Transmit;
use imlink_seal::Fast;

/// Frames that wait for the socket.
#[derive(Default)]
pub(crate) struct Out {
    pub(crate) bytes: Vec<u8>,
    /// Messages among them, for the metric.
    pub(crate) messages: u32,
    link: Link,
}

#[derive(Default)]
enum Link {
    #[default]
    Plain,
    /// A sealed link before its handshake is done.
    Unsealed,
    Sealed(Box<Sealer<Fast>>),
}

impl Out {
    /// Of a sealed link whose handshake is not done.
    pub(crate) fn unsealed() -> Self {
        Self { link: Link::Unsealed, ..Self::default() }
    }

    pub(crate) fn seal(&mut self, sealer: Sealer<Fast>) {
        self.link = Link::Sealed(Box::new(sealer));
    }

    /// The peer speaks as on a plain link: it is told so in its own words.
    pub(crate) fn speak_plain(&mut self) {
        self.link = Link::Plain;
    }

    /// Whether it is a link whose handshake is done.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.link, Link::Sealed(_))
    }

    fn encode(&mut self, message: &ToDevice<'_>) -> Result<(), EncodeError> {
        let start = self.bytes.len();
        for room in [FRAME_GUESS, FRAME_LEN_MAX + LENGTH_LEN_MAX] {
            self.bytes.resize(start + room, 0);
            let area = self.bytes.get_mut(start..).unwrap_or_default();
            let written = match (&mut self.link, message) {
                (Link::Plain, _) => frame::encode(message, area),
                (Link::Sealed(sealer), _) => sealer.encode(message, area),
                (Link::Unsealed, ToDevice::Reject { code, retry_after_s }) => {
                    ToStranger::Refuse { code: *code, retry_after_s: *retry_after_s }.encode(area)
                }
                // Nothing else is said to somebody who proved nothing.
                (Link::Unsealed, _) => Ok(0),
            };
            if let Ok(len) = written {
                self.bytes.truncate(start + len);
                return Ok(());
            }
        }
        self.bytes.truncate(start);
        Err(EncodeError)
    }
}

impl Transmit for Out {
    fn transmit(&mut self, message: &ToDevice<'_>) {
        if let ToDevice::Message { .. } = message {
            self.messages += 1;
        }
        // Sizes were checked against the largest frame before; a message that still does not fit is a fault
        // of ours, and the device gets it on its next connection or the attempt limit ends it.
        if self.encode(message).is_err() {
            tracing::error!("a frame for a device is longer than {FRAME_LEN_MAX} bytes");
        }
    }
}

/// Room asked for first; most frames fit.
const FRAME_GUESS: usize = 512;

//! The frames of the floors: the least that a relay between backend and device can say.
//!
//! ```text
//! length u32 BE (of kind and body) · kind u8 · body
//! HELLO   device u32          device → server, echoed
//! BACKEND                     backend → server, echoed
//! PUSH    device u32, 16 bytes  backend → server → device
//! ACK     request u64         device → server → backend
//! UPLINK  32 bytes            device → server → backend
//! UPACK                       server → device
//! ```

use super::{EVENT_LEN, Event, Role, Unexpected, Wire, command, request_of};

/// A device names itself.
pub const HELLO: u8 = 1;
/// A backend names itself.
pub const BACKEND: u8 = 2;
/// A command for a device.
pub const PUSH: u8 = 3;
/// A device's answer.
pub const ACK: u8 = 4;
/// A device's event.
pub const UPLINK: u8 = 5;
/// The server has relayed an event.
pub const UPACK: u8 = 6;

/// One connection to a floor.
pub struct Raw {
    role: Role,
}

impl Wire for Raw {
    fn new(role: Role) -> Self {
        Self { role }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        match self.role {
            Role::Device(number) => put_frame(out, HELLO, &[&number.to_be_bytes()]),
            Role::Backend => put_frame(out, BACKEND, &[]),
        }
    }

    fn push(&mut self, device: u32, request: u64, out: &mut Vec<u8>) {
        put_frame(out, PUSH, &[&device.to_be_bytes(), &command(request)]);
    }

    fn publish(&mut self, count: u32, out: &mut Vec<u8>) {
        for _ in 0..count {
            put_frame(out, UPLINK, &[&[7; EVENT_LEN]]);
        }
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<(usize, Event)>, Unexpected> {
        let Some(frame) = Frame::first(bytes) else {
            return Ok(None);
        };
        let event = match frame.kind {
            HELLO | BACKEND => Event::Attached,
            PUSH => {
                let request = request_of(frame.body.get(4..).unwrap_or_default())?;
                put_frame(out, ACK, &[&request.to_be_bytes()]);
                Event::Commanded
            }
            ACK => Event::Answered(request_of(frame.body)?),
            UPLINK => Event::Delivered,
            UPACK => Event::Taken(1),
            other => return Err(Unexpected(format!("frame kind {other}"))),
        };
        Ok(Some((frame.whole.len(), event)))
    }
}

/// One whole frame at the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The frame with its length, as it is relayed.
    pub whole: &'a [u8],
    /// What it is.
    pub kind: u8,
    /// What follows the kind.
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the front, `None` while it is incomplete.
    pub fn first(bytes: &'a [u8]) -> Option<Self> {
        let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        let whole = bytes.get(..4 + length)?;
        let (kind, body) = whole.get(4..)?.split_first()?;
        Some(Self { whole, kind: *kind, body })
    }

    /// The device number that `HELLO` and `PUSH` begin with.
    pub fn device(&self) -> Option<usize> {
        Some(u32::from_be_bytes(*self.body.first_chunk()?) as usize)
    }
}

/// Appends one frame.
pub fn put_frame(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.push(kind);
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_acknowledges_the_request_of_a_push() {
        let (mut pushed, mut out, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        Raw::new(Role::Backend).push(7, 9, &mut pushed);
        let heard = Raw::new(Role::Device(7)).hear(&pushed, &mut out);
        assert_eq!(heard, Ok(Some((pushed.len(), Event::Commanded))));
        put_frame(&mut expected, ACK, &[&9_u64.to_be_bytes()]);
        assert_eq!(out, expected);
    }

    #[test]
    fn an_incomplete_frame_is_left_alone() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, HELLO, &[&7_u32.to_be_bytes()]);
        for cut in 0..bytes.len() {
            assert_eq!(Frame::first(&bytes[..cut]), None);
        }
        assert_eq!(Frame::first(&bytes).and_then(|frame| frame.device()), Some(7));
    }
}

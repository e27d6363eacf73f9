//! What a server says, in bytes.

use imlink_protocol::frame;
use imlink_protocol::message::{ToDevice, Welcome};

pub(crate) fn welcome(epoch: u64, event_position: u64) -> ToDevice<'static> {
    ToDevice::Welcome(Welcome {
        epoch,
        generation: 1,
        heartbeat_s: 300,
        frame_limit: 4096,
        event_window: 8,
        event_position,
        time_ms: 0,
        grant: b"",
    })
}

pub(crate) fn bytes(message: &ToDevice<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let len = frame::encode(message, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

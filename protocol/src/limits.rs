//! Every limit of the wire in one place, with its unit and its reason.

use core::time::Duration;

/// Longest device id in bytes (DESIGN §1).
pub const DEVICE_ID_LEN_MAX: usize = 64;
/// Longest tenant name in bytes.
pub const TENANT_LEN_MAX: usize = 32;
/// Longest `tenant/device` in bytes.
pub const DEVICE_KEY_LEN_MAX: usize = TENANT_LEN_MAX + 1 + DEVICE_ID_LEN_MAX;
/// Longest path in bytes.
pub const PATH_LEN_MAX: usize = 128;
/// Largest frame (body and check) a server takes from a device unless configured otherwise, in bytes.
pub const FRAME_LEN_DEFAULT: usize = 4 * 1024;
/// Largest frame that can be configured on a device link, in bytes.
pub const FRAME_LEN_MAX: usize = 64 * 1024;
/// Largest frame between nodes and backends, in bytes: a device frame and what names it.
pub const LINK_FRAME_LEN_MAX: usize = FRAME_LEN_MAX + 1024;
/// Largest frame a peer may send before `Welcome`, in bytes (nothing larger is buffered for a stranger).
pub const HELLO_FRAME_LEN_MAX: usize = 512;
/// Smallest receive limit a device may state, in bytes: every control frame fits, the longest is `Welcome` with the
/// longest grant.
pub const RECEIVE_LIMIT_MIN: usize = 256;
/// Bytes that a `Message` or `Call` adds to its payload at most: length 3, kind 1, sequence 8,
/// key 4, expiry 10, flags 1, payload length 3, and the longer check, a tag of 16.
pub const PAYLOAD_OVERHEAD: usize = 46;
/// Unacknowledged messages that a server keeps in flight to one device at most, whatever the device could hold.
pub const WINDOW_MAX: usize = 16;
/// Unacknowledged events that a device may have in flight at most.
pub const EVENT_WINDOW_MAX: u8 = 64;
/// Calls in flight to one device at most; the next one is refused as `busy`.
pub const CALLS_MAX: usize = 16;
/// Largest ticket in bytes: nonce 24, tag 16, the longest names and numbers.
pub const TICKET_LEN_MAX: usize = 168;
/// Largest grant in bytes: a ticket's key, and the ticket.
pub const GRANT_LEN_MAX: usize = 32 + TICKET_LEN_MAX;
/// Longest address text (`host:port`) in bytes.
pub const ADDRESS_LEN_MAX: usize = 128;
/// Largest interface description of one firmware, in bytes (DESIGN §8).
pub const INTERFACE_LEN_MAX: usize = 64 * 1024;
/// Largest chunk of an interface in one frame, in bytes.
pub const INTERFACE_CHUNK_MAX: usize = 256;

/// Interval in which a device sends a sign of life unless told otherwise.
pub const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(300);
/// Shortest interval that a server may ask for or a device may announce.
pub const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// Longest interval that a device may announce.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(3600);
/// A frame that stays partial for this long ends the connection.
pub const PARTIAL_FRAME_MAX: Duration = Duration::from_secs(30);
/// From the connection's first moment to its `Hello` (DESIGN §10, "Before proof").
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// An unacknowledged message older than this makes the server ask for a sign of life.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time to wait for the answer to a `Probe`.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time a handler may take before its message counts as an attempt; `Busy` extends it.
pub const HANDLING_MAX: Duration = Duration::from_secs(300);
/// Longest delay that a device believes from `Reject` and `GoAway`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Generations and sequences stay below 2^53, so that every language can hold them.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;
/// A generation further ahead of the store's time than this is refused.
pub const GENERATION_AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// The cut: a link silent for 5/3 of the announced interval is dead (300 s → 500 s).
pub const fn cut_after(interval: Duration) -> Duration {
    Duration::from_millis((interval.as_millis() as u64).saturating_mul(5) / 3)
}

const _: () = assert!(HELLO_FRAME_LEN_MAX >= 64 + DEVICE_KEY_LEN_MAX + TICKET_LEN_MAX);
const _: () = assert!(FRAME_LEN_DEFAULT <= FRAME_LEN_MAX);
const _: () = assert!(RECEIVE_LIMIT_MIN > PAYLOAD_OVERHEAD);
const _: () = assert!(RECEIVE_LIMIT_MIN >= 40 + 16 + GRANT_LEN_MAX);
const _: () = assert!(LINK_FRAME_LEN_MAX > FRAME_LEN_MAX + DEVICE_KEY_LEN_MAX + PATH_LEN_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_heartbeat_is_cut_at_500_s() {
        assert_eq!(cut_after(HEARTBEAT_DEFAULT), Duration::from_secs(500));
    }
}

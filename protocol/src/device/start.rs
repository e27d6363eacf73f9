//! What a session is told once: where it begins, and what `Hello` says.

use super::events::EventRange;
use super::pace::Pacing;
use crate::id::{Cursor, Fingerprint};

/// What a device begins with after power-on.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Drawn at random; never 0.
    pub incarnation: core::num::NonZeroU64,
    /// Incarnation of the event queue, drawn at random when it starts empty; 0 without events.
    pub event_queue: u64,
    /// How far that queue got; nothing for a new one.
    pub events: EventRange,
    /// How far the mailbox was handled, `0-0` when that was not kept.
    pub cursor: Cursor,
    /// How often it gives a sign of life.
    pub heartbeat: Pacing,
}

/// What `Hello` says and no rule depends on.
#[derive(Clone, Copy, Debug)]
pub struct Profile<'a> {
    /// Tenant, `-` when there is only one.
    pub tenant: &'a str,
    /// Device id.
    pub device: &'a str,
    /// Largest frame (body and check) the device takes, in bytes.
    pub receive_limit: u32,
    /// Unacknowledged messages the device can hold.
    pub window: u8,
    /// The interface the firmware speaks.
    pub fingerprint: Fingerprint,
    /// What kind of link it is.
    pub link: LinkKind,
}

/// Whether a handshake comes before `Hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// It does, and said who the device is.
    Sealed,
    /// It does not.
    Plain,
}

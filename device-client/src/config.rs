//! What a device is told at its start.

use imlink_protocol::MessageId;
#[cfg(feature = "flash")]
use imlink_protocol::device::EventRange;
use imlink_protocol::device::{LinkKind, Pacing};
use imlink_protocol::id::{TENANT_DEFAULT, check_device_id, check_tenant};
#[cfg(feature = "seal")]
use imlink_protocol::seal::KEY_LEN;

use crate::address::Address;
use crate::error::ConfigError;
use crate::interface::Interface;

/// Who the device is and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// Tenant; `-` by default.
    pub tenant: &'a str,
    /// Device id: 1–64 bytes of `[A-Za-z0-9._:-]`.
    pub device: &'a str,
    /// Routes or gateways, tried in turn; at least one. Each is `HOST:PORT`: an IP address (`192.168.1.10:7000`, with
    /// feature `ipv6` also `[2001:db8::1]:7000`) or a name (`im.example.com:7000`), looked up for each connection anew.
    pub routes: &'a [&'a str],
    /// What the firmware speaks; empty by default: keys are not checked and backends see keys, not paths.
    pub interface: Interface,
    /// Unacknowledged messages that the device holds, 1 … 255; 8 by default. When they do not fit the inbox
    /// the device stops reading until its handler is done, and tells that it lives.
    pub window: u8,
    /// What happens when the event queue is full; the newest is refused by default.
    pub overflow: Overflow,
    /// Where the last power-on ended; nothing by default.
    pub resume: Resume,
    /// Where the event queue goes on that is kept in flash; none is kept by default.
    #[cfg(feature = "flash")]
    pub events: Option<EventStart>,
    /// How often the device gives a sign of life: as the server asks by default (300 s unless its operator changed it),
    /// or [`Pacing::Adaptive`].
    pub heartbeat: Pacing,
    /// What proves the device and its server; `None` for a plain link, which proves and hides nothing.
    #[cfg(feature = "seal")]
    pub keys: Option<Keys<'a>>,
}

/// The keys of a sealed link, 32 bytes each. `imlink device add` prints them.
#[cfg(feature = "seal")]
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    /// The device's X25519 private key.
    pub private_key: &'a [u8; KEY_LEN],
    /// The X25519 public keys of its routes, pinned: current and next. At least one.
    pub route_keys: &'a [[u8; KEY_LEN]],
    /// The secret of the fleet, when there is one.
    pub psk: Option<&'a [u8; KEY_LEN]>,
}

#[cfg(feature = "seal")]
impl core::fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// What happens to an event that finds the queue full. Counted either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Overflow {
    /// It is refused.
    #[default]
    RefuseNewest,
    /// The oldest events that were never sent make room; in flash, the oldest page of events.
    DropOldest,
}

/// What a [`CursorStore`](crate::CursorStore) kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Resume {
    /// The last message that was done.
    pub done: MessageId,
    /// The last message that was started. When it is not done it comes again, marked as redelivered.
    pub started: MessageId,
}

/// Where an event queue that is kept in flash goes on; a [`FlashQueue`](crate::flash::FlashQueue) gives it.
#[cfg(feature = "flash")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventStart {
    pub(crate) queue: u64,
    pub(crate) range: EventRange,
}

impl<'a> Config<'a> {
    /// The defaults, for the device `device` that logs in at one of `routes` and proves itself by `keys`.
    #[cfg(feature = "seal")]
    pub const fn new(device: &'a str, routes: &'a [&'a str], keys: Keys<'a>) -> Self {
        Self { keys: Some(keys), ..Self::plain(device, routes) }
    }

    /// The same over plain links, for development on a trusted network: everybody on the path can read and change
    /// what is said, and be the device. The id must be provisioned as plain, and `routes` name their plain ports.
    pub const fn plain(device: &'a str, routes: &'a [&'a str]) -> Self {
        Self {
            tenant: TENANT_DEFAULT,
            device,
            routes,
            interface: Interface::NONE,
            window: 8,
            overflow: Overflow::RefuseNewest,
            resume: Resume { done: MessageId::new(0, 0), started: MessageId::new(0, 0) },
            #[cfg(feature = "flash")]
            events: None,
            heartbeat: Pacing::Server,
            #[cfg(feature = "seal")]
            keys: None,
        }
    }

    pub(crate) fn link(&self) -> LinkKind {
        #[cfg(feature = "seal")]
        if self.keys.is_some() {
            return LinkKind::Sealed;
        }
        LinkKind::Plain
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_tenant(self.tenant).map_err(ConfigError::Tenant)?;
        check_device_id(self.device).map_err(ConfigError::Device)?;
        if self.routes.is_empty() {
            return Err(ConfigError::NoRoute);
        }
        if let Some(number) = self.routes.iter().position(|route| Address::read(route).is_none()) {
            return Err(ConfigError::Route { number });
        }
        if self.window == 0 {
            return Err(ConfigError::Window);
        }
        #[cfg(feature = "seal")]
        if self.keys.is_some_and(|keys| keys.route_keys.is_empty()) {
            return Err(ConfigError::NoRouteKey);
        }
        Ok(())
    }
}

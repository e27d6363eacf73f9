//! What the host tells the firmware at its start.

use core::fmt;

use heapless::{String, Vec};
use imlink_device_client::{Config, Keys, Pacing};
use imlink_protocol::key_pair::{KEY_LEN, PrivateKey, Psk, PublicKey};
use static_cell::ConstStaticCell;

use crate::host;

/// Who the device is and where it goes.
pub(crate) struct Arguments {
    pub(crate) device: &'static str,
    pub(crate) routes: Vec<&'static str, 4>,
    /// Where the device's private key comes from.
    pub(crate) key: Key,
    /// The public keys of its routes.
    route_keys: Vec<[u8; KEY_LEN], 2>,
    /// The secret of its fleet.
    psk: Option<Psk>,
    /// The Ed25519 public keys by which firmware images are signed.
    pub(crate) update_keys: Vec<[u8; KEY_LEN], 2>,
    pub(crate) has_flash: bool,
    heartbeat: Pacing,
    /// How many times as fast as the board's its clock runs.
    pub(crate) speed: u32,
    /// For how much of each wait for an answer it runs at real speed.
    pub(crate) patience_ms: u32,
}

/// Where a private key comes from.
pub(crate) enum Key {
    /// There is none: the links are plain.
    None,
    /// From the host.
    Given(PrivateKey),
    /// From flash; the device draws it at its first power-on.
    Flash,
}

/// Why the firmware does not start.
pub(crate) enum Wrong {
    Argument(String<64>),
    NoDevice,
    NoRoute,
    NoRouteKey,
    NoFlash,
}

impl Arguments {
    /// Reads the command line that semihosting gives.
    pub(crate) fn read() -> Result<Self, Wrong> {
        static LINE: ConstStaticCell<[u8; 640]> = ConstStaticCell::new([0; 640]);
        let mut arguments = Self {
            device: "",
            routes: Vec::new(),
            key: Key::None,
            route_keys: Vec::new(),
            psk: None,
            update_keys: Vec::new(),
            has_flash: true,
            heartbeat: Pacing::Server,
            speed: 1,
            patience_ms: 0,
        };
        // The first word names the program.
        for word in host::command_line(LINE.take()).split(' ').skip(1) {
            arguments
                .take(word)
                .ok_or_else(|| Wrong::Argument(word.chars().take(64).filter(char::is_ascii).collect()))?;
        }
        match (arguments.device.is_empty(), arguments.routes.is_empty()) {
            (true, _) => Err(Wrong::NoDevice),
            (_, true) => Err(Wrong::NoRoute),
            _ if !matches!(arguments.key, Key::None) && arguments.route_keys.is_empty() => Err(Wrong::NoRouteKey),
            _ if matches!(arguments.key, Key::Flash) && !arguments.has_flash => Err(Wrong::NoFlash),
            _ => Ok(arguments),
        }
    }

    /// Who the device is, as the client wants it; without `private_key` its links are plain.
    pub(crate) fn config<'a>(&'a self, private_key: Option<&'a PrivateKey>) -> Config<'a> {
        let config = match private_key {
            None => Config::plain(self.device, &self.routes),
            Some(private_key) => {
                let psk = self.psk.as_ref().map(Psk::bytes);
                let keys = Keys { private_key: private_key.bytes(), route_keys: &self.route_keys, psk };
                Config::new(self.device, &self.routes, keys)
            }
        };
        Config { heartbeat: self.heartbeat, ..config }
    }

    fn take(&mut self, word: &'static str) -> Option<()> {
        let (name, value) = word.split_once('=')?;
        match name {
            "device" => self.device = value,
            "route" => self.routes.push(value).ok()?,
            "private_key" if value == "flash" => self.key = Key::Flash,
            "private_key" => self.key = Key::Given(value.parse().ok()?),
            "route_key" => self.route_keys.push(value.parse::<PublicKey>().ok()?.0).ok()?,
            "psk" => self.psk = Some(value.parse().ok()?),
            // Written as public keys of the other kind are.
            "update_key" => self.update_keys.push(value.parse::<PublicKey>().ok()?.0).ok()?,
            "heartbeat" if value == "adaptive" => self.heartbeat = Pacing::Adaptive,
            "flash" => self.has_flash = value != "no",
            "speed" => self.speed = value.parse().ok().filter(|speed| (1..=10_000).contains(speed))?,
            "patience_ms" => self.patience_ms = value.parse().ok().filter(|patience_ms| *patience_ms <= 60_000)?,
            _ => return None,
        }
        Some(())
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The value may be a secret.
            Self::Argument(word) => write!(
                f,
                "`{}` is no argument; there are device=ID, route=HOST:PORT (up to 4), private_key=HEX or \
                 private_key=flash, route_key=HEX (up to 2), psk=HEX, update_key=HEX (up to 2), flash=no, \
                 heartbeat=adaptive, speed=1…10000, patience_ms=0…60000",
                word.split('=').next().unwrap_or_default()
            ),
            Self::NoRouteKey => f.write_str("route_key=HEX is missing: what the device pins"),
            Self::NoFlash => f.write_str("private_key=flash and flash=no: there is nowhere to keep the key"),
            Self::NoDevice => f.write_str("device=ID is missing"),
            Self::NoRoute => f.write_str("route=HOST:PORT is missing"),
        }
    }
}

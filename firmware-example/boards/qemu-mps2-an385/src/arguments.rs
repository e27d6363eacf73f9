//! What the host tells the firmware at its start.

use core::fmt;
use core::net::SocketAddr;

use heapless::{String, Vec};

use crate::host;

/// Who the device is and where it goes.
pub(crate) struct Arguments {
    pub(crate) device: String<64>,
    pub(crate) routes: Vec<SocketAddr, 4>,
    pub(crate) has_flash: bool,
    /// How many times as fast as the board's its clock runs.
    pub(crate) speed: u32,
}

/// Why the firmware does not start.
pub(crate) enum Wrong {
    Argument(String<64>),
    NoDevice,
    NoRoute,
}

impl Arguments {
    /// Reads the command line that semihosting gives.
    pub(crate) fn read() -> Result<Self, Wrong> {
        let mut line = [0; 512];
        let mut arguments = Self { device: String::new(), routes: Vec::new(), has_flash: true, speed: 1 };
        // The first word names the program.
        for word in host::command_line(&mut line).split(' ').skip(1) {
            arguments
                .take(word)
                .ok_or_else(|| Wrong::Argument(word.chars().take(64).filter(char::is_ascii).collect()))?;
        }
        match (arguments.device.is_empty(), arguments.routes.is_empty()) {
            (true, _) => Err(Wrong::NoDevice),
            (_, true) => Err(Wrong::NoRoute),
            _ => Ok(arguments),
        }
    }

    fn take(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=')?;
        match name {
            "device" => self.device = String::try_from(value).ok()?,
            "route" => self.routes.push(value.parse().ok()?).ok()?,
            "flash" => self.has_flash = value != "no",
            "speed" => self.speed = value.parse().ok().filter(|speed| (1..=10_000).contains(speed))?,
            _ => return None,
        }
        Some(())
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(word) => write!(
                f,
                "`{word}` is no argument; there are device=ID, route=IP:PORT (up to 4), flash=no, speed=1…10000"
            ),
            Self::NoDevice => f.write_str("device=ID is missing"),
            Self::NoRoute => f.write_str("route=IP:PORT is missing"),
        }
    }
}

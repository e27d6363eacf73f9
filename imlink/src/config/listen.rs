//! An address to listen on, or none.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `host:port` of this machine, port 0 for a free one, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen(Option<SocketAddr>);

/// A text that is neither an address nor `none`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an address to listen on; expected 127.0.0.1:PORT, [::1]:PORT (0 for a free port) or none")]
pub(crate) struct ListenError(String);

impl Listen {
    /// No listener.
    pub(crate) const NONE: Self = Self(None);

    /// A listener at `address`.
    pub(crate) const fn at(address: SocketAddr) -> Self {
        Self(Some(address))
    }

    /// The address, if there is to be a listener.
    pub(crate) const fn address(self) -> Option<SocketAddr> {
        self.0
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let text = text.replacen("localhost:", "127.0.0.1:", 1);
        text.parse().map(Self::at).map_err(|_| ListenError(text))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

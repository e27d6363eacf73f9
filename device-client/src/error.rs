//! What can go wrong, sorted by whose fault it is.

use core::fmt;

use embedded_io_async::ErrorKind;
use imlink_protocol::device::SessionError;
use imlink_protocol::message::{GoAwayReason, RejectCode};
use imlink_protocol::seal::SealError;
use imlink_protocol::{FrameError, IdError};

/// Who has to do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Fault {
    /// The firmware's author or the device's owner.
    Configuration,
    /// The server.
    Peer,
    /// The board: randomness, memory.
    Resource,
    /// The network.
    Transport,
}

/// Why a connection ended or could not be made. All but configuration and resource are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error {
    /// The configuration cannot work.
    Config(ConfigError),
    /// The source of randomness failed.
    Rng,
    /// The network reported this.
    Transport(ErrorKind),
    /// The name of a route or server could not be looked up.
    Lookup,
    /// The connection could not be made in time.
    ConnectTimeout,
    /// What was written did not go out in time.
    WriteTimeout,
    /// The server closed the connection without a word.
    Closed,
    /// Bytes that are not a frame, or not a frame for devices.
    Frame(FrameError),
    /// A frame stayed partial for 30 s.
    PartialFrame,
    /// The handshake of the sealed link came to nothing.
    Seal(SealError),
    /// The server broke a rule or fell silent.
    Session(SessionError),
    /// The server named an address that is not `HOST:PORT`.
    Address,
    /// The server takes smaller frames than this device sends.
    FrameLimit {
        /// Largest frame the server takes, in bytes.
        server: u32,
        /// Largest frame the device may send, in bytes.
        device: u32,
    },
    /// The server refused.
    Rejected(RejectCode),
    /// The server asked the device to leave.
    Asked(GoAwayReason),
}

/// What is wrong with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConfigError {
    /// The tenant does not have its form.
    Tenant(IdError),
    /// The device id does not have its form.
    Device(IdError),
    /// No route is given.
    NoRoute,
    /// A route is not `HOST:PORT`.
    Route {
        /// Which one, from 0.
        number: usize,
    },
    /// No key of a route is pinned.
    NoRouteKey,
    /// The window is 0.
    Window,
    /// The event queue is not the one of this device's `Config::events`.
    #[cfg(feature = "flash")]
    EventQueue,
    /// The buffer is too small for `Hello` with its ticket.
    HelloTooLong,
}

impl Error {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Config(_) | Self::FrameLimit { .. } => Fault::Configuration,
            Self::Rejected(
                RejectCode::UnknownDevice | RejectCode::Revoked | RejectCode::Version | RejectCode::Unsealed,
            )
            | Self::Seal(SealError::Plain | SealError::Buffer { .. }) => Fault::Configuration,
            Self::Rng => Fault::Resource,
            Self::Transport(ErrorKind::OutOfMemory) => Fault::Resource,
            Self::Transport(_)
            | Self::Lookup
            | Self::ConnectTimeout
            | Self::WriteTimeout
            | Self::Closed
            | Self::PartialFrame => Fault::Transport,
            Self::Session(SessionError::Silent { .. }) => Fault::Transport,
            Self::Frame(_) | Self::Seal(_) | Self::Session(_) | Self::Address | Self::Rejected(_) | Self::Asked(_) => {
                Fault::Peer
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Rng => f.write_str("the source of randomness failed"),
            Self::Transport(kind) => write!(f, "the network says: {kind:?}"),
            Self::Lookup => f.write_str("the name of the server is not found"),
            Self::ConnectTimeout => f.write_str("no connection within 10 s"),
            Self::WriteTimeout => f.write_str("a write did not go out within 30 s"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Frame(error) => error.fmt(f),
            Self::PartialFrame => f.write_str("a frame stayed partial for 30 s"),
            Self::Seal(error) => error.fmt(f),
            Self::Session(error) => error.fmt(f),
            Self::Address => f.write_str("the server named an address that is not HOST:PORT"),
            Self::FrameLimit { server, device } => {
                write!(
                    f,
                    "the server takes frames of {server} bytes, this device sends up to {device}: make its OUT smaller"
                )
            }
            Self::Rejected(code) => write!(f, "the server refused: {code}"),
            Self::Asked(reason) => write!(f, "the server asked the device to leave: {reason}"),
        }
    }
}

impl core::error::Error for Error {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(error) => write!(f, "tenant {error}"),
            Self::Device(error) => write!(f, "device id {error}"),
            Self::NoRoute => f.write_str("no route or gateway is given, at least one is needed"),
            Self::Route { number } => {
                write!(f, "route {number} is not HOST:PORT, as 192.168.1.10:7000 or im.example.com:7000")
            }
            Self::NoRouteKey => f.write_str("no key of a route is pinned, at least one is needed"),
            Self::Window => f.write_str("the window is 0, it must be 1 to 255"),
            #[cfg(feature = "flash")]
            Self::EventQueue => f.write_str("the event queue is not the one whose start is in Config::events"),
            Self::HelloTooLong => f.write_str("Hello with its ticket does not fit the buffer: make FRAME larger"),
        }
    }
}

impl core::error::Error for ConfigError {}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

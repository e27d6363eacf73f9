//! Making a link: connect, introduce oneself, be welcomed.

use std::io;
use std::time::Duration;

use imlink_link::{Link, OUTBOX_LEN_DEFAULT, over_stream, over_tcp};
use imlink_protocol::VERSION;
use imlink_protocol::frame;
use imlink_protocol::link::backend::{FromBackend, ToBackend};
use tokio::net::TcpStream;

use crate::{Access, Error, tls};

/// Why there is no link to a route.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No address was given.
    #[error("no address of a route was given; give host:port, several separated by commas")]
    NoAddress,
    /// The address begins with something else than `imlink://` or `imlinks://`.
    #[error("{address} is not an address of a backend link; give host:port, or imlinks://host:port for TLS")]
    Scheme {
        /// What was given.
        address: String,
    },
    /// TLS is asked for and nobody is trusted.
    #[error("{address} is reached over TLS and no authority is trusted; name its PEM file by Access::trusting")]
    NoAuthority {
        /// Where.
        address: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to {address}: {error}")]
    Io {
        /// Where.
        address: String,
        /// Why not.
        error: io::Error,
    },
    /// The route refuses this client.
    #[error("the route at {address} refuses this client: {error}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        error: Error,
    },
    /// What answers there is not a route's backend link.
    #[error("what answers at {address} is not the backend link of a route")]
    NotARoute {
        /// Where.
        address: String,
    },
}

/// Where to connect and as whom.
#[derive(Clone)]
pub(crate) struct Target {
    addresses: Vec<String>,
    access: Access,
    name: String,
}

/// A welcomed link.
pub(crate) struct Dialled {
    pub(crate) link: Link,
    /// Requests that the route takes at once on it.
    pub(crate) requests_max: usize,
}

impl Target {
    /// `addresses` are `host:port` or `imlinks://host:port`, separated by commas.
    pub(crate) fn new(addresses: &str, access: Access, name: &str) -> Result<Self, ConnectError> {
        let addresses: Vec<String> =
            addresses.split(',').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect();
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        Ok(Self { addresses, access, name: name.into() })
    }

    /// Tries every address once, beginning with number `first`.
    pub(crate) async fn dial(&self, first: usize) -> Result<Dialled, ConnectError> {
        let mut failed = ConnectError::NoAddress;
        for turn in 0..self.addresses.len() {
            let at = (first + turn) % self.addresses.len();
            let Some(address) = self.addresses.get(at) else {
                break;
            };
            match self.dial_one(address).await {
                Ok(dialled) => return Ok(dialled),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn dial_one(&self, address: &str) -> Result<Dialled, ConnectError> {
        let io = |error| ConnectError::Io { address: address.to_owned(), error };
        let (is_tls, host_port) = match address.split_once("://") {
            None => (false, address),
            Some(("imlink", host_port)) => (false, host_port),
            Some(("imlinks", host_port)) => (true, host_port),
            Some(_) => return Err(ConnectError::Scheme { address: address.to_owned() }),
        };
        let stream = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(host_port)).await;
        let stream = stream.map_err(|late| io(late.into()))?.map_err(io)?;
        let mut link = match is_tls {
            false => over_tcp(stream, OUTBOX_LEN_DEFAULT).map_err(io)?,
            true => {
                stream.set_nodelay(true).map_err(io)?;
                let Some(ca_file) = &self.access.ca_file else {
                    return Err(ConnectError::NoAuthority { address: address.to_owned() });
                };
                let secured = tokio::time::timeout(CONNECT_MAX, tls::connect(stream, host_port, ca_file)).await;
                over_stream(secured.map_err(|late| io(late.into()))?.map_err(io)?, OUTBOX_LEN_DEFAULT)
            }
        };
        let hello = FromBackend::Hello {
            version: VERSION,
            token: &self.access.token,
            name: &self.name,
            tenant: &self.access.tenant,
        };
        let not_a_route = || ConnectError::NotARoute { address: address.to_owned() };
        link.sender.send(&hello).map_err(|_| not_a_route())?;
        let welcome = tokio::time::timeout(CONNECT_MAX, link.receiver.receive()).await;
        let welcome = welcome.map_err(|late| io(late.into()))?;
        let batch = welcome.map_err(|_| not_a_route())?.ok_or_else(not_a_route)?;
        let body = batch.frames().next().and_then(Result::ok).unwrap_or(&[]);
        match frame::decode::<ToBackend<'_>>(body) {
            Ok(ToBackend::Welcome { requests_max, .. }) => {
                Ok(Dialled { link, requests_max: usize::try_from(requests_max).unwrap_or(usize::MAX).max(1) })
            }
            Ok(ToBackend::Failed { failure, retry_after_ms, detail, .. }) => Err(ConnectError::Refused {
                address: address.to_owned(),
                error: Error::of(failure, retry_after_ms, detail),
            }),
            _ => Err(not_a_route()),
        }
    }
}

/// Longest wait for a connection, and then for the welcome.
const CONNECT_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_separated_by_commas_and_at_least_one() {
        let target = Target::new(" 127.0.0.1:1, [::1]:2,", "t".into(), "n").unwrap();
        assert_eq!(target.addresses, ["127.0.0.1:1", "[::1]:2"]);
        assert!(matches!(Target::new(" ,", "t".into(), "n"), Err(ConnectError::NoAddress)));
    }
}

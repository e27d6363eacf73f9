//! TCP ports that no two tests share.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

/// Below the range from which Linux gives ports to outgoing connections, so that none of these takes one.
const RANGE: std::ops::Range<u16> = 12_000..30_000;

/// A port of this test alone, until dropped: a process may leave it and come back to it.
///
/// It is claimed by a name in the kernel (an abstract socket), which ends with the process that holds it.
pub struct Port {
    number: u16,
    _claim: UnixListener,
}

impl Port {
    /// A port that nobody listens on and no other test has.
    ///
    /// # Panics
    /// When every port of the range is taken.
    pub fn free() -> Self {
        let count = RANGE.end - RANGE.start;
        let first = (std::process::id().wrapping_mul(97) % u32::from(count)) as u16;
        (0..count)
            .map(|step| RANGE.start + (first + step) % count)
            .find_map(Self::claim)
            .expect("a free port below 30000")
    }

    fn claim(number: u16) -> Option<Self> {
        let name = UnixAddr::from_abstract_name(format!("imlink-tests-port-{number}")).ok()?;
        let claim = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _claim: claim })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on loopback.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_is_not_given_twice() {
        let ports: Vec<_> = (0..50).map(|_| Port::free()).collect();
        let mut numbers: Vec<_> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        assert!(ports.iter().all(|port| TcpListener::bind(port.address()).is_ok()));
    }
}

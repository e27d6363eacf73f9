//! `HOST:PORT`, of routes and of the IM-servers that they name.

#[cfg(feature = "ipv6")]
use core::net::Ipv6Addr;
use core::net::{Ipv4Addr, SocketAddr};

/// An address as text, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address<'a> {
    /// An IP address.
    Ip(SocketAddr),
    /// A name, to be looked up.
    Name { host: &'a str, port: u16 },
}

/// Longest name that DNS knows, in bytes.
const NAME_LEN_MAX: usize = 253;

impl<'a> Address<'a> {
    /// `None` when it does not have its form: `192.168.1.10:7000`, `im.example.com:7000`, and with feature `ipv6`
    /// `[2001:db8::1]:7000`.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let (host, port) = text.split_at_checked(text.bytes().rposition(|byte| byte == b':')?)?;
        let port = port.get(1..)?.parse().ok().filter(|port| *port > 0)?;
        #[cfg(feature = "ipv6")]
        if let Some(ip) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let ip: Ipv6Addr = ip.parse().ok()?;
            return Some(Self::Ip(SocketAddr::from((ip, port))));
        }
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return Some(Self::Ip(SocketAddr::from((ip, port))));
        }
        // One without a letter is an IP address that is none.
        let is_name = host.len() <= NAME_LEN_MAX
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
            && host.bytes().any(|byte| byte.is_ascii_alphabetic());
        is_name.then_some(Self::Name { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_read_and_what_is_neither_is_not() {
        for text in ["192.168.1.10:7000", "[2001:db8::1]:7000"] {
            assert_eq!(Address::read(text), Some(Address::Ip(text.parse().unwrap())));
        }
        for host in ["im.example.com", "gateway", "gateway.local", "a_b-1.test.", "10.example"] {
            let text = std::format!("{host}:7000");
            assert_eq!(Address::read(&text), Some(Address::Name { host, port: 7000 }));
        }
        let long = std::format!("{}:7", "a".repeat(254));
        let wrong = [
            "",
            ":7000",
            "gateway",
            "gateway:",
            "gateway:0",
            "gateway:65536",
            "[::1:7",
            "10.0.0.300:7",
            "::1:7",
            "a b:7",
        ];
        for text in wrong.into_iter().chain([&*long, "http://gateway:7", "gate\u{e9}:7"]) {
            assert_eq!(Address::read(text), None, "{text}");
        }
    }
}

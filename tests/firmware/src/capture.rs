//! What went over a board's cable, from the file of QEMU's `filter-dump` (pcap, Ethernet).

use std::path::Path;
use std::time::Duration;

/// One Ethernet frame.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When, since the first one.
    pub at: Duration,
    /// Its bytes in all, without the Ethernet check.
    pub len: usize,
    /// What it is.
    pub kind: Kind,
}

/// What a packet is, as far as the tests ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Address resolution.
    Arp,
    /// A DHCP message.
    Dhcp {
        /// Whether the board sent it.
        is_from_board: bool,
    },
    /// A TCP segment.
    Tcp {
        /// Whether the board sent it.
        is_from_board: bool,
        /// Whether it opens the connection (SYN), from either side.
        is_opening: bool,
        /// What it carries.
        payload: Vec<u8>,
    },
    /// Something else.
    Other(Vec<u8>),
}

/// What `packets` carried: payload bytes of TCP from the board and to it, bytes in all, and how many they are.
pub fn carried(packets: &[Packet]) -> (usize, usize, usize, usize) {
    let payload = |from: bool| {
        let len = |kind: &Kind| match kind {
            Kind::Tcp { is_from_board, payload, .. } if *is_from_board == from => payload.len(),
            _ => 0,
        };
        packets.iter().map(|packet| len(&packet.kind)).sum()
    };
    (payload(true), payload(false), packets.iter().map(|packet| packet.len).sum(), packets.len())
}

/// The packets of the capture at `path`; a packet that is not written whole yet is left out.
///
/// # Panics
/// When it is no capture.
pub fn read(path: &Path) -> Vec<Packet> {
    let file = std::fs::read(path).unwrap_or_else(|why| panic!("cannot read {}: {why}", path.display()));
    let Some(mut rest) = file.get(HEADER_LEN..) else { return Vec::new() };
    let mut packets = Vec::new();
    let mut first = None;
    while let Some((head, tail)) = rest.split_at_checked(RECORD_LEN) {
        let word = |index: usize| u32::from_le_bytes(head[index * 4..index * 4 + 4].try_into().expect("4 bytes"));
        let at = Duration::new(word(0).into(), 0) + Duration::from_micros(word(1).into());
        let Some((bytes, tail)) = tail.split_at_checked(word(2) as usize) else { break };
        rest = tail;
        let at = at.saturating_sub(*first.get_or_insert(at));
        packets.push(Packet { at, len: bytes.len(), kind: kind(bytes) });
    }
    packets
}

fn kind(bytes: &[u8]) -> Kind {
    match bytes.get(ETHER_TYPE..ETHER_LEN) {
        Some([0x08, 0x06]) => Kind::Arp,
        Some([0x08, 0x00]) => ip(&bytes[ETHER_LEN..]).unwrap_or_else(|| Kind::Other(bytes.to_vec())),
        _ => Kind::Other(bytes.to_vec()),
    }
}

fn ip(packet: &[u8]) -> Option<Kind> {
    let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let (protocol, source) = (*packet.get(9)?, packet.get(12..16)?);
    let is_from_board = source[..3] == [10, 0, 2] && source[3] >= 15 || source == [0, 0, 0, 0];
    let body = packet.get(usize::from(packet.first()? & 0xf) * 4..total)?;
    match protocol {
        TCP => {
            let payload = body.get(usize::from(body.get(12)? >> 4) * 4..)?.to_vec();
            let is_opening = body.get(13)? & SYN != 0;
            Some(Kind::Tcp { is_from_board, is_opening, payload })
        }
        UDP if matches!(body.get(2..4)?, [0, 67 | 68]) => Some(Kind::Dhcp { is_from_board }),
        _ => None,
    }
}

const HEADER_LEN: usize = 24;
const RECORD_LEN: usize = 16;
const ETHER_TYPE: usize = 12;
const ETHER_LEN: usize = 14;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const UDP: u8 = 17;

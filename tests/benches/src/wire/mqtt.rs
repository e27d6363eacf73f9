//! MQTT 3.1.1 (OASIS): commands and events with QoS 1, the device's answer a QoS 0 publish to `rb`,
//! which is what proves to the backend that the device acted: a PUBACK only says that the broker has it.
//!
//! ```text
//! backend → cmd/N (QoS 1) → device N     device N → rb (QoS 0) → backend
//! device N → up/N (QoS 1) → backend, subscribed to up/#
//! ```

use super::{COMMAND_LEN, EVENT_LEN, Event, Role, Unexpected, Wire, command, request_of};

/// One MQTT connection.
pub struct Mqtt {
    role: Role,
    packet: u16,
}

impl Wire for Mqtt {
    fn new(role: Role) -> Self {
        Self { role, packet: 0 }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        let client = match self.role {
            Role::Device(number) => format!("d{number}"),
            Role::Backend => "backend".to_owned(),
        };
        out.push(CONNECT);
        put_length(out, 12 + client.len());
        out.extend_from_slice(b"\x00\x04MQTT\x04\x02");
        out.extend_from_slice(&KEEP_ALIVE_S.to_be_bytes());
        put_string(out, client.as_bytes());
    }

    fn push(&mut self, device: u32, request: u64, out: &mut Vec<u8>) {
        let topic = format!("cmd/{device}");
        let packet = self.next_packet();
        put_publish(out, topic.as_bytes(), Some(packet), &command(request));
    }

    fn publish(&mut self, count: u32, out: &mut Vec<u8>) {
        let Role::Device(number) = self.role else {
            return;
        };
        let topic = format!("up/{number}");
        for _ in 0..count {
            let packet = self.next_packet();
            put_publish(out, topic.as_bytes(), Some(packet), &[7; EVENT_LEN]);
        }
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<(usize, Event)>, Unexpected> {
        let Some((total, kind, body)) = packet(bytes)? else {
            return Ok(None);
        };
        let event = match kind & 0xf0 {
            CONNACK => self.handle_connack(body, out)?,
            SUBACK => Event::Attached,
            PUBACK if matches!(self.role, Role::Device(_)) => Event::Taken(1),
            PUBACK => Event::Quiet,
            PUBLISH => self.handle_publish(kind, body, out)?,
            other => return Err(Unexpected(format!("MQTT packet type {other:#04x}"))),
        };
        Ok(Some((total, event)))
    }
}

impl Mqtt {
    fn next_packet(&mut self) -> u16 {
        self.packet = self.packet.checked_add(1).unwrap_or(1);
        self.packet
    }

    fn handle_connack(&self, body: &[u8], out: &mut Vec<u8>) -> Result<Event, Unexpected> {
        if body.get(1) != Some(&0) {
            return Err(Unexpected(format!("CONNACK {body:?}")));
        }
        match self.role {
            Role::Device(number) => put_subscribe(out, &[(format!("cmd/{number}"), 1)]),
            Role::Backend => put_subscribe(out, &[("rb".to_owned(), 0), ("up/#".to_owned(), 1)]),
        }
        Ok(Event::Quiet)
    }

    fn handle_publish(&self, kind: u8, body: &[u8], out: &mut Vec<u8>) -> Result<Event, Unexpected> {
        let (topic, packet, payload) = publish(kind, body)?;
        if let Some(packet) = packet {
            out.extend_from_slice(&[PUBACK, 2]);
            out.extend_from_slice(&packet);
        }
        match self.role {
            Role::Device(_) => {
                let command: &[u8; COMMAND_LEN] =
                    payload.first_chunk().ok_or_else(|| Unexpected(format!("a command of {} bytes", payload.len())))?;
                put_publish(out, b"rb", None, &command[..8]);
                Ok(Event::Commanded)
            }
            Role::Backend if topic == b"rb" => Ok(Event::Answered(request_of(payload)?)),
            Role::Backend => Ok(Event::Delivered),
        }
    }
}

/// Total length, first byte and body of a packet.
type Packet<'a> = (usize, u8, &'a [u8]);

/// The packet at the front of `bytes`, `None` while it is incomplete.
fn packet(bytes: &[u8]) -> Result<Option<Packet<'_>>, Unexpected> {
    let Some((&kind, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let mut length = 0_usize;
    for (index, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let start = 2 + index;
            let body = bytes.get(start..start + length);
            return Ok(body.map(|body| (start + length, kind, body)));
        }
    }
    if rest.len() >= 4 {
        return Err(Unexpected("an MQTT length of more than four bytes".to_owned()));
    }
    Ok(None)
}

/// Topic, packet number and payload of a PUBLISH.
type Publish<'a> = (&'a [u8], Option<[u8; 2]>, &'a [u8]);

fn publish(kind: u8, body: &[u8]) -> Result<Publish<'_>, Unexpected> {
    let cut = || Unexpected("a PUBLISH cut short".to_owned());
    let (length, rest) = body.split_first_chunk().ok_or_else(cut)?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(cut)?;
    if kind & QOS_MASK == 0 {
        return Ok((topic, None, rest));
    }
    let (packet, payload) = rest.split_first_chunk().ok_or_else(cut)?;
    Ok((topic, Some(*packet), payload))
}

fn put_publish(out: &mut Vec<u8>, topic: &[u8], packet: Option<u16>, payload: &[u8]) {
    out.push(if packet.is_some() { PUBLISH | QOS_1 } else { PUBLISH });
    let packet_len = if packet.is_some() { 2 } else { 0 };
    put_length(out, 2 + topic.len() + packet_len + payload.len());
    put_string(out, topic);
    if let Some(packet) = packet {
        out.extend_from_slice(&packet.to_be_bytes());
    }
    out.extend_from_slice(payload);
}

fn put_subscribe(out: &mut Vec<u8>, topics: &[(String, u8)]) {
    out.push(SUBSCRIBE);
    put_length(out, 2 + topics.iter().map(|(topic, _)| 3 + topic.len()).sum::<usize>());
    out.extend_from_slice(&[0, 1]);
    for (topic, qos) in topics {
        put_string(out, topic.as_bytes());
        out.push(*qos);
    }
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).expect("topics and ids of the benchmark are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text);
}

fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const QOS_1: u8 = 0x02;
const QOS_MASK: u8 = 0x06;
const KEEP_ALIVE_S: u16 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_taken_only_when_it_is_whole() {
        let mut bytes = Vec::new();
        put_publish(&mut bytes, b"cmd/7", Some(3), &command(9));
        let mut device = Mqtt::new(Role::Device(7));
        for cut in 0..bytes.len() {
            let mut out = Vec::new();
            assert_eq!(device.hear(&bytes[..cut], &mut out), Ok(None));
            assert!(out.is_empty());
        }
        let mut out = Vec::new();
        let heard = device.hear(&bytes, &mut out);
        assert_eq!(heard, Ok(Some((bytes.len(), Event::Commanded))));
        assert_eq!(&out[..4], &[PUBACK, 2, 0, 3]);
    }

    #[test]
    fn the_answer_names_the_request() {
        let mut answer = Vec::new();
        put_publish(&mut answer, b"rb", None, &5_u64.to_be_bytes());
        let heard = Mqtt::new(Role::Backend).hear(&answer, &mut Vec::new());
        assert_eq!(heard, Ok(Some((answer.len(), Event::Answered(5)))));
    }

    #[test]
    fn a_malformed_packet_is_an_error() {
        for bytes in [&[PUBLISH | QOS_1, 1, 0][..], &[CONNACK, 2, 0, 5], &[0x30, 255, 255, 255, 255]] {
            assert!(Mqtt::new(Role::Backend).hear(bytes, &mut Vec::new()).is_err());
        }
    }
}

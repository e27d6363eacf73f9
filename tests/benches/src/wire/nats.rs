//! The text protocol of NATS: a push is a request with a reply subject, the device's publish to it the answer.
//! Events are plain publishes; a `PING` after each batch is what the server confirms them by (at most once).
//!
//! ```text
//! backend → cmd.N, reply rb.R → device N     device N → rb.R → backend, subscribed to rb.*
//! device N → up.N → backend, subscribed to up.>
//! ```

use std::io::Write as _;

use super::{EVENT_LEN, Event, Role, Unexpected, Wire, command, request_of};

/// One NATS connection.
pub struct Nats {
    role: Role,
    attached: bool,
    unconfirmed: u32,
}

impl Wire for Nats {
    fn new(role: Role) -> Self {
        Self { role, attached: false, unconfirmed: 0 }
    }

    /// Nothing: the server speaks first.
    fn open(&mut self, _out: &mut Vec<u8>) {}

    fn push(&mut self, device: u32, request: u64, out: &mut Vec<u8>) {
        put(out, format_args!("PUB cmd.{device} rb.{request} "), &command(request));
    }

    fn publish(&mut self, count: u32, out: &mut Vec<u8>) {
        let Role::Device(number) = self.role else {
            return;
        };
        for _ in 0..count {
            put(out, format_args!("PUB up.{number} "), &[7; EVENT_LEN]);
        }
        out.extend_from_slice(b"PING\r\n");
        self.unconfirmed += count;
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<(usize, Event)>, Unexpected> {
        let Some(line_len) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
            return Ok(None);
        };
        let (line, rest) = bytes.split_at(line_len);
        if let Some(head) = line.strip_prefix(b"MSG ") {
            let (subject, reply, length) = message_head(head)?;
            let Some(payload) = rest.get(2..2 + length) else {
                return Ok(None);
            };
            let total = line_len + 2 + length + 2;
            if bytes.len() < total {
                return Ok(None);
            }
            return Ok(Some((total, self.handle_message(subject, reply, payload, out)?)));
        }
        let event = match line {
            b"PING" => {
                out.extend_from_slice(b"PONG\r\n");
                Event::Quiet
            }
            b"PONG" if !self.attached => {
                self.attached = true;
                Event::Attached
            }
            b"PONG" => Event::Taken(std::mem::take(&mut self.unconfirmed)),
            _ if line.starts_with(b"INFO ") => {
                if !self.attached {
                    self.put_connect(out);
                }
                Event::Quiet
            }
            _ => return Err(Unexpected(String::from_utf8_lossy(line).into_owned())),
        };
        Ok(Some((line_len + 2, event)))
    }
}

impl Nats {
    fn put_connect(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
        match self.role {
            Role::Device(number) => {
                out.extend_from_slice(format!("SUB cmd.{number} 1\r\n").as_bytes());
            }
            Role::Backend => out.extend_from_slice(b"SUB rb.* 1\r\nSUB up.> 2\r\n"),
        }
        out.extend_from_slice(b"PING\r\n");
    }

    fn handle_message(
        &self,
        subject: &[u8],
        reply: Option<&[u8]>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Event, Unexpected> {
        match (self.role, reply) {
            (Role::Device(_), Some(reply)) => {
                let request = request_of(payload)?;
                let reply = String::from_utf8_lossy(reply);
                put(out, format_args!("PUB {reply} "), &request.to_be_bytes());
                Ok(Event::Commanded)
            }
            (Role::Device(_), None) => Err(Unexpected("a command without reply".to_owned())),
            (Role::Backend, _) if subject.starts_with(b"rb.") => Ok(Event::Answered(request_of(payload)?)),
            (Role::Backend, _) => Ok(Event::Delivered),
        }
    }
}

/// Subject, reply subject and payload length of a message.
type MessageHead<'a> = (&'a [u8], Option<&'a [u8]>, usize);

/// Parses `subject sid [reply] length`.
fn message_head(head: &[u8]) -> Result<MessageHead<'_>, Unexpected> {
    let bad = || Unexpected(format!("MSG {}", String::from_utf8_lossy(head)));
    let mut words = head.split(|byte| *byte == b' ');
    let (subject, _sid) = (words.next().ok_or_else(bad)?, words.next().ok_or_else(bad)?);
    let third = words.next().ok_or_else(bad)?;
    let (reply, length) = match words.next() {
        Some(length) => (Some(third), length),
        None => (None, third),
    };
    let length = str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
    match length {
        Some(length) if length <= PAYLOAD_LEN_MAX => Ok((subject, reply, length)),
        _ => Err(bad()),
    }
}

fn put(out: &mut Vec<u8>, head: std::fmt::Arguments<'_>, payload: &[u8]) {
    write!(out, "{head}{}\r\n", payload.len()).expect("a Vec takes all bytes");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Far above any payload of the benchmark; keeps a wrong length from being waited for.
const PAYLOAD_LEN_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_answers_to_the_reply_subject() {
        let mut bytes = b"MSG cmd.7 1 rb.9 16\r\n".to_vec();
        bytes.extend_from_slice(&command(9));
        bytes.extend_from_slice(b"\r\n");
        let mut device = Nats::new(Role::Device(7));
        for cut in 0..bytes.len() {
            assert_eq!(device.hear(&bytes[..cut], &mut Vec::new()), Ok(None));
        }
        let mut out = Vec::new();
        let heard = device.hear(&bytes, &mut out);
        assert_eq!(heard, Ok(Some((bytes.len(), Event::Commanded))));
        assert!(out.starts_with(b"PUB rb.9 8\r\n"));
    }

    #[test]
    fn the_first_pong_attaches_and_later_ones_confirm_events() {
        let mut device = Nats::new(Role::Device(7));
        let mut out = Vec::new();
        assert_eq!(device.hear(b"PONG\r\n", &mut out), Ok(Some((6, Event::Attached))));
        device.publish(8, &mut out);
        assert_eq!(device.hear(b"PONG\r\n", &mut out), Ok(Some((6, Event::Taken(8)))));
    }

    #[test]
    fn an_error_line_is_an_error() {
        let heard = Nats::new(Role::Backend).hear(b"-ERR 'Slow Consumer'\r\n", &mut Vec::new());
        assert!(heard.is_err());
    }
}

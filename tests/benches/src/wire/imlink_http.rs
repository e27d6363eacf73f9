//! imlink over HTTP: each push is a `POST …?wait=acked` on a kept connection, one at a time there, as backends
//! without a link of their own do it. Devices are those of [`Imlink`].

use super::imlink::{Imlink, TOKEN, device_id};
use super::{Event, Role, Unexpected, Wire, command};

/// One connection: a device's, or a backend's to the HTTP API.
pub struct ImlinkHttp {
    role: Role,
    device: Imlink<false>,
    /// The request that waits for its response.
    asked: Option<u64>,
}

impl Wire for ImlinkHttp {
    fn new(role: Role) -> Self {
        Self { role, device: Imlink::<false>::new(role), asked: None }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        match self.role {
            Role::Device(_) => self.device.open(out),
            Role::Backend => out.extend_from_slice(b"GET /readyz HTTP/1.1\r\nHost: imlink\r\n\r\n"),
        }
    }

    fn push(&mut self, device: u32, request: u64, out: &mut Vec<u8>) {
        assert!(self.asked.is_none(), "one request at a time on a connection: as many backends as pushes in flight");
        self.asked = Some(request);
        let (device, payload) = (device_id(device), command(request));
        let head = format!(
            "POST /v1/devices/{device}/messages/led/set?wait=acked HTTP/1.1\r\nHost: imlink\r\n\
             Authorization: Bearer {TOKEN}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            payload.len()
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&payload);
    }

    fn publish(&mut self, count: u32, out: &mut Vec<u8>) {
        self.device.publish(count, out);
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<(usize, Event)>, Unexpected> {
        if let Role::Device(_) = self.role {
            return self.device.hear(bytes, out);
        }
        let Some(response) = Response::first(bytes)? else { return Ok(None) };
        let event = match self.asked.take() {
            None if response.status == 200 => Event::Attached,
            Some(request) if response.status == 200 && response.body.contains("\"acked\"") => Event::Answered(request),
            _ => return Err(Unexpected(format!("status {}: {}", response.status, response.body))),
        };
        Ok(Some((response.len, event)))
    }
}

/// One whole response at the front of some bytes.
pub(crate) struct Response<'a> {
    pub(crate) len: usize,
    pub(crate) status: u16,
    pub(crate) body: &'a str,
}

impl<'a> Response<'a> {
    /// The response at the front, `None` while it is incomplete. It must state its length.
    pub(crate) fn first(bytes: &'a [u8]) -> Result<Option<Self>, Unexpected> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let head = text(bytes.get(..end).unwrap_or_default())?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, length)| length.trim().parse::<usize>().ok());
        let (Some(status), Some(length)) = (status, length) else {
            return Err(Unexpected(format!("a response without status or length: {head}")));
        };
        let start = end + 4;
        let Some(body) = bytes.get(start..start + length) else { return Ok(None) };
        Ok(Some(Self { len: start + length, status, body: text(body)? }))
    }
}

fn text(bytes: &[u8]) -> Result<&str, Unexpected> {
    std::str::from_utf8(bytes).map_err(|error| Unexpected(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_response_that_says_acked_answers_the_push() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"state\":\"acked\"}";
        let mut backend = ImlinkHttp::new(Role::Backend);
        backend.push(1, 8, &mut Vec::new());
        assert_eq!(backend.hear(&response[..40], &mut Vec::new()), Ok(None));
        assert_eq!(backend.hear(response, &mut Vec::new()), Ok(Some((response.len(), Event::Answered(8)))));
        backend.push(1, 9, &mut Vec::new());
        let accepted = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        assert!(backend.hear(accepted, &mut Vec::new()).is_err());
    }
}

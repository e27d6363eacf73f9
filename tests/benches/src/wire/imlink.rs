//! imlink's own wire, plain or sealed: devices attach and acknowledge, a backend pushes over the binary backend link and
//! consumes the events of a group.
//!
//! ```text
//! device   (Login ▶ ◀ Answer) · Hello ▶ ◀ Welcome · ◀ Message, Ack ▶ · Event ▶ ◀ EventAck · ◀ Generation, Generation ▶
//! backend  Hello ▶ ◀ Welcome · Send wait=acked ▶ ◀ Message acked · Subscribe, Credit, Commit ▶ ◀ Event
//! ```
//!
//! A push is answered when the route knows that the device acknowledged it: an acknowledgement of imlink
//! means handled, so no message of the device's own is needed to prove it.

use imlink_protocol::frame::{self, Frame};
use imlink_protocol::id::{Fingerprint, MessageId, TENANT_DEFAULT};
use imlink_protocol::key::Key;
use imlink_protocol::key_pair::{KEY_LEN, PrivateKey};
use imlink_protocol::limits::LINK_FRAME_LEN_MAX;
use imlink_protocol::link::backend::{FromBackend, Send, State, ToBackend, Wait};
use imlink_protocol::message::{FromDevice, Hello, ToDevice};
use imlink_protocol::seal::{self, Claim, Finished, Initiator, Login, MESSAGE_LEN_MAX, Records};
use imlink_seal::Fast;
use serde::{Deserialize, Serialize};

use super::{EVENT_LEN, Event, PLAIN, Role, Unexpected, Wire, command};

/// Private key of every device.
static DEVICE_KEY: PrivateKey = PrivateKey::new([0x31; KEY_LEN]);
/// Private key of the gateway, which the benchmark gives it.
static ROUTE_KEY: PrivateKey = PrivateKey::new([0x32; KEY_LEN]);
/// The bearer token that the benchmark gives the servers it starts.
pub const TOKEN: &str = "imlink-bench-has-no-secrets";

/// One connection to a gateway, a route or an IM-server. The devices' links are sealed if `SEALED`; the backend's
/// never is.
pub struct Imlink<const SEALED: bool> {
    role: Role,
    link: Link,
    /// Device: last event published, and last one stored. Backend: unused, and events since the last `Credit`.
    published: u64,
    taken: u64,
}

/// How far a device's link is.
enum Link {
    Plain,
    /// The answer to the login is awaited.
    Login(Option<Box<Initiator>>),
    Sealed(Records<Fast>),
}

impl<const SEALED: bool> Wire for Imlink<SEALED> {
    fn new(role: Role) -> Self {
        Self { role, link: Link::Plain, published: 0, taken: 0 }
    }

    fn provisioned() -> String {
        if SEALED { format!(r#"{{"public_key":"{}"}}"#, DEVICE_KEY.public()) } else { PLAIN.into() }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        match self.role {
            Role::Device(number) if SEALED => self.log_in(number, out),
            Role::Device(number) => put(&FromDevice::Hello(hello(&device_id(number))), out),
            Role::Backend => {
                let version = imlink_protocol::VERSION;
                put(&FromBackend::Hello { version, token: TOKEN, name: "bench", tenant: "" }, out);
            }
        }
    }

    fn push(&mut self, device: u32, request: u64, out: &mut Vec<u8>) {
        let send = Send {
            request,
            device: &device_id(device),
            path: PATH,
            ttl_s: 0,
            wait: Wait::Acked,
            timeout_ms: 30_000,
            idempotency_key: "",
            payload: &command(request),
        };
        put(&FromBackend::Send(send), out);
    }

    fn publish(&mut self, count: u32, out: &mut Vec<u8>) {
        for _ in 0..count {
            self.published += 1;
            let key = Key::raw(EVENT_PATH);
            self.say(&FromDevice::Event { sequence: self.published, key, payload: &[7; EVENT_LEN] }, out);
        }
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<(usize, Event)>, Unexpected> {
        if let (Link::Login(_) | Link::Sealed(_), Role::Device(_)) = (&self.link, self.role) {
            return self.hear_sealed(bytes, out);
        }
        let split = frame::split(bytes, LINK_FRAME_LEN_MAX).map_err(unexpected)?;
        let Some(Frame { body, len }) = split else { return Ok(None) };
        let event = match self.role {
            Role::Device(_) => self.hear_server(&decode(body)?, out)?,
            Role::Backend => self.hear_route(&decode(body)?, out)?,
        };
        Ok(Some((len, event)))
    }
}

impl<const SEALED: bool> Imlink<SEALED> {
    fn log_in(&mut self, number: u32, out: &mut Vec<u8>) {
        let mut ephemeral = [0; KEY_LEN];
        getrandom::fill(&mut ephemeral).expect("random numbers");
        let login = Login {
            tenant: TENANT_DEFAULT,
            device: &device_id(number),
            claim: Claim { incarnation: u64::from(std::process::id()), attempt: 1 },
            private_key: DEVICE_KEY.bytes(),
            route_key: &ROUTE_KEY.public().0,
            psk: &[0; KEY_LEN],
        };
        let mut area = [0; MESSAGE_LEN_MAX];
        let (initiator, len) = Initiator::login(&login, &mut ephemeral, &mut area).expect("a login fits");
        self.link = Link::Login(Some(Box::new(initiator)));
        out.extend_from_slice(area.get(..len).unwrap_or_default());
    }

    fn hear_sealed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<(usize, Event)>, Unexpected> {
        // An answer and a record begin alike: with their length.
        let Some((body, len)) = seal::take(bytes, LINK_FRAME_LEN_MAX).map_err(unexpected)? else { return Ok(None) };
        match &mut self.link {
            Link::Plain => Err(unexpected("no link")),
            Link::Login(initiator) => {
                let initiator = initiator.take().ok_or_else(|| unexpected("a second answer"))?;
                let Finished::Sealed(keys) = initiator.finish(body).map_err(unexpected)? else {
                    return Err(unexpected("a refused login"));
                };
                let (send, receive) = keys.into_keys();
                self.link = Link::Sealed(Records::new(send, receive));
                let hello = Hello { tenant: "", device: "", incarnation: 0, attempt: 0, ..hello("") };
                self.say(&FromDevice::Hello(hello), out);
                Ok(Some((len, Event::Quiet)))
            }
            Link::Sealed(records) => {
                let mut record = bytes.get(..len).unwrap_or_default().to_vec();
                let opened = records.opener.open(&mut record, LINK_FRAME_LEN_MAX).map_err(unexpected)?;
                let opened = opened.ok_or_else(|| unexpected("half a record"))?;
                let body = record.get(opened.start..opened.end).unwrap_or_default();
                Ok(Some((len, self.hear_server(&decode(body)?, out)?)))
            }
        }
    }

    /// What a device says.
    fn say(&mut self, message: &FromDevice<'_>, out: &mut Vec<u8>) {
        let Link::Sealed(records) = &mut self.link else { return put(message, out) };
        let mut area = [0; FRAME_LEN_MAX];
        let len = records.sealer.encode(message, &mut area).expect("frames of the benchmark are short");
        out.extend_from_slice(area.get(..len).unwrap_or_default());
    }

    fn hear_server(&mut self, message: &ToDevice<'_>, out: &mut Vec<u8>) -> Result<Event, Unexpected> {
        Ok(match *message {
            ToDevice::Welcome(_) => Event::Attached,
            ToDevice::Message { sequence, .. } => {
                self.say(&FromDevice::Ack { sequence }, out);
                Event::Commanded
            }
            ToDevice::EventAck { sequence } => {
                let taken = sequence.saturating_sub(self.taken);
                self.taken = sequence;
                Event::Taken(u32::try_from(taken).unwrap_or(u32::MAX))
            }
            ToDevice::Generation { generation } => {
                self.say(&FromDevice::Generation { generation }, out);
                Event::Quiet
            }
            ToDevice::Probe => {
                self.say(&FromDevice::Ping { next_ms: 300_000 }, out);
                Event::Quiet
            }
            ToDevice::Pong { .. } | ToDevice::Grant { .. } => Event::Quiet,
            ref other => return Err(unexpected(format!("{other:?}"))),
        })
    }

    fn hear_route(&mut self, message: &ToBackend<'_>, out: &mut Vec<u8>) -> Result<Event, Unexpected> {
        Ok(match *message {
            ToBackend::Welcome { .. } => {
                put(&FromBackend::Subscribe { request: EVENTS, group: "bench", position: "", credit: CREDIT }, out);
                Event::Attached
            }
            ToBackend::Message { request, state: State::Acked, .. } => Event::Answered(request),
            ToBackend::Event(event) => {
                self.taken += 1;
                if self.taken >= u64::from(CREDIT / 2) {
                    self.taken = 0;
                    put(&FromBackend::Credit { request: EVENTS, events: CREDIT / 2 }, out);
                    put(&FromBackend::Commit { request: EVENTS, position: event.position }, out);
                }
                Event::Delivered
            }
            ToBackend::Pong => Event::Quiet,
            ref other => return Err(unexpected(format!("{other:?}"))),
        })
    }
}

/// The id of the device of this number.
pub fn device_id(number: u32) -> String {
    format!("bench-{number}")
}

fn hello(device: &str) -> Hello<'_> {
    Hello {
        version: imlink_protocol::VERSION,
        tenant: TENANT_DEFAULT,
        device,
        // Every server under test is a fresh one, so a number of the process is enough.
        incarnation: u64::from(std::process::id()),
        attempt: 1,
        epoch: 0,
        cursor: MessageId::default(),
        receive_limit: 512,
        window: 8,
        fingerprint: Fingerprint::NONE,
        event_queue: u64::from(std::process::id()),
        ticket: &[],
    }
}

fn put<T: Serialize>(message: &T, out: &mut Vec<u8>) {
    let mut area = [0; FRAME_LEN_MAX];
    let len = frame::encode(message, &mut area).expect("frames of the benchmark are short");
    out.extend_from_slice(area.get(..len).unwrap_or_default());
}

fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Unexpected> {
    frame::decode(body).map_err(unexpected)
}

fn unexpected(what: impl ToString) -> Unexpected {
    Unexpected(what.to_string())
}

const PATH: &str = "led/set";
const EVENT_PATH: &str = "room/temperature";
/// A `Commit` names a position in each of the 64 event shards.
const FRAME_LEN_MAX: usize = 2_048;
/// Number of the backend's subscription; pushes count up from 0.
const EVENTS: u64 = u64::MAX;
/// Events on their way to the backend.
const CREDIT: u32 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn framed<T: Serialize>(message: &T) -> Vec<u8> {
        let mut out = Vec::new();
        put(message, &mut out);
        out
    }

    #[test]
    fn a_device_acknowledges_each_message() {
        let key = Key::raw(PATH);
        let message = ToDevice::Message {
            sequence: 9,
            key,
            expiry_ms: 0,
            flags: imlink_protocol::message::Flags::NONE,
            payload: &command(7),
        };
        let (bytes, mut out) = (framed(&message), Vec::new());
        let mut device = Imlink::<false>::new(Role::Device(1));
        assert_eq!(device.hear(&bytes[..5], &mut out), Ok(None));
        assert_eq!(device.hear(&bytes, &mut out), Ok(Some((bytes.len(), Event::Commanded))));
        assert_eq!(out, framed(&FromDevice::Ack { sequence: 9 }));
    }

    #[test]
    fn a_push_is_answered_only_by_its_acknowledgement() {
        let answer = |state| framed(&ToBackend::Message { request: 3, id: MessageId::new(1, 1), state });
        let mut backend = Imlink::<false>::new(Role::Backend);
        let heard = backend.hear(&answer(State::Acked), &mut Vec::new());
        assert_eq!(heard.map(|heard| heard.map(|(_, event)| event)), Ok(Some(Event::Answered(3))));
        assert!(backend.hear(&answer(State::Waiting), &mut Vec::new()).is_err());
    }

    #[test]
    fn an_acknowledgement_takes_all_events_up_to_it() {
        let mut device = Imlink::<false>::new(Role::Device(1));
        let bytes = framed(&ToDevice::EventAck { sequence: 5 });
        let heard = device.hear(&bytes, &mut Vec::new());
        assert_eq!(heard, Ok(Some((bytes.len(), Event::Taken(5)))));
    }
}

//! Keys, fields and their bytes. Integers are big-endian and unsigned; a number of 7 bytes stays below 2^53.
//!
//! ```text
//! im:{tenant/device}          hash, small enough to stay a listpack (every value ≤ 64 bytes)
//!   i   revoked 1 · created_ms 7 · current public key 0 or 32 · mac 16                  as in src/record_key.rs
//!   n   next public key 32 · mac 16                                                     while a change is under way
//!   s   epoch 7 · boot 8 · attempt 4 · fingerprint 16 · receive_limit 4 · seen_ms 7     from the first attach on
//!   a   server's incarnation 8 · server's name                                          only while attached
//!   b   epoch 7 · incarnation 8 · name of the session that the last attach replaced     while attached, if any
//!   m   lineage 8 · generation 7 · first 7 · last 7 · waiting 4 · offered 7 · doubt 7 ·
//!       head 7 · offers 1 · next_expiry_ms 7 · held 1                                   as in src/record/mailbox.rs
//!   g   up to 4 × (generation 7 · its first sequence 7), the newest last
//!   u   sure 7 · sure_epoch 7, as there                                                 while there is doubt
//!   r0 … r3   4 × (tag of an append's id 8 · appended_s 4): sequence s lies in place s mod 16
//!   t   appended_ms 7 of the newest append whose id was forgotten, rounded up
//!   l   ms 7 of the last change of lineage
//!   x   highest sequence 7 whose outcome was forgotten
//! im:{tenant/device}:q        list; entry i has sequence first + i
//!   1 · generation 7 · expires_ms 7 · key 4 · payload
//!   2 · generation 7 · expires_ms 7 · key 4 · fingerprint 16 · payload
//!   3 · generation 7 · expires_ms 7 · key 4 · token 8 · payload
//!   4 · generation 7 · expires_ms 7 · key 4 · token 8 · fingerprint 16 · payload
//!   0 · generation 7                                                                    a tombstone
//! im:{tenant/device}:o        list of at most 64 outcomes, only once there are any
//!   generation 7 · sequence 7 · at_ms 7 · kind 1 · code 2       0 unknown, 2 rejected, 3 expired,
//!                                                               4 expired and may have run, 5 cancelled, 6 failed
//! im:d:{tenant}               sorted set of device ids, all of score 0
//! im:i:{tenant/key}           idempotency key: hash 32, then when done: 1 · answer; expires
//! im:f:{tenant/fingerprint}   interface
//! im:e:{tenant/n}             stream of the tenant's shard n, field e: queue 8 · sequence 8 · fingerprint 16 · key 4 ·
//!                             length of device 1 · tenant/device · payload
//! im:e:{tenant/n}:q           hash: tenant/device → up to 2 × (queue 8 · last sequence 7), the newest last
//! im:e:{tenant/n}:g           hash: consumer group → ms 7 · n 7
//! im:n:{n}                    hash: role/name of a node → removed 1 · enrolled_ms 7 · public key 32
//! im:n:{n}:j                  hash: id 8 of a join token → role 1 · expires_ms 7 · uses 4
//! im:routes, im:servers       hash: name → until_ms 7 · incarnation 8 · description
//! im:t:{tokens}               hash: token id 8 → secret's SHA-256 32 · created_ms 7 · expires_ms 7 · revoked_ms 7 · rate 4 ·
//!                             length 1 · tenant · length 1 · name · scopes
//! im:t:{tokens}:s:tenant      set of the tenant's token ids
//! im:t:{tokens}:r             sorted set of revoked token ids by revoked_ms; :v counts revocations
//! im:a:{tenant}               stream of audit records: w token 8 · k what · o object · f from
//! ```
//! The outcomes have a list of their own, since a value over 64 bytes would turn the hash into a table four times
//! its size. An attached device costs about 300 bytes, with one waiting 16-byte message under 600, in use for long 800.

use bytes::Bytes;
use imlink_protocol::id::{Fingerprint, MessageId, TokenId};
use imlink_protocol::key::Key;
use imlink_protocol::limits::NUMBER_MAX;
use imlink_protocol::message::Code;
use redis::Value;

use crate::event::{Event, Position};
use crate::mailbox::{Entry, State};
use crate::session::{Head, Session};
use crate::{DeviceKey, Error};

/// The three keys of a device.
pub(super) fn device_keys(device: &DeviceKey) -> [String; 3] {
    [format!("im:{{{device}}}"), format!("im:{{{device}}}:q"), format!("im:{{{device}}}:o")]
}

pub(super) fn names_key(tenant: &str) -> String {
    format!("im:d:{{{tenant}}}")
}

pub(super) fn idempotency_key(tenant: &str, key: &str) -> String {
    format!("im:i:{{{tenant}/{key}}}")
}

pub(super) fn interface_key(tenant: &str, fingerprint: Fingerprint) -> String {
    format!("im:f:{{{tenant}/{fingerprint}}}")
}

pub(super) fn stream_key(tenant: &str, shard: usize) -> String {
    format!("im:e:{{{tenant}/{shard}}}")
}

pub(super) fn queues_key(tenant: &str, shard: usize) -> String {
    format!("im:e:{{{tenant}/{shard}}}:q")
}

pub(super) fn groups_key(tenant: &str, shard: usize) -> String {
    format!("im:e:{{{tenant}/{shard}}}:g")
}

/// The tokens of one tenant.
pub(super) fn tenant_tokens_key(tenant: &str) -> String {
    format!("{TOKENS_KEY}:s:{tenant}")
}

pub(super) fn audit_key(tenant: &str) -> String {
    format!("im:a:{{{tenant}}}")
}

pub(super) const TOKENS_KEY: &str = "im:t:{tokens}";
pub(super) const REVOKED_TOKENS_KEY: &str = "im:t:{tokens}:r";
pub(super) const REVOCATIONS_KEY: &str = "im:t:{tokens}:v";
pub(super) const ROUTES_KEY: &str = "im:routes";
pub(super) const SERVERS_KEY: &str = "im:servers";
pub(super) const NODES_KEY: &str = "im:n:{n}";
pub(super) const JOINS_KEY: &str = "im:n:{n}:j";

/// What scripts can calculate with: numbers from 2^53 on, which are no one's, become 2^53.
pub(super) fn number(value: u64) -> u64 {
    value.min(NUMBER_MAX + 1)
}

/// A reply, read in order.
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    pub(super) fn new(value: Value) -> Result<Self, Error> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, Error> {
        number_of(self.0.next())
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        bytes_of(self.0.next())
    }

    /// Bytes that may be missing.
    pub(super) fn maybe_bytes(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self.0.next() {
            None | Some(Value::Nil) => Ok(None),
            some => bytes_of(some).map(Some),
        }
    }

    /// What follows: `sequence, bytes` of each entry.
    pub(super) fn entries(&mut self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::with_capacity(self.0.len() / 2);
        while self.0.len() > 0 {
            let sequence = self.number()?;
            entries.push(read_entry(sequence, self.bytes()?.into())?);
        }
        Ok(entries)
    }

    /// A session as `field a, epoch`; empty when there is none.
    pub(super) fn session(&mut self) -> Result<Option<Session>, Error> {
        let seat = self.bytes()?;
        let epoch = self.number()?;
        Ok(read_session(&seat, epoch))
    }

    /// The next value, `Nil` at the end.
    pub(super) fn value(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Nil)
    }
}

pub(super) fn number_of(value: Option<Value>) -> Result<u64, Error> {
    match value {
        Some(Value::Int(number)) => u64::try_from(number).map_err(|_| unexpected(&Value::Int(number))),
        other => Err(unexpected(&other.unwrap_or(Value::Nil))),
    }
}

pub(super) fn bytes_of(value: Option<Value>) -> Result<Vec<u8>, Error> {
    match value {
        Some(Value::BulkString(bytes)) => Ok(bytes),
        other => Err(unexpected(&other.unwrap_or(Value::Nil))),
    }
}

pub(super) fn unexpected(value: &Value) -> Error {
    let text = format!("{value:?}");
    let start: String = text.chars().take(80).collect();
    Error::Unusable(format!("Redis holds or answers what this version cannot read: {start}"))
}

/// Fields of a value, read in order.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes as an integer.
    pub(super) fn int<const N: usize>(&mut self) -> Option<u64> {
        let bytes = self.array::<N>()?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }
}

/// Reads field `a`.
pub(super) fn read_session(seat: &[u8], epoch: u64) -> Option<Session> {
    let mut fields = Fields(seat);
    let incarnation = fields.int::<8>()?;
    Some(Session { server: String::from_utf8_lossy(fields.0).into_owned(), incarnation, epoch })
}

/// Reads field `m` as far as a [`Head`] goes.
pub(super) fn read_head(mailbox: &[u8]) -> Option<Head> {
    let mut fields = Fields(mailbox);
    fields.int::<8>()?;
    let generation = fields.int::<7>()?;
    fields.int::<7>()?;
    Some(Head { generation, last: fields.int::<7>()?, waiting: fields.int::<4>()? })
}

fn read_entry(sequence: u64, bytes: Bytes) -> Result<Entry, Error> {
    let mut fields = Fields(&bytes);
    let mut read = || {
        let kind = fields.int::<1>()?;
        let id = MessageId::new(fields.int::<7>()?, sequence);
        let expires_ms = fields.int::<7>()?;
        let key = Key(fields.array()?);
        let token = match kind {
            1 | 2 => TokenId::NONE,
            3 | 4 => TokenId(fields.array()?),
            _ => return None,
        };
        let fingerprint = match kind {
            2 | 4 => Fingerprint(fields.array()?),
            _ => Fingerprint::NONE,
        };
        let payload = bytes.slice_ref(fields.0);
        Some(Entry { id, key, fingerprint, token, expires_ms, payload })
    };
    read().ok_or_else(|| Error::Unusable(format!("entry {sequence} of a mailbox is in no form this version knows")))
}

/// State of a message by its kind and code.
pub(super) fn read_state(kind: u64, code: u64) -> State {
    match kind {
        2 => State::Rejected { code: Code(u16::try_from(code).unwrap_or(u16::MAX)) },
        3 => State::Expired { may_have_run: false },
        4 => State::Expired { may_have_run: true },
        5 => State::Cancelled,
        6 => State::Failed,
        8 => State::Waiting,
        9 => State::Sent,
        10 => State::Acked,
        _ => State::Unknown,
    }
}

/// Field `e` of an event.
pub(super) fn write_event(event: &Event) -> Vec<u8> {
    let device = event.device.as_str();
    let mut bytes = Vec::with_capacity(37 + device.len() + event.payload.len());
    bytes.extend_from_slice(&event.queue.to_be_bytes());
    bytes.extend_from_slice(&event.sequence.to_be_bytes());
    bytes.extend_from_slice(&event.fingerprint.0);
    bytes.extend_from_slice(&event.key.0);
    bytes.push(u8::try_from(device.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(device.as_bytes());
    bytes.extend_from_slice(&event.payload);
    bytes
}

pub(super) fn read_event(position: Position, bytes: Bytes) -> Option<Event> {
    let mut fields = Fields(&bytes);
    let queue = fields.int::<8>()?;
    let sequence = fields.int::<8>()?;
    let fingerprint = Fingerprint(fields.array()?);
    let key = Key(fields.array()?);
    let len = usize::try_from(fields.int::<1>()?).ok()?;
    let (device, payload) = fields.0.split_at_checked(len)?;
    let device = DeviceKey::parse(std::str::from_utf8(device).ok()?).ok()?;
    let payload = bytes.slice_ref(payload);
    Some(Event { device, queue, sequence, fingerprint, key, payload, stored_ms: position.ms })
}

pub(super) fn read_position(id: &[u8]) -> Option<Position> {
    let (ms, n) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some(Position { ms: ms.parse().ok()?, n: n.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_and_a_cut_one_does_not() {
        let position = Position { ms: 7, n: 1 };
        let event = Event {
            device: DeviceKey::single("lamp").expect("is a device id"),
            queue: u64::MAX,
            sequence: 3,
            fingerprint: Fingerprint([9; 16]),
            key: Key([1, 2, 3, 4]),
            payload: Bytes::from_static(b"on"),
            stored_ms: 7,
        };
        let bytes = write_event(&event);
        assert_eq!(read_event(position, bytes.clone().into()), Some(event));
        assert_eq!(read_event(position, Bytes::copy_from_slice(&bytes[..40])), None);
    }

    #[test]
    fn positions_read_as_redis_writes_them() {
        assert_eq!(read_position(b"1764000000000-2"), Some(Position { ms: 1_764_000_000_000, n: 2 }));
        assert_eq!(read_position(b"1764000000000"), None);
    }
}

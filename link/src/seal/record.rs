//! Sealed records.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use imlink_protocol::link::opening::{RECORD_LEN_MAX, RECORD_TAG_LEN, REKEY_AFTER};
use parking_lot::RwLock;
use snow::StatelessTransportState;

use crate::LinkError;

/// Bytes of a record's length.
pub(super) const HEAD_LEN: usize = 2;
/// Most bytes of the stream in one record.
const PLAIN_LEN_MAX: usize = RECORD_LEN_MAX - RECORD_TAG_LEN;
/// Records are written when so many bytes of them are ready, though more may wait.
const WRITE_LEN: usize = 4 * (RECORD_LEN_MAX + HEAD_LEN);

/// The keys of both directions. The lock is written only to rekey.
type Keys = Arc<RwLock<StatelessTransportState>>;

/// Seals what this side sends.
pub(crate) struct Sealer {
    keys: Keys,
    records: u64,
}

/// Opens what the other side sent.
pub(crate) struct Opener {
    keys: Keys,
    records: u64,
}

/// What a record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It is not whole yet.
    Nothing,
    /// Bytes of the stream.
    Bytes,
    /// The last one.
    End,
}

pub(crate) fn both(state: StatelessTransportState) -> (Sealer, Opener) {
    let keys = Arc::new(RwLock::new(state));
    (Sealer { keys: keys.clone(), records: 0 }, Opener { keys, records: 0 })
}

impl Sealer {
    /// Seals the beginning of `plain` as records, a few at once, and gives the rest. Nothing of `plain`: the last record.
    pub(crate) fn seal<'a>(&mut self, mut plain: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], LinkError> {
        loop {
            let (record, rest) = plain.split_at(plain.len().min(PLAIN_LEN_MAX));
            self.record(record, out)?;
            plain = rest;
            if plain.is_empty() || out.len() + RECORD_LEN_MAX + HEAD_LEN > WRITE_LEN {
                return Ok(plain);
            }
        }
    }

    /// Adds one record with `plain` to `out`.
    pub(super) fn record(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), LinkError> {
        let start = out.len();
        let len = plain.len() + RECORD_TAG_LEN;
        out.extend_from_slice(&u16::try_from(len).map_err(|_| LinkError::Seal)?.to_be_bytes());
        out.resize(start + HEAD_LEN + len, 0);
        let place = out.get_mut(start + HEAD_LEN..).ok_or(LinkError::Seal)?;
        self.keys.read().write_message(self.records, plain, place).map_err(|_| LinkError::Seal)?;
        self.records += 1;
        if self.records.is_multiple_of(REKEY_AFTER) {
            self.keys.write().rekey_outgoing();
        }
        Ok(())
    }
}

impl Opener {
    /// Opens the record at the start of `input` onto `plain`.
    pub(crate) fn open(&mut self, input: &mut BytesMut, plain: &mut BytesMut) -> Result<Opened, LinkError> {
        let Some((head, rest)) = input.split_at_checked(HEAD_LEN) else { return Ok(Opened::Nothing) };
        let len = usize::from(u16::from_be_bytes(head.try_into().map_err(|_| LinkError::Seal)?));
        if len < RECORD_TAG_LEN {
            return Err(LinkError::Seal);
        }
        let Some(sealed) = rest.get(..len) else { return Ok(Opened::Nothing) };
        let start = plain.len();
        plain.resize(start + len, 0);
        let place = plain.get_mut(start..).ok_or(LinkError::Seal)?;
        let opened = self.keys.read().read_message(self.records, sealed, place);
        // Nothing of a record that does not fit is left in the stream.
        let opened = opened.inspect_err(|_| plain.truncate(start)).map_err(|_| LinkError::Seal)?;
        plain.truncate(start + opened);
        input.advance(HEAD_LEN + len);
        self.records += 1;
        if self.records.is_multiple_of(REKEY_AFTER) {
            self.keys.write().rekey_incoming();
        }
        Ok(if opened == 0 { Opened::End } else { Opened::Bytes })
    }
}

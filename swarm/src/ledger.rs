//! What was handled, message by message.
//!
//! A file has one line for each, in the order handled, `,` between:
//!
//! ```text
//! device,generation,sequence,redelivered,length,hash,time
//! sim-17,1764000000000,42,0,16,9af1bc0477e2d401,1764000012345
//!
//! redelivered  0 or 1: the server said that it may have come before
//! hash         payload_hash, 16 hex digits
//! time         milliseconds since 1970
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use imlink_protocol::MessageId;

/// One message that a device's handler is done with; its acknowledgement follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handled<'a> {
    /// Device id.
    pub device: &'a str,
    /// The message.
    pub id: MessageId,
    /// The server said that it may have come before.
    pub is_redelivered: bool,
    /// Length of the payload in bytes.
    pub len: usize,
    /// [`payload_hash`] of the payload.
    pub hash: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
}

/// Where handled messages go. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Sink);

#[derive(Clone)]
enum Sink {
    None,
    File(Arc<Mutex<BufWriter<File>>>),
    Callback(Arc<dyn Fn(&Handled<'_>) + Send + Sync>),
}

impl Ledger {
    /// Nowhere.
    pub const fn none() -> Self {
        Self(Sink::None)
    }

    /// To a new file; an old one of that name is emptied.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 16, File::create(path)?);
        Ok(Self(Sink::File(Arc::new(Mutex::new(file)))))
    }

    /// To a function, called on the device's thread.
    pub fn callback(callback: impl Fn(&Handled<'_>) + Send + Sync + 'static) -> Self {
        Self(Sink::Callback(Arc::new(callback)))
    }

    pub(crate) fn is_kept(&self) -> bool {
        !matches!(self.0, Sink::None)
    }

    pub(crate) fn record(&self, device: &str, id: MessageId, is_redelivered: bool, payload: &[u8]) {
        if !self.is_kept() {
            return;
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let handled = Handled { device, id, is_redelivered, len: payload.len(), hash: payload_hash(payload), time_ms };
        match &self.0 {
            Sink::None => {}
            Sink::Callback(callback) => callback(&handled),
            Sink::File(file) => {
                // A full disk shows when the buffer is flushed at the end.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = writeln!(file, "{handled}");
            }
        }
    }

    /// Writes what is buffered to the file.
    pub fn flush(&self) -> io::Result<()> {
        match &self.0 {
            Sink::File(file) => file.lock().unwrap_or_else(PoisonError::into_inner).flush(),
            Sink::None | Sink::Callback(_) => Ok(()),
        }
    }
}

impl fmt::Display for Handled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, id: MessageId { generation, sequence }, is_redelivered, len, hash, time_ms } = self;
        let redelivered = u8::from(*is_redelivered);
        write!(f, "{device},{generation},{sequence},{redelivered},{len},{hash:016x},{time_ms}")
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Sink::None => "Ledger::none",
            Sink::File(_) => "Ledger::file",
            Sink::Callback(_) => "Ledger::callback",
        })
    }
}

/// FNV-1a, 64 bits, of a payload: enough to tell test payloads apart, and four lines in any language.
pub fn payload_hash(payload: &[u8]) -> u64 {
    let basis = 0xcbf2_9ce4_8422_2325;
    payload.iter().fold(basis, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_everything() {
        let handled = Handled {
            device: "sim-17",
            id: MessageId::new(9, 42),
            is_redelivered: true,
            len: 1,
            hash: payload_hash(b"a"),
            time_ms: 5,
        };
        assert_eq!(handled.to_string(), "sim-17,9,42,1,1,af63dc4c8601ec8c,5");
    }
}

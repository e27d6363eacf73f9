//! How fast the board's clock runs: as fast as real time, or many times as fast while nothing is asked.
//!
//! Where a day passes in half a minute, the 200 s that a board waits for an answer are less than a tenth of a second,
//! and a busy host would not answer in time. So from a packet that wants an answer until one that may be it, the clock
//! runs at real speed, for `patience` at most.

/// The relation of the board's counts to real ones, both of the timers' rate.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// How many times as fast it runs.
    pub(crate) speed: u32,
    /// Longest time at real speed, in counts.
    patience: u64,
    /// Real counts at the last change, and the board's.
    changed: u64,
    shown: u64,
    /// Until when, in real counts, it runs at real speed.
    real_until: u64,
}

impl Pace {
    /// As fast as real time.
    pub(crate) const REAL: Self = Self::new(1, 0);

    /// `speed` times as fast, but where an answer is awaited, for up to `patience` counts.
    pub(crate) const fn new(speed: u32, patience: u64) -> Self {
        Self { speed, patience, changed: 0, shown: 0, real_until: 0 }
    }

    /// What the board's clock shows at `counts` of real time, which are not before the last change.
    pub(crate) fn at(&self, counts: u64) -> u64 {
        let passed = counts.saturating_sub(self.changed);
        let real = passed.min(self.real_until.saturating_sub(self.changed));
        self.shown + real + (passed - real) * u64::from(self.speed)
    }

    /// Something was said that wants an answer.
    pub(crate) fn ask(&mut self, counts: u64) {
        self.change(counts, self.patience);
    }

    /// Something came that may be one.
    pub(crate) fn answer(&mut self, counts: u64) {
        self.change(counts, 0);
    }

    fn change(&mut self, counts: u64, real: u64) {
        self.shown = self.at(counts);
        self.changed = counts;
        self.real_until = counts + real;
    }
}

/// Whether the Ethernet frame is more than TCP's acknowledgement of what came: whether it may want an answer, or be one.
pub(crate) fn is_more_than_ack(frame: &[u8]) -> bool {
    fn is_ack(frame: &[u8]) -> Option<bool> {
        let packet = frame.get(ETHER_TYPE..)?.strip_prefix(&[0x08, 0x00])?;
        let len = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        let (head, protocol) = (usize::from(packet.first()? & 0xf) * 4, *packet.get(9)?);
        let segment = packet.get(head..len)?;
        let data = segment.get(usize::from(segment.get(12)? >> 4) * 4..)?;
        Some(protocol == TCP && data.is_empty() && segment.get(13)? & (FIN | SYN | RST) == 0)
    }
    is_ack(frame) != Some(true)
}

const ETHER_TYPE: usize = 12;
const TCP: u8 = 6;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

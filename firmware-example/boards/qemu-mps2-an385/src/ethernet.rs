//! The LAN9118 Ethernet controller of the MPS2 boards, as a driver of `embassy-net`.
//!
//! Its interrupt is a level: the handler masks it, and the driver unmasks it when it has found nothing to do.

use core::ptr::{read_volatile, write_volatile};
use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;

use crate::{clock, pace};

/// Bytes of the longest frame without its check.
const FRAME_MAX: usize = 1514;
/// Bytes of a frame's check, which the chip hands over with it.
const CHECK_LEN: usize = 4;
/// Shortest frame: its header.
const FRAME_MIN: usize = 14;
/// Words for the longest frame.
const WORDS: usize = (FRAME_MAX + CHECK_LEN).div_ceil(4);
/// Room in the chip for the longest frame, its two command words and its alignment.
const TX_ROOM: u32 = FRAME_MAX as u32 + 14;

static WAKER: AtomicWaker = AtomicWaker::new();

/// One frame each way.
pub(crate) struct Buffers {
    rx: [u32; WORDS],
    tx: [u32; WORDS],
}

impl Buffers {
    pub(crate) const fn new() -> Self {
        Self { rx: [0; WORDS], tx: [0; WORDS] }
    }
}

/// The chip.
pub(crate) struct Lan9118 {
    buffers: &'static mut Buffers,
    address: [u8; 6],
    is_up: bool,
}

/// Masks the interrupt and wakes the driver.
pub(crate) extern "C" fn on_interrupt() {
    INT_EN.write(0);
    WAKER.wake();
}

impl Lan9118 {
    /// Starts the chip; `None` when there is none.
    pub(crate) fn new(buffers: &'static mut Buffers) -> Option<Self> {
        if BYTE_TEST.read() != 0x8765_4321 {
            return None;
        }
        HW_CFG.write(HW_RESET);
        while HW_CFG.read() & HW_RESET != 0 {}
        HW_CFG.write(HW_MUST_BE_ONE | HW_TX_FIFO_5K);
        let (low, high) = (mac_read(MAC_ADDRL).to_le_bytes(), mac_read(MAC_ADDRH).to_le_bytes());
        let address = [low[0], low[1], low[2], low[3], high[0], high[1]];
        phy_write(PHY_CONTROL, PHY_NEGOTIATE | PHY_RESTART);
        phy_write(PHY_INT_MASK, PHY_INT_NEGOTIATED | PHY_INT_LINK_DOWN);
        mac_write(MAC_CR, MAC_FULL_DUPLEX | MAC_TX | MAC_RX);
        RX_CFG.write(0);
        TX_CFG.write(TX_STATUS_MAY_OVERRUN | TX_ON);
        // Asks when there is room for a frame, and for each frame that came.
        FIFO_INT.write((TX_ROOM / 64 + 1) << 24);
        IRQ_CFG.write(IRQ_ON | IRQ_ACTIVE_HIGH | IRQ_PUSH_PULL);
        INT_STS.write(u32::MAX);
        INT_EN.write(INT_RX | INT_PHY);
        Some(Self { buffers, address, is_up: false })
    }

    /// Waits for `events`: clears what came of them so far, and unmasks them.
    fn wait_for(&self, cx: &Context<'_>, events: u32) {
        WAKER.register(cx.waker());
        // The link's event is cleared where the link is looked at.
        INT_STS.write(events & !INT_PHY);
        critical_section::with(|_| INT_EN.write(INT_EN.read() | events | INT_PHY));
    }

    fn has_frame() -> bool {
        RX_FIFO_INF.read() >> 16 & 0xff != 0
    }

    fn has_room() -> bool {
        TX_FIFO_INF.read() & 0xffff >= TX_ROOM
    }
}

impl Driver for Lan9118 {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Rx<'_>, Tx<'_>)> {
        loop {
            if !Self::has_frame() {
                self.wait_for(cx, INT_RX);
                // One that came between the look and the clearing has set no new event.
                if !Self::has_frame() {
                    return None;
                }
            }
            if !Self::has_room() {
                self.wait_for(cx, INT_TX_ROOM);
                if !Self::has_room() {
                    return None;
                }
            }
            let status = RX_STATUS.read();
            let len = (status >> 16 & 0x3fff) as usize;
            let is_whole = status & RX_STATUS_ERROR == 0;
            if is_whole && (FRAME_MIN + CHECK_LEN..=FRAME_MAX + CHECK_LEN).contains(&len) {
                let Buffers { rx, tx } = &mut *self.buffers;
                return Some((Rx { words: rx, len }, Tx { words: tx }));
            }
            skip(len.div_ceil(4));
        }
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Tx<'_>> {
        if !Self::has_room() {
            self.wait_for(cx, INT_TX_ROOM);
            if !Self::has_room() {
                return None;
            }
        }
        Some(Tx { words: &mut self.buffers.tx })
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        WAKER.register(cx.waker());
        if INT_STS.read() & INT_PHY != 0 || !self.is_up {
            phy_read(PHY_INT_SOURCE);
            INT_STS.write(INT_PHY);
            // The bit stays low until it is read: twice, for the present state.
            phy_read(PHY_STATUS);
            self.is_up = phy_read(PHY_STATUS) & PHY_LINK_UP != 0;
        }
        if self.is_up { LinkState::Up } else { LinkState::Down }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_MAX;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

/// A frame that came, still in the chip.
pub(crate) struct Rx<'a> {
    words: &'a mut [u32; WORDS],
    len: usize,
}

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, work: F) -> R {
        for word in self.words.iter_mut().take(self.len.div_ceil(4)) {
            *word = RX_DATA.read();
        }
        let frame = &mut as_bytes(self.words)[..self.len - CHECK_LEN];
        if pace::is_more_than_ack(frame) {
            clock::answer();
        }
        work(frame)
    }
}

/// Room for a frame.
pub(crate) struct Tx<'a> {
    words: &'a mut [u32; WORDS],
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, work: F) -> R {
        let frame = &mut as_bytes(self.words)[..len];
        let result = work(frame);
        if pace::is_more_than_ack(frame) {
            clock::ask();
        }
        while TX_FIFO_INF.read() >> 16 & 0xff != 0 {
            TX_STATUS.read();
        }
        TX_DATA.write(TX_FIRST | TX_LAST | len as u32);
        TX_DATA.write(len as u32);
        self.words.iter().take(len.div_ceil(4)).for_each(|word| TX_DATA.write(*word));
        result
    }
}

fn as_bytes(words: &mut [u32; WORDS]) -> &mut [u8] {
    // SAFETY: bytes have no alignment and no invalid values, and there are four in each word.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), WORDS * 4) }
}

/// Drops the frame that lies in front.
fn skip(words: usize) {
    if words < 4 {
        // Too short for the chip's own way.
        for _ in 0..words {
            RX_DATA.read();
        }
        return;
    }
    RX_DP_CTRL.write(RX_FAST_FORWARD);
    while RX_DP_CTRL.read() & RX_FAST_FORWARD != 0 {}
}

fn mac_wait() {
    while MAC_CSR_CMD.read() & MAC_BUSY != 0 {}
}

fn mac_read(register: u32) -> u32 {
    mac_wait();
    MAC_CSR_CMD.write(MAC_BUSY | MAC_READ | register);
    mac_wait();
    MAC_CSR_DATA.read()
}

fn mac_write(register: u32, value: u32) {
    mac_wait();
    MAC_CSR_DATA.write(value);
    MAC_CSR_CMD.write(MAC_BUSY | register);
    mac_wait();
}

fn phy_read(register: u32) -> u32 {
    mac_write(MAC_MII_ACCESS, MII_PHY | register << 6 | MII_BUSY);
    while mac_read(MAC_MII_ACCESS) & MII_BUSY != 0 {}
    mac_read(MAC_MII_DATA) & 0xffff
}

fn phy_write(register: u32, value: u32) {
    mac_write(MAC_MII_DATA, value);
    mac_write(MAC_MII_ACCESS, MII_PHY | register << 6 | MII_WRITE | MII_BUSY);
    while mac_read(MAC_MII_ACCESS) & MII_BUSY != 0 {}
}

/// A register of the chip.
#[derive(Clone, Copy)]
struct Register(usize);

impl Register {
    fn read(self) -> u32 {
        // SAFETY: a register of the chip, which only this module uses.
        unsafe { read_volatile((BASE + self.0) as *const u32) }
    }

    fn write(self, value: u32) {
        // SAFETY: as above.
        unsafe { write_volatile((BASE + self.0) as *mut u32, value) };
    }
}

const BASE: usize = 0x4020_0000;
const RX_DATA: Register = Register(0x00);
const TX_DATA: Register = Register(0x20);
const RX_STATUS: Register = Register(0x40);
const TX_STATUS: Register = Register(0x48);
const IRQ_CFG: Register = Register(0x54);
const INT_STS: Register = Register(0x58);
const INT_EN: Register = Register(0x5c);
const BYTE_TEST: Register = Register(0x64);
const FIFO_INT: Register = Register(0x68);
const RX_CFG: Register = Register(0x6c);
const TX_CFG: Register = Register(0x70);
const HW_CFG: Register = Register(0x74);
const RX_DP_CTRL: Register = Register(0x78);
const RX_FIFO_INF: Register = Register(0x7c);
const TX_FIFO_INF: Register = Register(0x80);
const MAC_CSR_CMD: Register = Register(0xa4);
const MAC_CSR_DATA: Register = Register(0xa8);

const IRQ_PUSH_PULL: u32 = 1;
const IRQ_ACTIVE_HIGH: u32 = 1 << 4;
const IRQ_ON: u32 = 1 << 8;
const INT_RX: u32 = 1 << 3;
const INT_TX_ROOM: u32 = 1 << 9;
const INT_PHY: u32 = 1 << 18;
const HW_RESET: u32 = 1;
const HW_TX_FIFO_5K: u32 = 5 << 16;
const HW_MUST_BE_ONE: u32 = 1 << 20;
const RX_FAST_FORWARD: u32 = 1 << 31;
const RX_STATUS_ERROR: u32 = 1 << 15;
const TX_ON: u32 = 1 << 1;
const TX_STATUS_MAY_OVERRUN: u32 = 1 << 2;
const TX_LAST: u32 = 1 << 12;
const TX_FIRST: u32 = 1 << 13;

const MAC_READ: u32 = 1 << 30;
const MAC_BUSY: u32 = 1 << 31;
const MAC_CR: u32 = 1;
const MAC_ADDRH: u32 = 2;
const MAC_ADDRL: u32 = 3;
const MAC_MII_ACCESS: u32 = 6;
const MAC_MII_DATA: u32 = 7;
const MAC_RX: u32 = 1 << 2;
const MAC_TX: u32 = 1 << 3;
const MAC_FULL_DUPLEX: u32 = 1 << 20;
const MII_BUSY: u32 = 1;
const MII_WRITE: u32 = 1 << 1;
const MII_PHY: u32 = 1 << 11;

const PHY_CONTROL: u32 = 0;
const PHY_STATUS: u32 = 1;
const PHY_INT_SOURCE: u32 = 29;
const PHY_INT_MASK: u32 = 30;
const PHY_RESTART: u32 = 1 << 9;
const PHY_NEGOTIATE: u32 = 1 << 12;
const PHY_LINK_UP: u32 = 1 << 2;
const PHY_INT_LINK_DOWN: u32 = 1 << 4;
const PHY_INT_NEGOTIATED: u32 = 1 << 6;

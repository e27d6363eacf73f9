//! The example firmware in QEMU, driven by a test on the host.
//!
//! ```text
//! board     one board: its power, its cable, its flash, its log, its sensors
//! monitor   QEMU's monitor (QMP)
//! capture   what went over the wire, from QEMU's own packet dump
//! said      what a board said, frame by frame
//! backend   the typed paths of the firmware through the HTTP API
//! resolver  a DNS server that knows one name
//! liar      a server that says what a test wants it to say, over a plain link
//! thief     the same over a sealed link, with the stolen keys of a route
//! ```
//!
//! The firmware is what `firmware-example/build qemu-mps2-an385` made, `imlink` the one of profile `e2e`; nextest
//! builds both before the first test. QEMU's user network reaches loopback of this machine as 10.0.2.2.
#![forbid(unsafe_code)]

pub mod backend;
pub mod board;
pub mod capture;
pub mod liar;
pub mod monitor;
pub mod resolver;
pub mod said;
pub mod thief;

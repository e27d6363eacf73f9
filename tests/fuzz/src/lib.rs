//! What a peer's bytes must not do, as functions of bytes.
//!
//! ```text
//! from_device  to_device  links      frames cut anywhere mean the same; what is read is written the same
//! device_session  serving_session    the session machines against a peer that lies
//! login  attach  answer              the handshake: nothing but a peer's own bytes is accepted
//! records  garbage_records           a changed conversation is accepted up to the change and no further
//! link_stream                        a receiver of nodes' and backends' frames
//! names  interface                   text and interfaces
//! ```
//!
//! Each is a target of `cargo fuzz` and run for a moment by `./test fuzz`; their bytes are lists of choices
//! ([`input::Input`]), so that most inputs get deep. Bytes that once failed are kept in `regressions/`.

#![forbid(unsafe_code)]

mod device;
mod frames;
mod handshake;
pub mod input;
mod link;
pub mod mutate;
mod mutations;
mod records;
mod serving;
mod text;
pub mod vectors;

/// Something to be fuzzed.
pub struct Target {
    /// Its name, of its file in `fuzz_targets/` too.
    pub name: &'static str,
    /// Panics when the bytes break a promise.
    pub run: fn(&[u8]),
    /// What to begin with, made of `protocol/vectors/`.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident: $run:path, $seeds:expr;)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $run, seeds: $seeds }),*];

        $(#[doc = concat!("Target `", stringify!($name), "`.")] pub fn $name(data: &[u8]) { $run(data) })*
    };
}

targets! {
    from_device: frames::from_device, || frames::seeds("from-device");
    to_device: frames::to_device, || frames::seeds("to-device");
    links: frames::links, frames::link_seeds;
    device_session: device::session, device::seeds;
    serving_session: serving::session, serving::seeds;
    login: handshake::login, handshake::login_seeds;
    attach: handshake::attach, handshake::attach_seeds;
    answer: handshake::answer, handshake::answer_seeds;
    records: records::records, records::seeds;
    garbage_records: records::garbage_records, records::garbage_seeds;
    link_stream: link::stream, link::seeds;
    names: text::names, text::seeds;
    interface: text::interface, text::interface_seeds;
}

//! What the example firmware speaks: its paths, the types of their payloads, and what a backend can check.
//!
//! | path | kind | payload | what it does |
//! |---|---|---|---|
//! | `led/set` | message | `bool` | switches the LED |
//! | `counter/add` | message | [`Add`] | counts, after working for a while: shows that each message is handled once |
//! | `settings/set` | message | [`Settings`] | changes the settings and keeps them |
//! | `reboot` | message | `u8`, any | restarts the board once the message is acknowledged |
//! | `text/show` | message | raw | shows a text of any length that fits |
//! | `led/get` | call | raw, empty | `bool` |
//! | `counter/get` | call | raw, empty | [`Counter`] |
//! | `settings/get` | call | raw, empty | [`Settings`] |
//! | `status/get` | call | raw, empty | [`Status`] |
//! | `booted` | event | [`Booted`] | after each power-on |
//! | `led/switched` | event | `bool` | after each `led/set` |
//! | `sensor/reading` | event | [`Reading`] | every `report_s` seconds |
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use imlink_device_client::{MessageId, interface};
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

interface! {
    /// All paths of the example firmware.
    pub BOARD {
        Message LED_SET = "led/set": bool;
        Message COUNTER_ADD = "counter/add": Add;
        Message SETTINGS_SET = "settings/set": Settings;
        Message REBOOT = "reboot": u8;
        Message TEXT_SHOW = "text/show";
        Call LED_GET = "led/get";
        Call COUNTER_GET = "counter/get";
        Call SETTINGS_GET = "settings/get";
        Call STATUS_GET = "status/get";
        Event BOOTED = "booted": Booted;
        Event LED_SWITCHED = "led/switched": bool;
        Event SENSOR_READING = "sensor/reading": Reading;
    }
}

/// One step of the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Add {
    /// What is added.
    pub number: u32,
    /// How long the handler works before it adds, in milliseconds.
    pub work_ms: u16,
}

/// What became of all [`Add`]s. Each message counted once, in order, gives the same as the same steps taken
/// by [`Counter::add`] on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Counter {
    /// Messages counted.
    pub count: u32,
    /// Sum of their numbers.
    pub sum: u64,
    /// FNV-1a over their numbers, little-endian, in the order they were counted.
    pub digest: u32,
    /// Messages that came marked as redelivered.
    pub redelivered: u32,
    /// Of these, the ones that had been counted already and were not counted again.
    pub repeated: u32,
    /// Generation of the last message counted.
    pub last_generation: u64,
    /// Its sequence.
    pub last_sequence: u64,
}

impl Counter {
    /// Counts the message `id`, unless it is marked as redelivered and was counted before.
    pub fn add(&mut self, id: MessageId, is_redelivered: bool, number: u32) {
        let last = MessageId::new(self.last_generation, self.last_sequence);
        self.redelivered = self.redelivered.wrapping_add(u32::from(is_redelivered));
        if is_redelivered && id <= last {
            self.repeated = self.repeated.wrapping_add(1);
            return;
        }
        (self.last_generation, self.last_sequence) = (id.generation, id.sequence);
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(number.into());
        let start = if self.count == 1 { FNV_BASIS } else { self.digest };
        self.digest =
            number.to_le_bytes().iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME));
    }
}

const FNV_BASIS: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// What a backend can set, kept over a power loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Settings {
    /// Seconds between two readings of the sensor, 0 for none.
    pub report_s: u16,
    /// Whether the LED is on after a power-on.
    pub led_at_boot: bool,
}

/// One reading of the sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Reading {
    /// Temperature in thousandths of a degree Celsius.
    pub millicelsius: i32,
    /// When, in milliseconds since 1970 by the server's clock; 0 when the board did not know it yet.
    pub time_ms: u64,
}

/// Said after each power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Booted {
    /// Power-ons that flash remembers, this one included; 0 on a board that keeps nothing.
    pub boots: u32,
    /// Version of the firmware.
    pub version: (u8, u8, u8),
}

/// How the board is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Status {
    /// Seconds since power-on.
    pub uptime_s: u32,
    /// Most bytes of the stack ever used, by its paint.
    pub stack_used: u32,
    /// Bytes of the stack.
    pub stack_size: u32,
    /// Sessions opened since power-on.
    pub sessions: u32,
    /// Connections that failed since power-on.
    pub failures: u32,
    /// Events taken, stored and dropped since power-on.
    pub events: (u32, u32, u32),
    /// Records that flash did not keep since power-on.
    pub flash_failures: u32,
}

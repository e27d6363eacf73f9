//! Keys of paths, and the bytes of an interface.

use imlink_protocol::Key;
use imlink_protocol::interface::{Entries, Entry, Kind};

use crate::{compare, hex};

#[test]
fn keys_and_interface() {
    let mut text = String::new();
    let keys = [
        ("led/set", "bytes", Key::raw("led/set")),
        ("led/set", "bool", Key::for_path::<bool>("led/set")),
        ("led/set", "u32", Key::for_path::<u32>("led/set")),
        ("telemetry", "bytes", Key::raw("telemetry")),
    ];
    for (path, payload, key) in keys {
        text += &format!("path:    {path}\npayload: {payload}\nkey:     {key}\n\n");
    }
    let mut interface = Vec::new();
    for (kind, path) in [(Kind::Message, "led/set"), (Kind::Call, "echo"), (Kind::Event, "telemetry")] {
        let entry = Entry { kind, key: Key::raw(path), path, schema: &[] };
        let mut bytes = [0; 64];
        interface.extend_from_slice(postcard::to_slice(&entry, &mut bytes).unwrap());
        text += &format!("entry:   {entry:?}\n");
    }
    assert!(Entries::new(&interface).all(|entry| entry.is_ok()));
    text += &format!("hex:     {}\n\n", hex(&interface));
    compare("keys.txt", &text);
}

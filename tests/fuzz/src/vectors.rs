//! The golden vectors of the wire, which every fuzzer begins with.

/// Every value of the line `name:` in a file of `protocol/vectors/`.
pub fn all(file: &str, name: &str) -> Vec<Vec<u8>> {
    let text = match file {
        "from-device" => include_str!("../../../protocol/vectors/from-device.txt"),
        "to-device" => include_str!("../../../protocol/vectors/to-device.txt"),
        "from-backend" => include_str!("../../../protocol/vectors/from-backend.txt"),
        "to-backend" => include_str!("../../../protocol/vectors/to-backend.txt"),
        "to-route" => include_str!("../../../protocol/vectors/to-route.txt"),
        "to-server" => include_str!("../../../protocol/vectors/to-server.txt"),
        "keys" => include_str!("../../../protocol/vectors/keys.txt"),
        "refusals" => include_str!("../../../protocol/vectors/refusals.txt"),
        "sealed" => include_str!("../../../protocol/vectors/sealed.txt"),
        "tickets" => include_str!("../../../protocol/vectors/tickets.txt"),
        _ => panic!("no vectors in {file}"),
    };
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let found: Vec<_> = values.map(bytes).collect();
    assert!(!found.is_empty(), "{file} has no {name}");
    found
}

/// The bodies of the frames in a file.
pub fn bodies(file: &str) -> Vec<Vec<u8>> {
    let frames = all(file, "hex");
    let body = |frame: &Vec<u8>| imlink_protocol::frame::split(frame, 1 << 17).ok().flatten().map(|f| f.body.to_vec());
    frames.iter().filter_map(body).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|digits| u8::from_str_radix(digits, 16).expect("hexadecimal")).collect()
}

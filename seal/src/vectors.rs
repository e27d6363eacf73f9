//! The published vectors of the Noise protocols, through `snow` and the primitives of hosts.

use crate::crypto::Resolver;

struct Vector(Vec<(String, String)>);

impl Vector {
    fn all() -> Vec<Self> {
        let text = include_str!("../../protocol/vectors/noise.txt");
        let lines = |block: &str| {
            let pairs = block.lines().filter_map(|line| line.split_once(' '));
            Self(pairs.map(|(name, value)| (name.into(), value.into())).collect())
        };
        text.split("\n\n").filter(|block| block.contains("protocol ")).map(lines).collect()
    }

    fn all_of<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = Vec<u8>> + 'a {
        self.0.iter().filter(move |(name, _)| name == wanted).map(|(_, hex)| bytes(hex))
    }

    fn of(&self, wanted: &str) -> Option<Vec<u8>> {
        self.all_of(wanted).next()
    }

    fn protocol(&self) -> &str {
        self.0.iter().find(|(name, _)| name == "protocol").map(|(_, text)| text).unwrap()
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect()
}

fn end(vector: &Vector, is_initiator: bool) -> snow::HandshakeState {
    let side = if is_initiator {
        ["init_static", "init_ephemeral", "init_remote_static"]
    } else {
        ["resp_static", "resp_ephemeral", ""]
    };
    let [s, e, rs] = side.map(|name| vector.of(name));
    let prologue = vector.of("init_prologue").unwrap();
    let psks: Vec<[u8; 32]> = vector.all_of("psk").map(|psk| psk.try_into().unwrap()).collect();
    let mut builder = snow::Builder::with_resolver(vector.protocol().parse().unwrap(), Box::new(Resolver));
    builder = builder.prologue(&prologue).unwrap();
    // The places of the secrets are in the name.
    let places = [0u8, 2].into_iter().filter(|place| vector.protocol().contains(&format!("psk{place}")));
    for (place, psk) in places.zip(&psks) {
        builder = builder.psk(place, psk).unwrap();
    }
    if let Some(s) = &s {
        builder = builder.local_private_key(s).unwrap();
    }
    if let Some(rs) = &rs {
        builder = builder.remote_public_key(rs).unwrap();
    }
    let e = e.unwrap();
    builder = builder.fixed_ephemeral_key_for_testing_only(&e);
    if is_initiator { builder.build_initiator().unwrap() } else { builder.build_responder().unwrap() }
}

#[test]
fn the_published_vectors_come_out_byte_by_byte() {
    let vectors = Vector::all();
    assert_eq!(vectors.len(), 4, "two protocols from two sources");
    for vector in vectors {
        let mut ends = [end(&vector, true), end(&vector, false)];
        let mut messages = vector.all_of("payload").zip(vector.all_of("message"));
        for turn in 0..2 {
            let (payload, message) = messages.next().unwrap();
            let mut out = [0; 512];
            let len = ends[turn].write_message(&payload, &mut out).unwrap();
            assert_eq!(out[..len], message);
            let len = ends[1 - turn].read_message(&message, &mut out).unwrap();
            assert_eq!(out[..len], payload);
        }
        if let Some(hash) = vector.of("handshake_hash") {
            assert_eq!(ends[0].get_handshake_hash(), hash);
        }
        let [device, server] = ends;
        let (mut device, mut server) = (device.into_transport_mode().unwrap(), server.into_transport_mode().unwrap());
        for (turn, (payload, message)) in messages.enumerate() {
            let from = if turn % 2 == 0 { &mut device } else { &mut server };
            let mut out = [0; 512];
            let len = from.write_message(&payload, &mut out).unwrap();
            assert_eq!(out[..len], message);
        }
    }
}

//! The published vectors of the Noise protocols, through the library of the device's end.

use std::string::{String, ToString};
use std::vec::Vec;

use noise_protocol::{HandshakeState, patterns};

use super::primitives::{ChaCha, Secret, Sha, X25519};
use super::{ATTACH_PATTERN, KEY_LEN, LOGIN_PATTERN};

/// One vector: its fields, and its messages as payload and bytes.
pub(super) struct Vector {
    fields: Vec<(String, String)>,
    messages: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Vector {
    fn all() -> Vec<Self> {
        let text = include_str!("../../vectors/noise.txt");
        text.split("\n\n").filter(|block| block.contains("protocol ")).map(Self::read).collect()
    }

    fn read(block: &str) -> Self {
        let lines = block.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| *name != "#");
        let fields: Vec<_> = lines.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let messages = named(&fields, "payload").into_iter().zip(named(&fields, "message")).collect();
        Self { fields, messages }
    }

    fn text(&self, wanted: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    fn key(&self, name: &str) -> Option<[u8; KEY_LEN]> {
        self.text(name).map(|hex| bytes(hex).try_into().unwrap())
    }
}

fn named(fields: &[(String, String)], wanted: &str) -> Vec<Vec<u8>> {
    fields.iter().filter(|(name, _)| name == wanted).map(|(_, hex)| bytes(hex)).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_published_vectors_come_out_byte_by_byte() {
    let vectors = Vector::all();
    assert_eq!(vectors.len(), 4, "two protocols from two sources");
    for vector in vectors {
        let pattern = match vector.text("protocol").unwrap() {
            LOGIN_PATTERN => patterns::noise_ik_psk2(),
            ATTACH_PATTERN => patterns::noise_nn_psk0(),
            "Noise_IKpsk0+psk2_25519_ChaChaPoly_SHA256" => patterns::noise_ik_psk0_psk2(),
            "Noise_NNpsk0+psk2_25519_ChaChaPoly_SHA256" => patterns::noise_nn_psk0_psk2(),
            other => panic!("{other}"),
        };
        let prologue = bytes(vector.text("init_prologue").unwrap());
        let state = |is_initiator, s, e, rs| {
            let mut noise = HandshakeState::<X25519, ChaCha, Sha>::new(
                pattern.clone(),
                is_initiator,
                &prologue,
                vector.key(s).as_ref().map(Secret::new),
                vector.key(e).as_ref().map(Secret::new),
                vector.key(rs),
                None,
            );
            named(&vector.fields, "psk").iter().for_each(|psk| noise.push_psk(psk));
            noise
        };
        let mut ends = [
            state(true, "init_static", "init_ephemeral", "init_remote_static"),
            state(false, "resp_static", "resp_ephemeral", ""),
        ];
        let (handshake, transport) = vector.messages.split_at(2);
        for (turn, (payload, message)) in handshake.iter().enumerate() {
            let mut out = std::vec![0; message.len()];
            ends[turn].write_message(payload, &mut out).unwrap();
            assert_eq!(&out, message);
            let mut read = std::vec![0; payload.len()];
            ends[1 - turn].read_message(message, &mut read).unwrap();
            assert_eq!(&read, payload);
        }
        if let Some(hash) = vector.text("handshake_hash") {
            assert_eq!(ends[0].get_hash(), bytes(hash));
        }
        let (mut to_server, mut to_device) = ends[0].get_ciphers();
        for (turn, (payload, message)) in transport.iter().enumerate() {
            let cipher = if turn % 2 == 0 { &mut to_server } else { &mut to_device };
            let mut out = std::vec![0; message.len()];
            cipher.encrypt(payload, &mut out);
            assert_eq!(&out, message);
        }
    }
}

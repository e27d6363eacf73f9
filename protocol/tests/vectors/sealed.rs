//! Sealed links with every key fixed: handshakes, records, refusals.
//!
//! The device's end is imlink's own, made of `noise-protocol`; the server's here is `snow` as it comes. The crate
//! `imlink-seal` has a test that the end of hosts gives the same bytes.

use imlink_protocol::key_pair::{KEY_LEN, PrivateKey};
use imlink_protocol::message::{Code, Flags, FromDevice, Hello, RejectCode, ToDevice, Welcome};
use imlink_protocol::seal::{
    ATTACH_PATTERN, ATTACH_PROLOGUE, Aead, Attach, Claim, Finished, FromStranger, Initiator, LOGIN_PATTERN,
    LOGIN_PROLOGUE, Login, LoginClaim, MESSAGE_LEN_MAX, Portable, REKEY_AFTER, Records, Sealer, TAG_LEN, ToStranger,
    nonce, take,
};
use imlink_protocol::{Fingerprint, VERSION};
use serde::Serialize;

use crate::device::WELCOME;
use crate::tickets::{TICKET, grant};
use crate::{Entry, ID, KEY, PAYLOAD, compare, hex};

const DEVICE_KEY: [u8; KEY_LEN] = *b"the private key of this device 1";
const ROUTE_KEY: [u8; KEY_LEN] = *b"the private key of the route now";
const DEVICE_EPHEMERAL: [u8; KEY_LEN] = *b"drawn by the device, ephemeral 1";
const SERVER_EPHEMERAL: [u8; KEY_LEN] = *b"drawn by the server, ephemeral 2";
const FLEET_SECRET: [u8; KEY_LEN] = *b"the secret that the fleet shares";

/// A handshake that is done.
struct Shaken {
    records: Records<Portable>,
    answer: Vec<u8>,
    hash: Vec<u8>,
    /// First what the device seals with.
    keys: ([u8; KEY_LEN], [u8; KEY_LEN]),
}

/// Has `noise`, a server of another library, answer the frame `first`.
fn finish(initiator: Initiator, first: &[u8], mut noise: snow::HandshakeState, payload: &[u8]) -> Shaken {
    let body = take(first, 512).unwrap().unwrap().0;
    let message = match FromStranger::decode(body).unwrap() {
        FromStranger::Login(greeting) => greeting.noise,
        FromStranger::Attach { noise, .. } => noise,
    };
    let mut out = [0; 512];
    let len = noise.read_message(message, &mut out).unwrap();
    assert_eq!(out[..len], *payload);
    let len = noise.write_message(&[], &mut out).unwrap();
    let mut answer = vec![0; 64];
    let answer_len = ToStranger::Answer { noise: &out[..len] }.encode(&mut answer).unwrap();
    answer.truncate(answer_len);
    let Finished::Sealed(records) = initiator.finish(take(&answer, 512).unwrap().unwrap().0).unwrap() else {
        panic!("an answer is no refusal");
    };
    let hash = noise.get_handshake_hash().to_vec();
    Shaken { records, answer, hash, keys: noise.dangerously_get_raw_split() }
}

/// What follows on any link: who comes is known, so `Hello` does not say it.
fn conversation() -> (Vec<FromDevice<'static>>, Vec<ToDevice<'static>>) {
    let hello = Hello {
        version: VERSION,
        tenant: "",
        device: "",
        incarnation: 0,
        attempt: 0,
        epoch: 7,
        cursor: ID,
        receive_limit: 509,
        window: 8,
        fingerprint: Fingerprint::NONE,
        event_queue: 0x0fed_cba9_8765_4321,
        ticket: b"",
    };
    let welcome = Welcome { grant: grant(&TICKET).leak(), ..WELCOME };
    let message = ToDevice::Message { sequence: 43, key: KEY, expiry_ms: 0, flags: Flags::NONE, payload: PAYLOAD };
    let from_device = [
        FromDevice::Hello(hello),
        FromDevice::Ack { sequence: 43 },
        FromDevice::Reply { request: 1, status: Code::OK, payload: PAYLOAD },
        // Its length takes two bytes.
        FromDevice::Event { sequence: 6, key: KEY, payload: &[0xee; 200] },
    ];
    let to_device = [
        ToDevice::Welcome(welcome),
        message,
        ToDevice::Call { request: 1, key: KEY, deadline_ms: 305_000, payload: PAYLOAD },
        ToDevice::EventAck { sequence: 6 },
    ];
    (from_device.into(), to_device.into())
}

fn record<T: Serialize + std::fmt::Debug>(
    of: &str,
    from: &str,
    counter: u64,
    message: &T,
    sealer: &mut Sealer<Portable>,
) -> String {
    let (mut plain, mut bytes) = ([0; 512], [0; 512]);
    let plain = postcard::to_slice(message, &mut plain).unwrap();
    let len = sealer.encode(message, &mut bytes).unwrap();
    Entry::new(&format!("{of}-{from}-{counter}"))
        .bytes("nonce", &nonce(counter))
        .text("fields", format!("{message:?}"))
        .bytes("plain", plain)
        .bytes("record", &bytes[..len])
        .end()
}

/// The records of both directions; the server's are sealed under the keys that its own library found.
fn records(of: &str, shaken: Shaken) -> String {
    let (to_server, to_device) = shaken.keys;
    let mut server = Records::<Portable>::new(to_device, to_server);
    let mut device = shaken.records;
    let mut text = String::new();
    let (from_device, to_device) = conversation();
    for (counter, (said, answered)) in (0..).zip(from_device.iter().zip(&to_device)) {
        text += &record(of, "device", counter, said, &mut device.sealer);
        let sealed = record(of, "server", counter, answered, &mut server.sealer);
        let mut bytes = unhex(sealed.lines().find_map(|line| line.strip_prefix("record:")).unwrap());
        let opened = device.opener.open(&mut bytes, 4096).unwrap().unwrap();
        assert_eq!(imlink_protocol::frame::decode(&bytes[opened.start..opened.end]), Ok(*answered));
        text += &sealed;
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

struct Fleet {
    name: &'static str,
    tenant: &'static str,
    device: &'static str,
    claim: Claim,
    psk: [u8; KEY_LEN],
}

fn login(fleet: &Fleet) -> (String, Shaken) {
    let route_public = PrivateKey::new(ROUTE_KEY).public().0;
    let login = Login {
        tenant: fleet.tenant,
        device: fleet.device,
        claim: fleet.claim,
        private_key: &DEVICE_KEY,
        route_key: &route_public,
        psk: &fleet.psk,
    };
    let mut frame = [0; MESSAGE_LEN_MAX];
    let (initiator, len) = Initiator::login(&login, &mut DEVICE_EPHEMERAL.clone(), &mut frame).unwrap();
    let prologue = [LOGIN_PROLOGUE, &[VERSION], fleet.tenant.as_bytes()].concat();
    let mut payload = [0; 128];
    let payload = postcard::to_slice(&LoginClaim { device: fleet.device, claim: fleet.claim }, &mut payload).unwrap();
    let noise = snow::Builder::new(LOGIN_PATTERN.parse().unwrap())
        .prologue(&prologue)
        .unwrap()
        .local_private_key(&ROUTE_KEY)
        .unwrap()
        .psk(2, &fleet.psk)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&SERVER_EPHEMERAL)
        .build_responder()
        .unwrap();
    let shaken = finish(initiator, &frame[..len], noise, payload);
    let entry = Entry::new(fleet.name)
        .text("pattern", LOGIN_PATTERN)
        .text("tenant", fleet.tenant)
        .text("device", fleet.device)
        .text("incarnation", fleet.claim.incarnation)
        .text("attempt", fleet.claim.attempt)
        .bytes("device-private", &DEVICE_KEY)
        .bytes("device-public", &PrivateKey::new(DEVICE_KEY).public().0)
        .bytes("route-private", &ROUTE_KEY)
        .bytes("route-public", &route_public)
        .bytes("psk", &fleet.psk);
    (end(entry, &prologue, payload, &frame[..len], &shaken), shaken)
}

fn attach(name: &str, claim: Claim) -> (String, Shaken) {
    let grant = grant(&TICKET);
    let (key, ticket) = grant.split_first_chunk().unwrap();
    let mut frame = [0; MESSAGE_LEN_MAX];
    let attach = Attach { ticket, key, claim };
    let (initiator, len) = Initiator::attach(&attach, &mut DEVICE_EPHEMERAL.clone(), &mut frame).unwrap();
    let prologue = [ATTACH_PROLOGUE, &[VERSION], &sha256(ticket)].concat();
    let mut payload = [0; 32];
    let payload = postcard::to_slice(&claim, &mut payload).unwrap();
    let noise = snow::Builder::new(ATTACH_PATTERN.parse().unwrap())
        .prologue(&prologue)
        .unwrap()
        .psk(0, key)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&SERVER_EPHEMERAL)
        .build_responder()
        .unwrap();
    let shaken = finish(initiator, &frame[..len], noise, payload);
    let entry = Entry::new(name)
        .text("pattern", ATTACH_PATTERN)
        .text("incarnation", claim.incarnation)
        .text("attempt", claim.attempt)
        .bytes("grant", &grant)
        .bytes("psk", key);
    (end(entry, &prologue, payload, &frame[..len], &shaken), shaken)
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use snow::resolvers::{CryptoResolver, DefaultResolver};
    let mut hash = DefaultResolver.resolve_hash(&snow::params::HashChoice::SHA256).unwrap();
    let mut out = vec![0; 32];
    hash.input(bytes);
    hash.result(&mut out);
    out
}

/// What both handshakes have in common.
fn end(entry: Entry, prologue: &[u8], payload: &[u8], frame: &[u8], shaken: &Shaken) -> String {
    entry
        .bytes("device-ephemeral", &DEVICE_EPHEMERAL)
        .bytes("server-ephemeral", &SERVER_EPHEMERAL)
        .bytes("prologue", prologue)
        .bytes("payload", payload)
        .bytes("frame", frame)
        .bytes("answer", &shaken.answer)
        .bytes("handshake-hash", &shaken.hash)
        .bytes("to-server-key", &shaken.keys.0)
        .bytes("to-device-key", &shaken.keys.1)
        .end()
}

#[test]
fn handshakes_and_records() {
    let first = Claim { incarnation: 0x0123_4567_89ab_cdef, attempt: 3 };
    let plain_fleet = Fleet { name: "login", tenant: "-", device: "lamp-1", claim: first, psk: [0; KEY_LEN] };
    let claim = Claim { incarnation: u64::MAX, attempt: 300 };
    let fleet = Fleet { name: "login-of-a-fleet", tenant: "acme", device: "door.7:b", claim, psk: FLEET_SECRET };
    let (mut text, shaken) = login(&plain_fleet);
    let (to_server, _) = shaken.keys;
    text += &records("login", shaken);
    let (entry, shaken) = login(&fleet);
    let (device_keys, server_keys) = (shaken.records.into_keys(), shaken.keys);
    assert_eq!(device_keys, server_keys, "both libraries find the same keys");
    text += &entry;
    let (entry, shaken) = attach("attach", Claim { attempt: 4, ..first });
    text += &entry;
    text += &records("attach", shaken);
    text += &rekeyed(to_server);
    compare("sealed.txt", &text);
}

/// The first record of the device behind the change of its key, made by the rule: a million records before it
/// would take a minute. What imlink itself seals there is compared with this in `src/seal/record.rs`.
fn rekeyed(before: [u8; KEY_LEN]) -> String {
    let mut after = [0; KEY_LEN];
    Portable::seal(&before, &nonce(u64::MAX), &[], &mut after);
    let mut body = [0; 1];
    postcard::to_slice(&FromDevice::Busy, &mut body).unwrap();
    let (plain, head) = (body, [body.len() as u8 + TAG_LEN as u8]);
    let tag = Portable::seal(&after, &nonce(REKEY_AFTER), &head, &mut body);
    Entry::new(&format!("login-device-{REKEY_AFTER}"))
        .bytes("key-before", &before)
        .bytes("key-after", &after)
        .bytes("nonce", &nonce(REKEY_AFTER))
        .text("fields", format!("{:?}", FromDevice::Busy))
        .bytes("plain", &plain)
        .bytes("record", &[&head[..], &body, &tag].concat())
        .end()
}

#[test]
fn refusals() {
    let mut text = String::new();
    for code in RejectCode::ALL {
        let refuse = ToStranger::Refuse { code: *code, retry_after_s: 30 };
        let mut out = [0; 16];
        let len = refuse.encode(&mut out).unwrap();
        assert_eq!(ToStranger::decode(take(&out[..len], 512).unwrap().unwrap().0), Ok(refuse));
        text += &format!("name:   refuse-{code}\nfields: {refuse:?}\nhex:    {}\n\n", hex(&out[..len]));
    }
    compare("refusals.txt", &text);
}

//! Both ends of the handshake, each against whatever comes instead of the other.

use std::collections::HashMap;
use std::sync::OnceLock;

use imlink_protocol::key_pair::{KEY_LEN, LoginKeys, PrivateKey, Psk};
use imlink_protocol::limits::{GRANT_LEN_MAX, HELLO_FRAME_LEN_MAX};
use imlink_protocol::seal::{
    ATTACH_PATTERN, ATTACH_PROLOGUE, Attach, Claim, Finished, FromStranger, Greeting, Initiator, LOGIN_PATTERN,
    LOGIN_PROLOGUE, Login, LoginClaim, MAC_LABEL, MESSAGE_LEN_MAX, ToStranger, take,
};
use imlink_protocol::ticket::{self, LIFETIME_S, Ticket, TicketKey, day_of, mac};
use imlink_protocol::{FromDevice, KeyMark, VERSION};
use imlink_seal::{Answered, AttachRead, RouteKeys};
use snow::params::HashChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};

use crate::input::Input;
use crate::mutations::mutated;
use crate::vectors;

const DEVICE_KEY: [u8; KEY_LEN] = [7; KEY_LEN];
const ROUTE_KEY: [u8; KEY_LEN] = [20; KEY_LEN];
const PSK: [u8; KEY_LEN] = [9; KEY_LEN];
const NOW_S: u64 = 1_764_000_000;
const CLAIM: Claim = Claim { incarnation: 0x0123_4567_89ab_cdef, attempt: 3 };

fn route() -> &'static RouteKeys {
    static ROUTE: OnceLock<RouteKeys> = OnceLock::new();
    ROUTE.get_or_init(|| route_of(ROUTE_KEY, [21; KEY_LEN]))
}

/// A route that no device here knows: a fuzzer cannot have seen what would be good for it.
fn route_of_nobody() -> &'static RouteKeys {
    static ROUTE: OnceLock<RouteKeys> = OnceLock::new();
    ROUTE.get_or_init(|| route_of([30; KEY_LEN], [31; KEY_LEN]))
}

fn route_of(current: [u8; KEY_LEN], next: [u8; KEY_LEN]) -> RouteKeys {
    let keys = LoginKeys { current: PrivateKey::new(current), next: PrivateKey::new(next) };
    let psks = HashMap::from([("acme".to_owned(), Psk::new(PSK))]);
    RouteKeys::new(&keys, psks).expect("keys of 32 bytes")
}

fn route_public() -> [u8; KEY_LEN] {
    static PUBLIC: OnceLock<[u8; KEY_LEN]> = OnceLock::new();
    *PUBLIC.get_or_init(|| PrivateKey::new(ROUTE_KEY).public().0)
}

fn day_keys() -> [(u32, TicketKey); 2] {
    let key = |day| (day, ticket::derive(b"cluster", "im-1", day));
    [key(day_of(NOW_S)), key(day_of(NOW_S) - 1)]
}

fn granted() -> Vec<u8> {
    let expires_s = NOW_S + LIFETIME_S;
    let key = KeyMark(*b"key mark");
    let said = Ticket { is_plain: false, tenant: "-", device: "lamp-1", epoch_floor: 41, expires_s, key };
    granted_for(&said, 3).expect("it fits")
}

fn granted_for(said: &Ticket<'_>, nonce: u8) -> Option<Vec<u8>> {
    let mut out = [0; GRANT_LEN_MAX];
    let len = ticket::grant(said, &day_keys()[0].1, &[nonce; 24], &mut out)?;
    Some(out[..len].to_vec())
}

fn logs_in(psk: &[u8; KEY_LEN], tenant: &str, ephemeral: u8) -> (Initiator, Vec<u8>) {
    let route_key = route_public();
    let login = Login { tenant, device: "lamp-1", claim: CLAIM, private_key: &DEVICE_KEY, route_key: &route_key, psk };
    let mut out = [0; MESSAGE_LEN_MAX];
    let (initiator, len) = Initiator::login(&login, &mut [ephemeral; KEY_LEN], &mut out).expect("it fits");
    (initiator, out[..len].to_vec())
}

fn attaches(ephemeral: u8) -> (Initiator, Vec<u8>) {
    let grant = granted();
    let (key, ticket) = grant.split_first_chunk().expect("a key is in front");
    let attach = Attach { ticket, key, claim: CLAIM };
    let mut out = [0; MESSAGE_LEN_MAX];
    let (initiator, len) = Initiator::attach(&attach, &mut [ephemeral; KEY_LEN], &mut out).expect("it fits");
    (initiator, out[..len].to_vec())
}

fn greeting(frame: &[u8]) -> Option<Greeting<'_>> {
    match FromStranger::decode(take(frame, HELLO_FRAME_LEN_MAX).ok()??.0) {
        Ok(FromStranger::Login(greeting)) => Some(greeting),
        _ => None,
    }
}

/// The greeting that anybody can write who knows the route's public key.
fn with_mac<'a>(tenant: &'a str, noise: &'a [u8]) -> Greeting<'a> {
    let mac_key = sha256(&[MAC_LABEL, &route_public()].concat());
    let full = mac(&mac_key, &[tenant.as_bytes(), noise]);
    Greeting { version: VERSION, mac: std::array::from_fn(|at| full[at]), tenant, noise }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    let mut hash = DefaultResolver.resolve_hash(&HashChoice::SHA256).expect("it is built in");
    let mut out = vec![0; 32];
    hash.input(bytes);
    hash.result(&mut out);
    out
}

/// The first message of a device of another make, that says `payload`.
fn noise(pattern: &str, prologue: &[u8], psk: (u8, &[u8; KEY_LEN]), payload: &[u8]) -> Vec<u8> {
    let route_key = route_public();
    let mut builder = snow::Builder::new(pattern.parse().expect("a pattern")).prologue(prologue).expect("it fits");
    builder = builder.psk(psk.0, psk.1).expect("a place");
    if pattern == LOGIN_PATTERN {
        builder = builder.local_private_key(&DEVICE_KEY).and_then(|b| b.remote_public_key(&route_key)).expect("keys");
    }
    let builder = builder.fixed_ephemeral_key_for_testing_only(&[5; KEY_LEN]);
    let mut out = [0; 1024];
    let len = builder.build_initiator().and_then(|mut noise| noise.write_message(payload, &mut out));
    out[..len.expect("it fits")].to_vec()
}

/// The link is the device's, and nobody else's: its next record opens, and the same one does not open twice.
fn is_sealed(initiator: Initiator, mut answered: Answered) {
    let (body, len) = take(&answered.frame, HELLO_FRAME_LEN_MAX).expect("a frame").expect("a whole one");
    assert_eq!(len, answered.frame.len());
    let Ok(Finished::Sealed(mut device)) = initiator.finish(body) else { panic!("its own answer") };
    let mut bytes = [0; 64];
    let len = device.sealer.encode(&FromDevice::Busy, &mut bytes).expect("it fits");
    let mut again = bytes;
    assert!(matches!(answered.records.opener.open(&mut bytes[..len], 512), Ok(Some(_))));
    assert!(answered.records.opener.open(&mut again[..len], 512).is_err(), "a record opens once");
}

/// What a route does with a first frame.
///
/// Only a frame that a device made, byte by byte, comes to an answer; a changed one does not, whether or not its
/// mac was made anew.
pub(crate) fn login(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => {
            if let Some(greeting) = greeting(input.rest()) {
                assert!(route_of_nobody().begin(&greeting).is_err(), "a mac by nobody who knows the route");
            }
        }
        1 => {
            let (tenant, psk) = if input.byte().is_multiple_of(2) { ("-", [0; KEY_LEN]) } else { ("acme", PSK) };
            let (initiator, frame) = logs_in(&psk, tenant, 5);
            let changed = mutated(&mut input, std::slice::from_ref(&frame));
            let Some(greeting) = greeting(&changed) else { return };
            let is_same = changed.starts_with(&frame);
            match route().begin(&greeting).and_then(|begun| begun.read()) {
                Ok(read) => {
                    assert!(is_same, "a changed login is read");
                    assert_eq!((&*read.device, &*read.tenant, read.claim), ("lamp-1", tenant, CLAIM));
                    is_sealed(initiator, read.answer().expect("it can be answered"));
                }
                Err(refused) => assert!(!is_same, "{refused}"),
            }
        }
        2 => {
            let (_, frame) = logs_in(&[0; KEY_LEN], "-", 5);
            let whole = greeting(&frame).expect("a login");
            let noise = mutated(&mut input, &[whole.noise.to_vec()]);
            let tenant = std::str::from_utf8(input.bytes(40)).unwrap_or("-");
            let begun = route().begin(&with_mac(tenant, &noise)).expect("the mac fits");
            let is_same = noise == whole.noise && tenant == "-";
            assert_eq!(begun.read().is_ok(), is_same, "a mac alone reads nothing");
        }
        _ => {
            // A device with a key of its own may say what it likes.
            let payload = input.bytes(400);
            let noise = noise(LOGIN_PATTERN, &[LOGIN_PROLOGUE, b"\x01-"].concat(), (2, &[0; KEY_LEN]), payload);
            let read = route().begin(&with_mac("-", &noise)).expect("the mac fits").read();
            let said = postcard::take_from_bytes::<LoginClaim<'_>>(payload).ok().filter(|(_, rest)| rest.is_empty());
            match (read, said) {
                (Ok(read), Some((said, _))) => {
                    assert_eq!((&*read.device, read.claim), (said.device, said.claim));
                    assert_eq!(read.public_key, PrivateKey::new(DEVICE_KEY).public().0, "the key that it has");
                }
                (Ok(_), None) => panic!("no claim was read"),
                (Err(_), Some(_)) if payload.len() <= 100 => panic!("a claim was not read"),
                (Err(_), _) => {}
            }
        }
    }
}

/// What an IM-server does with a first frame that shows a ticket.
pub(crate) fn attach(data: &[u8]) {
    let mut input = Input::new(data);
    let keys = day_keys();
    match input.byte() % 4 {
        0 => {
            let Ok(Some((body, _))) = take(input.rest(), HELLO_FRAME_LEN_MAX) else { return };
            if let Ok(FromStranger::Attach { ticket: shown, noise, .. }) = FromStranger::decode(body) {
                let keys = [(day_of(NOW_S), ticket::derive(b"another cluster", "im-1", day_of(NOW_S)))];
                assert!(AttachRead::new(shown, noise, &keys, NOW_S).is_err(), "nobody was given this ticket");
            }
        }
        1 => {
            let (initiator, frame) = attaches(5);
            let changed = mutated(&mut input, std::slice::from_ref(&frame));
            let Ok(Some((body, _))) = take(&changed, HELLO_FRAME_LEN_MAX) else { return };
            let Ok(FromStranger::Attach { ticket, noise, .. }) = FromStranger::decode(body) else { return };
            let is_same = changed.starts_with(&frame);
            match AttachRead::new(ticket, noise, &keys, NOW_S) {
                Ok(read) => {
                    assert!(is_same, "a changed attach is read");
                    assert_eq!((&*read.tenant, &*read.device, read.epoch_floor), ("-", "lamp-1", 41));
                    is_sealed(initiator, read.answer().expect("it can be answered"));
                }
                Err(refused) => assert!(!is_same, "{refused}"),
            }
        }
        2 => any_ticket(&mut input),
        _ => {
            // Whoever was given the ticket may say what it likes.
            let grant = granted();
            let (key, ticket) = grant.split_first_chunk().expect("a key is in front");
            let payload = input.bytes(400);
            let prologue = [ATTACH_PROLOGUE, &[VERSION], &sha256(ticket)].concat();
            let noise = noise(ATTACH_PATTERN, &prologue, (0, key), payload);
            let said = postcard::take_from_bytes::<Claim>(payload).ok().filter(|(_, rest)| rest.is_empty());
            match (AttachRead::new(ticket, &noise, &keys, NOW_S), said) {
                (Ok(read), Some((said, _))) => assert_eq!(read.claim, said),
                (Ok(_), None) => panic!("no claim was read"),
                (Err(_), Some(_)) if payload.len() <= 15 => panic!("a claim was not read"),
                (Err(_), _) => {}
            }
        }
    }
}

/// Tickets of a route that says anything: good within their time, on their kind of link, at their server.
fn any_ticket(input: &mut Input<'_>) {
    let (is_plain, expires_s) = (input.byte().is_multiple_of(4), NOW_S.wrapping_add(input.number()).wrapping_sub(12));
    let (day, epoch_floor) = (input.byte() % 4, input.number());
    let tenant = std::str::from_utf8(input.bytes(40)).unwrap_or("-");
    let device = std::str::from_utf8(input.bytes(80)).unwrap_or("lamp-1");
    let key = KeyMark(epoch_floor.rotate_left(8).to_le_bytes());
    let said = Ticket { is_plain, tenant, device, epoch_floor, expires_s, key };
    let Some(grant) = granted_for(&said, 4) else {
        assert!(tenant.len() + device.len() > 96, "the longest names fit");
        return;
    };
    let (key, bytes) = grant.split_first_chunk::<KEY_LEN>().expect("a key is in front");
    let keys: Vec<_> = day_keys().into_iter().skip(usize::from(day == 3)).collect();
    let mut room = [0; imlink_protocol::limits::TICKET_LEN_MAX];
    let is_good = day != 3 && expires_s >= NOW_S;
    match ticket::open(bytes, &keys, NOW_S, &mut room) {
        Ok((opened, opened_key)) => {
            assert!(is_good);
            assert_eq!(opened, said);
            assert_eq!(opened_key == *key, !is_plain, "a plain grant shows no key");
        }
        Err(_) => assert!(!is_good),
    }
    let noise = {
        let prologue = [ATTACH_PROLOGUE, &[VERSION], &sha256(bytes)].concat();
        let mut payload = [0; 16];
        noise(ATTACH_PATTERN, &prologue, (0, key), postcard::to_slice(&CLAIM, &mut payload).expect("it fits"))
    };
    let read = AttachRead::new(bytes, &noise, &keys, NOW_S);
    assert_eq!(read.is_ok(), is_good && !is_plain);
    let changed = mutated(input, &[bytes.to_vec()]);
    if changed != bytes {
        assert!(ticket::open(&changed, &keys, NOW_S, &mut room).is_err(), "a changed ticket opens");
    }
}

/// What a device does with what comes instead of an answer.
pub(crate) fn answer(data: &[u8]) {
    let mut input = Input::new(data);
    let is_login = input.byte().is_multiple_of(2);
    let begin = |ephemeral| if is_login { logs_in(&[0; KEY_LEN], "-", ephemeral) } else { attaches(ephemeral) };
    let how = input.byte() % 4;
    // Good answers to 5 are seen here, and a fuzzer that watches comparisons writes them down: against strangers the
    // device draws another key.
    let (initiator, frame) = begin(if matches!(how, 1 | 2) { 5 } else { 8 });
    match how {
        // Anything at all: no more than a refusal comes of it.
        0 => {
            let bytes = input.rest();
            let Ok(Some((body, _))) = take(bytes, HELLO_FRAME_LEN_MAX) else { return };
            not_sealed(initiator, body);
        }
        // The answer, changed.
        1 => {
            let answered = answered(&frame);
            let changed = mutated(&mut input, &[answered.frame.to_vec()]);
            let Ok(Some((body, _))) = take(&changed, HELLO_FRAME_LEN_MAX) else { return };
            if changed.starts_with(&answered.frame) {
                is_sealed(initiator, answered);
            } else {
                not_sealed(initiator, body);
            }
        }
        // The answer to another connection of the same device.
        2 => {
            let (_, other) = begin(6);
            let answered = answered(&other);
            let (body, _) = take(&answered.frame, HELLO_FRAME_LEN_MAX).expect("a frame").expect("a whole one");
            not_sealed(initiator, body);
        }
        // Somebody without the key, who knows the form.
        _ => {
            let mut noise = input.bytes(64).to_vec();
            noise.resize(48, 1);
            let mut bytes = [0; 128];
            let len = ToStranger::Answer { noise: &noise }.encode(&mut bytes).expect("it fits");
            let (body, _) = take(&bytes[..len], HELLO_FRAME_LEN_MAX).expect("a frame").expect("a whole one");
            not_sealed(initiator, body);
        }
    }
}

fn not_sealed(initiator: Initiator, body: &[u8]) {
    match initiator.finish(body) {
        Ok(Finished::Sealed(_)) => panic!("a stranger's answer is taken"),
        Ok(Finished::Refused { .. }) => assert_eq!(body.first(), Some(&0x41)),
        Err(error) => assert!(!error.to_string().is_empty() && !error.name().is_empty()),
    }
}

fn answered(frame: &[u8]) -> Answered {
    let (body, _) = take(frame, HELLO_FRAME_LEN_MAX).expect("a frame").expect("a whole one");
    match FromStranger::decode(body).expect("a first frame") {
        FromStranger::Login(greeting) => {
            route().begin(&greeting).and_then(|begun| begun.read()).and_then(|read| read.answer())
        }
        FromStranger::Attach { ticket, noise, .. } => {
            AttachRead::new(ticket, noise, &day_keys(), NOW_S).and_then(|read| read.answer())
        }
    }
    .expect("a device's own frame")
}

/// First frames of the vectors, and what changes nothing or something of good ones.
pub(crate) fn login_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> =
        vectors::all("sealed", "frame").into_iter().map(|frame| [vec![0], frame].concat()).collect();
    seeds.extend(
        vectors::all("sealed", "payload").into_iter().map(|claim| [vec![3, 0, claim.len() as u8], claim].concat()),
    );
    seeds.extend([vec![1, 0, 0], vec![1, 1, 0], vec![1, 0, 1, 0, 60, 1], vec![2, 0, 1, b'-'], vec![2, 1, 0, 10, 0]]);
    seeds
}

pub(crate) fn attach_seeds() -> Vec<Vec<u8>> {
    let mut seeds = login_seeds();
    seeds.extend([vec![1, 0], vec![1, 1, 0, 60, 1], vec![2, 1, 20, 0, 8, 1, b'-', 1, b'd', 0], vec![2, 0, 3, 3, 8]]);
    seeds
}

pub(crate) fn answer_seeds() -> Vec<Vec<u8>> {
    let frames = vectors::all("sealed", "answer").into_iter().chain(vectors::all("refusals", "hex"));
    let mut seeds: Vec<_> = frames.map(|frame| [vec![0, 0], frame].concat()).collect();
    for kind in [0, 1] {
        seeds.extend([vec![kind, 1, 0], vec![kind, 1, 1, 0, 20, 3], vec![kind, 2], vec![kind, 3, 48, 9, 9]]);
    }
    seeds
}

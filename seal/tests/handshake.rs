//! Both ends of the handshake, each of its own library.

use std::collections::HashMap;

use imlink_protocol::KeyMark;
use imlink_protocol::key_pair::{LoginKeys, PrivateKey, Psk};
use imlink_protocol::limits::GRANT_LEN_MAX;
use imlink_protocol::message::{FromDevice, ToDevice};
use imlink_protocol::seal::{
    Attach, Claim, Finished, FromStranger, Greeting, Initiator, KEY_LEN, Login, MESSAGE_LEN_MAX, Portable, Records,
    take,
};
use imlink_protocol::ticket::{self, Ticket, TicketKey};
use imlink_seal::{Answered, AttachRead, Refused, RouteKeys};
use proptest::prelude::*;

const CLAIM: Claim = Claim { incarnation: 0x0123_4567_89ab_cdef, attempt: 3 };
const DEVICE_KEY: [u8; KEY_LEN] = [7; KEY_LEN];
const PSK: [u8; KEY_LEN] = [9; KEY_LEN];
const NOW_S: u64 = 20_000 * 86_400;

struct Route {
    keys: LoginKeys,
    route: RouteKeys,
}

impl std::ops::Deref for Route {
    type Target = RouteKeys;

    fn deref(&self) -> &RouteKeys {
        &self.route
    }
}

fn route(private: u8, psk: [u8; KEY_LEN]) -> Route {
    let key = |private| PrivateKey::new([private; KEY_LEN]);
    let keys = LoginKeys { current: key(private), next: key(private + 1) };
    let psks = HashMap::from([("-".to_owned(), Psk::new(psk))]);
    Route { route: RouteKeys::new(&keys, psks).unwrap(), keys }
}

fn ephemeral() -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    getrandom::fill(&mut key).unwrap();
    key
}

/// The device's first frame of a login to the key of `route` at `pinned`.
fn login(route: &Route, pinned: usize, psk: [u8; KEY_LEN]) -> (Initiator, Vec<u8>) {
    let route_key = if pinned == 0 { &route.keys.current } else { &route.keys.next }.public();
    let login = Login {
        tenant: "-",
        device: "lamp-1",
        claim: CLAIM,
        private_key: &DEVICE_KEY,
        route_key: &route_key.0,
        psk: &psk,
    };
    let mut out = [0; MESSAGE_LEN_MAX];
    let (initiator, len) = Initiator::login(&login, &mut ephemeral(), &mut out).unwrap();
    (initiator, out[..len].to_vec())
}

fn greeting(frame: &[u8]) -> Greeting<'_> {
    let (body, len) = take(frame, 512).unwrap().unwrap();
    assert_eq!(len, frame.len());
    match FromStranger::decode(body).unwrap() {
        FromStranger::Login(greeting) => greeting,
        other => panic!("{other:?}"),
    }
}

fn respond(route: &RouteKeys, frame: &[u8]) -> Result<Answered, Refused> {
    let read = route.begin(&greeting(frame))?.read()?;
    assert_eq!((read.tenant.as_str(), read.device.as_str(), read.claim), ("-", "lamp-1", CLAIM));
    assert_eq!(read.public_key, PrivateKey::new(DEVICE_KEY).public().0);
    read.answer()
}

fn finish(initiator: Initiator, answered: &Answered) -> Records<Portable> {
    let (body, _) = take(&answered.frame, 512).unwrap().unwrap();
    match initiator.finish(body).unwrap() {
        Finished::Sealed(records) => records,
        Finished::Refused { code, .. } => panic!("{code}"),
    }
}

/// Frames go both ways and mean the same at both ends.
fn talk(mut device: Records<Portable>, server: Answered) {
    let mut server = server.records;
    for sequence in 0..3 {
        let mut out = [0; 64];
        let len = device.sealer.encode(&FromDevice::Ack { sequence }, &mut out).unwrap();
        let opened = server.opener.open(&mut out[..len], 512).unwrap().unwrap();
        let body = &out[opened.start..opened.end];
        assert_eq!(imlink_protocol::frame::decode(body), Ok(FromDevice::Ack { sequence }));
        let mut out = [0; 64];
        let len = server.sealer.encode(&ToDevice::EventAck { sequence }, &mut out).unwrap();
        let opened = device.opener.open(&mut out[..len], 512).unwrap().unwrap();
        let body = &out[opened.start..opened.end];
        assert_eq!(imlink_protocol::frame::decode(body), Ok(ToDevice::EventAck { sequence }));
    }
}

fn day_keys() -> Vec<(u32, TicketKey)> {
    vec![(20_000, ticket::derive(b"master", "server-1", 20_000))]
}

fn grant(is_plain: bool) -> Vec<u8> {
    let said = Ticket {
        is_plain,
        tenant: "-",
        device: "lamp-1",
        epoch_floor: 41,
        expires_s: NOW_S + 60,
        key: KeyMark([7; 8]),
    };
    let mut out = [0; GRANT_LEN_MAX];
    let len = ticket::grant(&said, &day_keys()[0].1, &[3; 24], &mut out).unwrap();
    out[..len].to_vec()
}

fn attach(grant: &[u8]) -> (Initiator, Vec<u8>) {
    let (key, ticket) = grant.split_first_chunk().unwrap();
    let mut out = [0; MESSAGE_LEN_MAX];
    let attach = Attach { ticket, key, claim: CLAIM };
    let (initiator, len) = Initiator::attach(&attach, &mut ephemeral(), &mut out).unwrap();
    (initiator, out[..len].to_vec())
}

fn read_attach(frame: &[u8], keys: &[(u32, TicketKey)], now_s: u64) -> Result<AttachRead, Refused> {
    match FromStranger::decode(take(frame, 512).unwrap().unwrap().0).unwrap() {
        FromStranger::Attach { ticket, noise, .. } => AttachRead::new(ticket, noise, keys, now_s),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_logs_in_by_either_key_it_pins() {
    let route = route(20, PSK);
    for pinned in [0, 1] {
        let (initiator, frame) = login(&route, pinned, PSK);
        let answered = respond(&route, &frame).unwrap();
        talk(finish(initiator, &answered), answered);
    }
}

#[test]
fn a_device_that_pins_another_route_is_dropped_before_any_diffie_hellman() {
    let (_, frame) = login(&route(30, PSK), 0, PSK);
    assert_eq!(route(20, PSK).begin(&greeting(&frame)).err(), Some(Refused::Mac));
}

#[test]
fn a_device_of_another_fleet_gets_no_link() {
    let route = route(20, PSK);
    let (initiator, frame) = login(&route, 0, [0; KEY_LEN]);
    // The fleet's secret comes in with the answer, which the device then cannot open.
    let answered = respond(&route, &frame).unwrap();
    let (body, _) = take(&answered.frame, 512).unwrap().unwrap();
    assert!(initiator.finish(body).is_err());
}

#[test]
fn a_device_attaches_with_its_ticket() {
    let (initiator, frame) = attach(&grant(false));
    let read = read_attach(&frame, &day_keys(), NOW_S).unwrap();
    assert_eq!((read.tenant.as_str(), read.device.as_str(), read.epoch_floor), ("-", "lamp-1", 41));
    assert_eq!(read.claim, CLAIM);
    let answered = read.answer().unwrap();
    talk(finish(initiator, &answered), answered);
}

#[test]
fn a_ticket_is_good_for_its_server_its_time_and_its_kind_of_link() {
    let (_, frame) = attach(&grant(false));
    let refused = |keys, now_s| read_attach(&frame, keys, now_s).err();
    let other = [(20_000, ticket::derive(b"master", "server-2", 20_000))];
    assert_eq!(refused(&other, NOW_S), Some(Refused::Ticket));
    assert_eq!(refused(&day_keys(), NOW_S + 61), Some(Refused::Expired));
    let (_, plain) = attach(&grant(true));
    assert_eq!(read_attach(&plain, &day_keys(), NOW_S).err(), Some(Refused::Ticket));
}

#[test]
fn who_saw_a_ticket_and_not_its_key_cannot_attach() {
    let stolen = [&[0; KEY_LEN], &grant(false)[KEY_LEN..]].concat();
    let (_, frame) = attach(&stolen);
    assert_eq!(read_attach(&frame, &day_keys(), NOW_S).err(), Some(Refused::Handshake));
}

#[test]
fn a_replayed_first_message_gives_no_keys_of_the_recorded_conversation() {
    let route = route(20, PSK);
    let (initiator, frame) = login(&route, 0, PSK);
    let first = respond(&route, &frame).unwrap();
    let mut device = finish(initiator, &first);
    let mut hello = [0; 64];
    let len = device.sealer.encode(&FromDevice::Busy, &mut hello).unwrap();
    // The recording is played again: the answer is another one, and the recorded record does not open.
    let mut again = respond(&route, &frame).unwrap();
    assert_ne!(again.frame, first.frame);
    assert!(again.records.opener.open(&mut hello[..len], 512).is_err());
}

#[test]
fn a_login_and_an_attach_are_as_short_as_documented() {
    let (_, frame) = login(&route(20, PSK), 0, PSK);
    assert_eq!(frame.len(), 136);
    let (_, frame) = attach(&grant(false));
    assert_eq!(frame.len(), 127);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_changed_byte_of_a_login_is_answered(at in 0usize..136, flip in 1u8..) {
        let route = route(20, PSK);
        let (_, mut frame) = login(&route, 0, PSK);
        frame[at] ^= flip;
        let Ok(Some((body, _))) = take(&frame, 512) else { return Ok(()) };
        let Ok(FromStranger::Login(greeting)) = FromStranger::decode(body) else { return Ok(()) };
        let answered = route.begin(&greeting).and_then(|begun| begun.read());
        prop_assert!(answered.is_err());
    }

    #[test]
    fn no_changed_byte_of_an_attach_is_answered(at in 0usize..127, flip in 1u8..) {
        let (_, mut frame) = attach(&grant(false));
        frame[at] ^= flip;
        let Ok(Some((body, _))) = take(&frame, 512) else { return Ok(()) };
        let Ok(FromStranger::Attach { ticket, noise, .. }) = FromStranger::decode(body) else { return Ok(()) };
        prop_assert!(AttachRead::new(ticket, noise, &day_keys(), NOW_S).is_err());
    }

    #[test]
    fn no_changed_byte_of_an_answer_is_taken(at in 0usize..51, flip in 1u8..) {
        let (initiator, frame) = attach(&grant(false));
        let mut answer = read_attach(&frame, &day_keys(), NOW_S).unwrap().answer().unwrap().frame;
        answer[at] ^= flip;
        let Ok(Some((body, _))) = take(&answer, 512) else { return Ok(()) };
        prop_assert!(!matches!(initiator.finish(body), Ok(Finished::Sealed(_))));
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let route = route(20, PSK);
        let _ = FromStranger::decode(&bytes);
        let _ = AttachRead::new(&bytes, &bytes, &day_keys(), NOW_S);
        let _ = route.begin(&Greeting { version: 1, mac: [0; 16], tenant: "-", noise: &bytes });
    }
}

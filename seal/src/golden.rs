//! imlink's own vectors, through the end of hosts. They were made by the device's end and `snow` with other
//! primitives; what a route and an IM-server run must read and write the same bytes.

use std::cell::Cell;
use std::collections::HashMap;

use imlink_protocol::key_pair::{KEY_LEN, LoginKeys, PrivateKey, Psk};
use imlink_protocol::limits::GRANT_LEN_MAX;
use imlink_protocol::seal::{Aead, Claim, FromStranger, TAG_LEN, nonce, take};
use imlink_protocol::ticket::{self, Ticket, TicketKey};
use serde::Serialize;
use serde::ser::SerializeTuple;

use crate::{Answered, AttachRead, Fast, RouteKeys};

thread_local! {
    static FIXED: Cell<Option<[u8; KEY_LEN]>> = const { Cell::new(None) };
}

/// What is drawn instead of random bytes, once.
pub(crate) fn fixed() -> Option<[u8; KEY_LEN]> {
    FIXED.take()
}

/// An entry of a file: names and values.
struct Entry(Vec<(&'static str, &'static str)>);

fn entries(text: &'static str) -> Vec<Entry> {
    let pairs = |entry: &'static str| entry.lines().filter_map(|line| line.split_once(':')).map(|(n, v)| (n, v.trim()));
    let all = text.split("\n\n").map(|entry| Entry(pairs(entry).collect()));
    all.filter(|entry| !entry.0.is_empty()).collect()
}

impl Entry {
    fn text(&self, wanted: &str) -> &'static str {
        self.0.iter().find(|(name, _)| *name == wanted).unwrap_or_else(|| panic!("no {wanted}")).1
    }

    fn bytes(&self, wanted: &str) -> Vec<u8> {
        let digits = self.text(wanted).split_whitespace();
        digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
    }

    fn key(&self, wanted: &str) -> [u8; KEY_LEN] {
        self.bytes(wanted).try_into().unwrap()
    }

    fn number<T: std::str::FromStr>(&self, wanted: &str) -> T {
        self.text(wanted).parse().unwrap_or_else(|_| panic!("{wanted}"))
    }

    fn claim(&self) -> Claim {
        Claim { incarnation: self.number("incarnation"), attempt: self.number("attempt") }
    }
}

fn sealed() -> Vec<Entry> {
    entries(include_str!("../../protocol/vectors/sealed.txt"))
}

fn tickets() -> Vec<Entry> {
    entries(include_str!("../../protocol/vectors/tickets.txt"))
}

/// Bytes as they are, for a sealer that encodes what it is given.
struct Plain<'a>(&'a [u8]);

impl Serialize for Plain<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

/// The answer is the vector's, and so are the records of both directions.
fn goes_on(entry: &Entry, mut answered: Answered) -> usize {
    assert_eq!(answered.frame[..], entry.bytes("answer"));
    let name = entry.text("name");
    let mut records = 0;
    for record in sealed() {
        let Some((from, counter)) =
            record.text("name").strip_prefix(name).and_then(|rest| rest.strip_prefix('-')?.rsplit_once('-'))
        else {
            continue;
        };
        let Ok(0..100) = counter.parse::<u64>() else { continue };
        let (plain, mut bytes) = (record.bytes("plain"), record.bytes("record"));
        match from {
            "device" => {
                let opened = answered.records.opener.open(&mut bytes, 4096).unwrap().unwrap();
                assert_eq!(bytes[opened.start..opened.end], plain, "{counter}");
            }
            "server" => {
                let mut out = [0; 512];
                let len = answered.records.sealer.encode(&Plain(&plain), &mut out).unwrap();
                assert_eq!(out[..len], bytes, "{counter}");
            }
            other => panic!("{other}"),
        }
        records += 1;
    }
    records
}

/// `answer`, with the ephemeral key of the vector.
fn answered(entry: &Entry, answer: impl FnOnce() -> Answered) -> Answered {
    FIXED.set(Some(entry.key("server-ephemeral")));
    let answered = answer();
    assert_eq!(FIXED.take(), None, "an ephemeral key was drawn");
    answered
}

fn keys_are(entry: &Entry, answered: Answered) {
    let (to_device, to_server) = answered.records.into_keys();
    assert_eq!((to_device, to_server), (entry.key("to-device-key"), entry.key("to-server-key")));
}

fn body(frame: &[u8]) -> &[u8] {
    let (body, len) = take(frame, 512).unwrap().unwrap();
    assert_eq!(len, frame.len());
    body
}

#[test]
fn a_route_reads_and_answers_logins_as_the_vectors_say() {
    let logins: Vec<_> = sealed().into_iter().filter(|entry| entry.text("name").starts_with("login")).collect();
    let logins: Vec<_> = logins.into_iter().filter(|entry| entry.0.iter().any(|(name, _)| *name == "answer")).collect();
    assert_eq!(logins.len(), 2);
    for entry in logins {
        let current = PrivateKey::new(entry.key("route-private"));
        let keys = LoginKeys { current, next: PrivateKey::new([1; KEY_LEN]) };
        let psks = HashMap::from([(entry.text("tenant").to_owned(), Psk::new(entry.key("psk")))]);
        let route = RouteKeys::new(&keys, psks).unwrap();
        let answer = || {
            let frame = entry.bytes("frame");
            let FromStranger::Login(greeting) = FromStranger::decode(body(&frame)).unwrap() else { panic!("no login") };
            let read = route.begin(&greeting).unwrap().read().unwrap();
            assert_eq!((&*read.tenant, &*read.device), (entry.text("tenant"), entry.text("device")));
            assert_eq!((read.public_key, read.claim), (entry.key("device-public"), entry.claim()));
            answered(&entry, || read.answer().unwrap())
        };
        keys_are(&entry, answer());
        let expected = if entry.text("name") == "login" { 8 } else { 0 };
        assert_eq!(goes_on(&entry, answer()), expected);
    }
}

#[test]
fn a_server_reads_and_answers_attaches_as_the_vectors_say() {
    let entry = sealed().into_iter().find(|entry| entry.text("name") == "attach").unwrap();
    let ticket = &tickets()[0];
    assert_eq!(entry.bytes("grant"), ticket.bytes("grant"));
    let day = ticket.number("day");
    let keys = [(day, TicketKey(ticket.key("day-key")))];
    let answer = || {
        let frame = entry.bytes("frame");
        let FromStranger::Attach { ticket, noise, .. } = FromStranger::decode(body(&frame)).unwrap() else {
            panic!("no attach");
        };
        let read = AttachRead::new(ticket, noise, &keys, u64::from(day) * 86_400).unwrap();
        assert_eq!((&*read.tenant, &*read.device, read.epoch_floor), ("-", "lamp-1", 8));
        assert_eq!(read.claim, entry.claim());
        answered(&entry, || read.answer().unwrap())
    };
    keys_are(&entry, answer());
    assert_eq!(goes_on(&entry, answer()), 8);
}

#[test]
fn a_changed_key_seals_as_the_vectors_say() {
    let entry = sealed().into_iter().find(|entry| entry.0.iter().any(|(name, _)| *name == "key-before")).unwrap();
    let mut after = [0; KEY_LEN];
    Fast::seal(&entry.key("key-before"), &nonce(u64::MAX), &[], &mut after);
    assert_eq!(after, entry.key("key-after"));
    let record = entry.bytes("record");
    let (mut sealed, tag) = (record[1..record.len() - TAG_LEN].to_vec(), record[record.len() - TAG_LEN..].to_vec());
    let at = entry.bytes("nonce").try_into().unwrap();
    assert!(Fast::open(&after, &at, &record[..1], &mut sealed, &tag.try_into().unwrap()));
    assert_eq!(sealed, entry.bytes("plain"));
}

#[test]
fn tickets_are_those_of_the_vectors() {
    for entry in tickets() {
        let (day, key) = (entry.number("day"), entry.key("day-key"));
        let derived = ticket::derive(&entry.bytes("cluster-secret"), entry.text("server"), day);
        assert_eq!(derived.0, key);
        let plain = entry.bytes("plain");
        let (said, rest) = postcard::take_from_bytes::<Ticket<'_>>(&plain).unwrap();
        assert!(rest.is_empty());
        let mut out = [0; GRANT_LEN_MAX];
        let len = ticket::grant(&said, &derived, &entry.bytes("nonce").try_into().unwrap(), &mut out).unwrap();
        assert_eq!(out[..len], entry.bytes("grant"));
        assert_eq!(out[..KEY_LEN], entry.key("key"));
        assert_eq!(out[KEY_LEN..len], entry.bytes("ticket"));
    }
}

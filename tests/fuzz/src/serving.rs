//! The server's end of a session, against a device that proved its key and lies, with a store and routes that do not.

use std::collections::BTreeMap;
use std::time::Duration;

use imlink_protocol::frame;
use imlink_protocol::id::{Cursor, Fingerprint, MessageId};
use imlink_protocol::key::Key;
use imlink_protocol::limits::{EVENT_WINDOW_MAX, HEARTBEAT_DEFAULT, WINDOW_MAX};
use imlink_protocol::message::{Code, FromDevice, Hello, ToDevice};
use imlink_protocol::seal::TAG_LEN;
use imlink_protocol::serving::{
    CallRefused, HeadCheck, Incoming, MailboxHead, Opening, Outgoing, Overdue, Session, Transmit, Wanted,
};
use imlink_protocol::time::Instant;

use crate::input::Input;
use crate::vectors;

const KEY: Key = Key([1, 2, 3, 4]);
const GENERATION: u64 = 1000;
static FILLING: [u8; 70_000] = [7; 70_000];

/// What the session wrote, and what must hold of it.
struct Wire {
    receive_limit: u32,
    generation: u64,
    /// Highest message sent, and what is not acknowledged.
    sent: MessageId,
    open: Vec<MessageId>,
    nacks_open: usize,
    pings: usize,
    transmits: usize,
    /// Every entry of the store that is not final, by id: its payload's length.
    alive: BTreeMap<MessageId, usize>,
}

impl Transmit for Wire {
    fn transmit(&mut self, message: &ToDevice<'_>) {
        self.transmits += 1;
        let mut bytes = vec![0; FILLING.len() + 100];
        let body = frame::encode_body(message, &mut bytes).expect("it fits");
        assert!(
            body + TAG_LEN <= self.receive_limit as usize,
            "{body} bytes to a device that takes {}",
            self.receive_limit
        );
        match *message {
            ToDevice::Generation { generation } => {
                assert!(generation > self.generation && self.open.is_empty(), "{:?} are open", self.open);
                self.generation = generation;
            }
            ToDevice::Message { sequence, flags, .. } => {
                let id = MessageId::new(self.generation, sequence);
                if id <= self.sent {
                    assert!(self.open.contains(&id), "{id} is sent again and not open");
                    assert!(flags.is_redelivered(), "{id} comes twice and does not say so");
                    return;
                }
                let passed_over = self.alive.range(..id).find(|(other, _)| **other > self.sent);
                assert_eq!(passed_over, None, "passed over by {id}");
                assert!(self.alive.contains_key(&id), "{id} is not in the store");
                self.sent = id;
                self.open.push(id);
            }
            ToDevice::Pong { .. } => {
                assert_eq!(self.nacks_open, 0, "a Pong says that refusals are stored");
                self.pings = self.pings.checked_sub(1).expect("a Pong answers a Ping");
            }
            _ => {}
        }
    }
}

struct World {
    session: Session,
    wire: Wire,
    now: Instant,
    window: usize,
    wanted: Option<Wanted>,
    head: MailboxHead,
    event: u64,
    events_open: Vec<u64>,
    acked: MessageId,
    is_over: bool,
}

/// A list of moves of a device, a store and a clock.
pub(crate) fn session(data: &[u8]) {
    let mut input = Input::new(data);
    let receive_limit = [256, 300, 512, 4096, 65_536][input.below(5)];
    let window = input.byte();
    let opening = Opening {
        epoch: 3,
        generation: GENERATION,
        offered: MessageId::default(),
        cursor: Cursor::default(),
        window,
        receive_limit,
        interval: HEARTBEAT_DEFAULT,
        event_position: 0,
        store_ms: 5_000_000,
    };
    let now = Instant::from_millis(0);
    let wire = Wire {
        receive_limit,
        generation: GENERATION,
        sent: MessageId::default(),
        open: Vec::new(),
        nacks_open: 0,
        pings: 0,
        transmits: 0,
        alive: BTreeMap::new(),
    };
    let mut world = World {
        session: Session::new(now, &opening),
        wire,
        now,
        window: usize::from(window.clamp(1, WINDOW_MAX as u8)),
        // The answer to `attach` is the first page.
        wanted: Some(Wanted { after: Cursor::default(), limit: window.into() }),
        head: MailboxHead { generation: GENERATION, last: 0 },
        event: 0,
        events_open: Vec::new(),
        acked: MessageId::default(),
        is_over: false,
    };
    while !input.is_empty() && !world.is_over {
        let before = world.wire.transmits;
        world.play(&mut input);
        world.check(before);
    }
}

impl World {
    fn play(&mut self, input: &mut Input<'_>) {
        match input.byte() % 20 {
            0..=3 => self.handle_chosen(input),
            4 => {
                let body = input.bytes(600);
                if let Ok(frame) = frame::decode::<FromDevice<'_>>(body) {
                    self.handle(&frame);
                }
            }
            5..=8 => self.append(input),
            9..=11 => self.page(input),
            12 => {
                if self.wanted.take().is_some() {
                    self.session.handle_read_failed();
                }
            }
            13 => self.call(input),
            14 => {
                let count = input.below(self.events_open.len() + 1);
                let stored = self.events_open.drain(..count).next_back();
                if let Some(upto) = stored {
                    self.session.handle_events_stored(upto, count, &mut self.wire);
                }
            }
            15 => {
                let count = input.below(self.wire.nacks_open + 1);
                self.wire.nacks_open -= count;
                if count > 0 {
                    self.session.handle_nacks_stored(self.now, count, &mut self.wire);
                }
            }
            16 | 17 => {
                self.now = self.now.after(Duration::from_millis(input.number().min(1 << 40) * 100));
                match self.session.handle_timeout(self.now, &mut self.wire) {
                    Overdue::Nothing(at) => assert!(at > self.now, "it is due already"),
                    Overdue::Probe => {}
                    Overdue::Silent | Overdue::Stuck => self.is_over = true,
                }
            }
            18 => {
                let waiting = self.wire.alive.len() as u64;
                let check = self.session.handle_head(self.head, waiting);
                assert_ne!(check, HeadCheck::RolledBack, "the store lost nothing");
            }
            _ => self.expire(input),
        }
    }

    fn handle_chosen(&mut self, input: &mut Input<'_>) {
        let payload = input.bytes(8);
        let frame = match input.byte() % 16 {
            0..=4 => FromDevice::Ack { sequence: input.number() },
            5 | 6 => FromDevice::Nack { sequence: input.number(), code: Code(input.number() as u16) },
            7 | 8 => FromDevice::Generation { generation: GENERATION + input.number() % 8 },
            9 => FromDevice::Ping { next_ms: if input.byte() < 200 { 60_000 } else { input.number32() } },
            10 => FromDevice::Busy,
            11 => FromDevice::Reply { request: input.number32(), status: Code(0), payload },
            12 | 13 => FromDevice::Event { sequence: self.event.saturating_add(input.number()), key: KEY, payload },
            14 => FromDevice::Interface { offset: input.number32(), total: input.number32(), chunk: payload },
            _ if input.byte().is_multiple_of(4) => FromDevice::Hello(hello()),
            _ => FromDevice::Bye,
        };
        self.handle(&frame);
    }

    fn handle(&mut self, frame: &FromDevice<'_>) {
        if matches!(frame, FromDevice::Ping { .. }) {
            // Several that wait for a refusal get one answer.
            self.wire.pings += 1;
        }
        let in_flight = self.session.in_flight();
        let incoming = match self.session.handle_frame(self.now, frame, &mut self.wire) {
            Ok(incoming) => incoming,
            Err(violation) => {
                assert!(!violation.to_string().is_empty());
                assert_eq!(self.session.in_flight(), in_flight, "{violation} changes nothing");
                self.is_over = true;
                return;
            }
        };
        match incoming {
            Incoming::Acked(upto) => self.acknowledged(upto),
            Incoming::Nacked(upto, _) => {
                self.acknowledged(upto);
                self.wire.nacks_open += 1;
            }
            Incoming::Event { sequence, .. } => {
                assert!(sequence > self.event, "event {sequence} after {}", self.event);
                self.event = sequence;
                self.events_open.push(sequence);
                assert!(self.events_open.len() <= usize::from(EVENT_WINDOW_MAX));
            }
            Incoming::Bye => self.is_over = true,
            Incoming::Nothing | Incoming::Heartbeat | Incoming::Reply { .. } | Incoming::Interface { .. } => {}
        }
    }

    fn acknowledged(&mut self, upto: MessageId) {
        assert!(upto > self.acked && upto <= self.wire.sent, "{upto} after {}, sent {}", self.acked, self.wire.sent);
        assert_eq!(upto.generation, self.wire.generation);
        self.acked = upto;
        self.wire.open.retain(|id| *id > upto);
        self.wire.alive.retain(|id, _| *id > upto);
    }

    /// A message is stored; the hint of it comes, or a wrong or late one.
    fn append(&mut self, input: &mut Input<'_>) {
        let how = input.byte();
        if how.is_multiple_of(16) && self.head.generation < GENERATION + 7 {
            self.head.generation += 1;
        }
        self.head.last += 1 + u64::from(how % 8 == 1);
        let id = MessageId::new(self.head.generation, self.head.last);
        let len = [0, 16, 200, 210, 460, 4000, 65_490, 66_000][input.below(8)];
        self.wire.alive.insert(id, len);
        let known: Vec<_> = self.wire.alive.iter().map(|(id, len)| (*id, *len)).collect();
        match how >> 6 {
            0 | 1 => self.deliver(id, len),
            2 => {
                let (id, len) = known[input.below(known.len())];
                self.deliver(id, len);
            }
            _ => self.session.handle_hint(id),
        }
    }

    fn deliver(&mut self, id: MessageId, len: usize) {
        self.session.handle_deliver(self.now, &outgoing(id, len), &mut self.wire);
    }

    fn page(&mut self, input: &mut Input<'_>) {
        self.wanted = self.wanted.take().or_else(|| self.session.poll_read());
        let Some(wanted) = self.wanted.take() else { return };
        assert!(wanted.after <= self.wire.sent && self.session.poll_read().is_none(), "one read at a time");
        // The store may give less than was asked for.
        let limit = (wanted.limit as usize).min(1 + input.below(17));
        let behind = self.wire.alive.iter().filter(|(id, _)| **id > wanted.after).map(|(id, len)| (*id, *len));
        let all: Vec<_> = behind.collect();
        let more = all.len() > limit;
        let entries = all.iter().take(limit).map(|(id, len)| outgoing(*id, *len));
        let taken = self.session.handle_page(self.now, entries, self.head, more, &mut self.wire);
        assert!(taken.taken <= limit);
        if let Some((id, _)) = taken.refused {
            assert_eq!(all.get(taken.taken).map(|(id, _)| *id), Some(id));
            // It is recorded as refused.
            self.wire.alive.remove(&id);
        }
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let len = [0, 16, 210, 460, 4000, 66_000][input.below(6)];
        let remaining = Duration::from_millis(input.number());
        match self.session.call(self.now, KEY, remaining, &FILLING[..len], &mut self.wire) {
            Ok(request) => assert!(request > 0),
            Err(CallRefused::TooLarge { max }) => assert!(len > max as usize),
        }
    }

    /// An entry that is not in flight ends without the device.
    fn expire(&mut self, input: &mut Input<'_>) {
        let ended = self.wire.alive.keys().copied().filter(|id| !self.wire.open.contains(id)).nth(input.below(4));
        if let Some(id) = ended {
            self.wire.alive.remove(&id);
        }
    }

    fn check(&self, before: usize) {
        assert_eq!(self.session.in_flight(), self.wire.open.len());
        assert!(self.wire.open.len() <= self.window, "{} of {}", self.wire.open.len(), self.window);
        assert!(self.wire.open.iter().all(|id| self.session.is_in_flight(*id)));
        assert!(
            self.wire.transmits - before <= 2 * WINDOW_MAX + 2,
            "one move, {} frames",
            self.wire.transmits - before
        );
        assert_eq!(self.session.sent(), self.wire.sent);
    }
}

fn outgoing(id: MessageId, len: usize) -> Outgoing<'static> {
    Outgoing { id, key: KEY, expires_ms: 0, payload: &FILLING[..len] }
}

fn hello() -> Hello<'static> {
    Hello {
        version: 1,
        tenant: "",
        device: "",
        incarnation: 0,
        attempt: 0,
        epoch: 0,
        cursor: Cursor::default(),
        receive_limit: 512,
        window: 4,
        fingerprint: Fingerprint::NONE,
        event_queue: 0,
        ticket: b"",
    }
}

/// The frames of the vectors, and a session in which something of everything happens.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let whole = |frame: Vec<u8>| [&[4][..], &u16::try_from(frame.len()).expect("short").to_be_bytes(), &frame].concat();
    let mut seeds: Vec<_> =
        vectors::bodies("from-device").into_iter().map(|frame| [vec![2, 8, 9, 0], whole(frame)].concat()).collect();
    let frame = |kind: u8, numbers: &[u8]| [&[0, 0, kind][..], numbers].concat();
    let session = [
        vec![2, 4, 9, 0],
        vec![5, 2, 1, 5, 2, 1, 5, 2, 2, 5, 0xc2, 0],
        frame(0, &[2]),
        vec![9, 5],
        frame(5, &[3, 1]),
        frame(9, &[0]),
        vec![15, 1],
        frame(12, &[1, 12, 2]),
        vec![14, 1, 13, 1, 20, 16, 200, 18],
        frame(10, &[]),
        vec![5, 0, 1, 9, 3],
        frame(0, &[4]),
        vec![9, 3],
        frame(7, &[1]),
        frame(0, &[5]),
        frame(15, &[1]),
    ];
    seeds.push(session.concat());
    seeds
}

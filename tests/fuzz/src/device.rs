//! The device's end of a session, against a server that has all keys and lies.

use std::num::NonZeroU64;
use std::time::Duration;

use imlink_protocol::device::{End, Event, LinkKind, Pacing, Profile, Session, Start, StateName, Target, Transmit};
use imlink_protocol::id::{Cursor, Fingerprint, MessageId};
use imlink_protocol::key::Key;
use imlink_protocol::limits::{
    ADDRESS_LEN_MAX, CALLS_MAX, EVENT_WINDOW_MAX, GRANT_LEN_MAX, NUMBER_MAX, RETRY_AFTER_MAX,
};
use imlink_protocol::message::{Code, Flags, FromDevice, GoAwayReason, RejectCode, ToDevice, Welcome};
use imlink_protocol::time::Instant;
use imlink_protocol::{frame, limits};

use crate::input::Input;
use crate::vectors;

const KEY: Key = Key([1, 2, 3, 4]);
/// Longest wait that a server can bring about: what is believed of it, and the device's own back-off.
const WAIT_MAX: Duration = RETRY_AFTER_MAX.saturating_add(Duration::from_secs(300));

/// A list of moves of a server, an application and a clock.
pub(crate) fn session(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = if input.byte().is_multiple_of(2) { LinkKind::Sealed } else { LinkKind::Plain };
    let start = Start {
        incarnation: NonZeroU64::MIN,
        event_queue: 5,
        events: Default::default(),
        cursor: Cursor::default(),
        heartbeat: Pacing::Adaptive,
    };
    let mut world = World::new(Session::new(&start), kind);
    while !input.is_empty() {
        world.play(&mut input);
        world.send_all();
        if world.session.is_ended() {
            world.disconnect(&mut input);
        }
        world.check();
    }
}

struct World {
    session: Session,
    profile: Profile<'static>,
    now: Instant,
    kept: Vec<MessageId>,
    /// The last one whose handler was done with it.
    done: MessageId,
    refused: Vec<MessageId>,
    calls: Vec<u32>,
    started: Vec<u32>,
    events: usize,
    generation: u64,
    /// Highest message handed over in this session.
    handed: MessageId,
}

impl World {
    fn new(session: Session, link: LinkKind) -> Self {
        let profile = Profile {
            tenant: "-",
            device: "lamp-1",
            receive_limit: 512,
            window: 8,
            fingerprint: Fingerprint::NONE,
            link,
        };
        Self {
            session,
            profile,
            now: Instant::from_millis(1000),
            kept: Vec::new(),
            done: MessageId::default(),
            refused: Vec::new(),
            calls: Vec::new(),
            started: Vec::new(),
            events: 0,
            generation: 0,
            handed: MessageId::default(),
        }
    }

    fn play(&mut self, input: &mut Input<'_>) {
        match input.byte() % 24 {
            0..=7 => {
                let (address, grant) = (input.bytes(8), input.bytes(8));
                let grown = [[b'a'; ADDRESS_LEN_MAX + 1].as_slice(), &[7; GRANT_LEN_MAX + 1]];
                let frame = chosen(input, grown, address, grant);
                self.handle(&frame);
            }
            // Whatever bytes are a message.
            8 => {
                let body = input.bytes(600);
                if let Ok(frame) = frame::decode::<ToDevice<'_>>(body) {
                    self.handle(&frame);
                }
            }
            9 | 10 => {
                self.now = self.now.after(Duration::from_millis(input.number().min(1 << 40) * 100));
                let was = self.session.state();
                if self.session.handle_timeout(self.now).is_err() {
                    assert!(self.session.is_ended(), "an error ends {was}");
                }
            }
            11..=14 => self.connect(),
            15 => self.disconnect(input),
            16 if !self.kept.is_empty() => self.session.start_message(self.now, self.kept[0]),
            17 => self.session.stop_message(),
            18 | 19 if !self.kept.is_empty() => {
                self.done = self.kept.remove(0);
                self.session.finish_message(self.done);
            }
            20 if !self.kept.is_empty() => {
                let id = self.kept[0];
                if self.session.reject_message(id, Code(300)).is_ok() {
                    self.refused.push(id);
                    self.done = self.kept.remove(0);
                }
            }
            21 => self.call(input),
            22 => {
                self.session.add_event();
                self.events += 1;
            }
            23 => match input.byte() % 4 {
                0 => self.session.leave(self.now),
                1 => self.session.handle_refused(self.now, RejectCode::Ticket, input.number32()),
                2 => self.session.handle_reading(self.now, input.byte().is_multiple_of(2)),
                _ => self.drop_event(),
            },
            _ => {}
        }
    }

    fn handle(&mut self, frame: &ToDevice<'_>) {
        if !self.session.has_room() {
            return;
        }
        let (before, cursor, epoch) = (self.session.state(), self.session.cursor(), self.session.epoch());
        let taken = self.session.handle_frame(self.now, frame);
        assert_eq!(self.session.cursor(), cursor, "a server cannot say what is handled");
        match taken {
            Err(error) => {
                assert!(self.session.is_ended(), "{error} ends the session");
                assert!(!error.to_string().is_empty());
            }
            Ok(event) => {
                assert!(matches!(before, StateName::Greeting | StateName::Attached | StateName::Leaving));
                if before == StateName::Greeting {
                    let is_opened = matches!(frame, ToDevice::Welcome(_));
                    assert_eq!(self.session.state() == StateName::Attached, is_opened, "{frame:?}");
                }
                if let (Some(Event::Attached { .. }), ToDevice::Welcome(welcome)) = (&event, frame) {
                    assert!(self.session.epoch() > epoch, "an epoch only grows");
                    self.generation = welcome.generation;
                    self.handed = MessageId::default();
                    self.calls.clear();
                    self.started.clear();
                }
                if let Some(event) = event {
                    self.take(event);
                }
            }
        }
    }

    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Message { id, .. } => {
                let last = self.done.max(self.kept.last().copied().unwrap_or_default());
                assert!(last < id, "{id} after {last}");
                assert!(id.generation <= NUMBER_MAX && id.sequence <= NUMBER_MAX && id.sequence > 0);
                self.kept.push(id);
                self.handed = id;
            }
            Event::Call { request, .. } => {
                assert!(!self.calls.contains(&request) && !self.started.contains(&request), "call {request} twice");
                self.calls.push(request);
            }
            Event::Cancelled { request } => self.calls.retain(|kept| *kept != request),
            Event::Attached { stored, keep, .. } => {
                self.events = self.events.checked_sub(stored as usize).expect("no more is stored than there are");
                self.kept.truncate(keep);
            }
            Event::Stored(stored) => {
                self.events = self.events.checked_sub(stored as usize).expect("no more is stored than there are");
            }
            Event::Ended(_) => assert!(self.session.is_ended()),
        }
    }

    fn call(&mut self, input: &mut Input<'_>) {
        match input.byte() % 3 {
            0 if !self.calls.is_empty() => {
                let request = self.calls.remove(input.below(self.calls.len()));
                if self.session.start_call(self.now, request).is_ok() {
                    assert!(self.session.start_call(self.now, request).is_err(), "a call starts once");
                    self.started.push(request);
                }
            }
            1 if !self.calls.is_empty() => self.session.refuse_call(self.calls.remove(0), Code::UNKNOWN_PATH),
            2 if !self.started.is_empty() => {
                let request = self.started.remove(0);
                self.session.finish_call(request);
                assert!(!self.session.finish_call(request), "a call is answered once");
            }
            _ => {}
        }
    }

    fn drop_event(&mut self) {
        if let Some(index) = self.session.droppable_event() {
            assert!(index < self.events, "event {index} of {}", self.events);
            self.session.handle_event_dropped();
            self.events -= 1;
        }
    }

    fn connect(&mut self) {
        if self.session.state() == StateName::Detached {
            self.session.handle_connecting(self.now);
            self.session.handle_connected(self.now);
        }
    }

    fn disconnect(&mut self, input: &mut Input<'_>) {
        let end: End = self.session.handle_disconnected(self.now, input.number32());
        assert_eq!(self.session.state(), StateName::Detached, "after {end:?}");
        let due = self.session.poll_timeout().expect("a detached device comes back");
        assert!(due.since(self.now) <= WAIT_MAX, "{end:?} keeps the device away for {:?}", due.since(self.now));
        self.calls.clear();
        self.started.clear();
    }

    /// What goes out never says more than is true.
    fn said(&mut self, frame: &FromDevice<'_>) {
        let mut bytes = [0; 512];
        assert!(frame::encode(frame, &mut bytes).is_ok_and(|len| len <= limits::HELLO_FRAME_LEN_MAX));
        match frame {
            FromDevice::Ack { sequence } => {
                let upto = MessageId::new(self.generation, *sequence);
                let is_open = |id: &&MessageId| id.generation == upto.generation && **id <= upto;
                assert_eq!(self.kept.iter().find(is_open), None, "{upto} is acknowledged");
            }
            FromDevice::Nack { sequence, .. } => {
                let id = MessageId::new(self.generation, *sequence);
                assert!(self.refused.contains(&id) && !self.kept.contains(&id));
            }
            FromDevice::Hello(hello) => {
                assert!(hello.cursor <= self.done, "{} is stated, {} is done", hello.cursor, self.done);
                assert!(hello.ticket.is_empty() || self.profile.link == LinkKind::Plain);
            }
            FromDevice::Generation { generation } => {
                assert!(*generation >= self.generation);
                self.generation = *generation;
            }
            FromDevice::Ping { next_ms } => assert!((1000..=3_600_000).contains(next_ms), "{next_ms}"),
            _ => {}
        }
    }

    fn send_all(&mut self) {
        for _ in 0..200 {
            let Some(transmit) = self.session.poll_transmit(self.now, &self.profile) else { return };
            match transmit {
                Transmit::Frame(frame) => {
                    // Not borrowed from the session but for Hello's ticket, which `said` looks at alone.
                    let mut body = [0; 512];
                    let len = frame::encode_body(&frame, &mut body).expect("a control frame is short");
                    self.said(&frame::decode(&body[..len]).expect("what is sent can be read"));
                }
                Transmit::Reply => self.session.handle_reply_sent(),
                Transmit::Event { index, .. } => {
                    assert!(index < self.events && index < usize::from(EVENT_WINDOW_MAX));
                    self.session.handle_event_sent(self.now);
                }
                Transmit::Interface { .. } => self.session.handle_interface_sent(),
            }
        }
        panic!("it never stops sending");
    }

    fn check(&self) {
        assert_eq!(self.session.cursor(), self.done);
        assert!(self.calls.len() <= CALLS_MAX && self.started.len() <= CALLS_MAX);
        assert!(self.session.cursor().generation <= NUMBER_MAX, "a cursor that no server takes");
        if let Target::Home(address) = self.session.target(self.now) {
            assert!(!address.is_empty() && address.len() <= ADDRESS_LEN_MAX);
        }
        if let Some((_, ticket)) = self.session.ticket() {
            assert!(ticket.len() <= limits::TICKET_LEN_MAX);
        }
        let is_closed = matches!(self.session.state(), StateName::Detached | StateName::Ended);
        assert_eq!(self.session.frame_limit().is_none(), is_closed || self.session.state() == StateName::Greeting);
    }
}

/// A message of a server with numbers that a session meets.
fn chosen<'a>(input: &mut Input<'_>, grown: [&'a [u8]; 2], address: &'a [u8], grant: &'a [u8]) -> ToDevice<'a> {
    let kind = input.byte();
    let is_grown = kind >= 0xf0;
    let grant = if is_grown { grown[1] } else { grant };
    let address = if is_grown { grown[0] } else { address };
    match kind % 20 {
        0..=2 => ToDevice::Welcome(Welcome {
            epoch: input.number(),
            generation: input.number(),
            heartbeat_s: input.number() as u16,
            frame_limit: if input.byte().is_multiple_of(8) { input.number32() } else { 4096 },
            event_window: input.byte(),
            event_position: input.number() / 4,
            time_ms: input.number(),
            grant,
        }),
        3 => ToDevice::Redirect { address: std::str::from_utf8(address).unwrap_or("10.0.0.1:1"), grant },
        4 => {
            let code = RejectCode::ALL[input.below(RejectCode::ALL.len())];
            ToDevice::Reject { code, retry_after_s: input.number32() }
        }
        5 => ToDevice::Pong { now_ms: input.number() },
        6 => ToDevice::Probe,
        7..=12 => {
            let flags = Flags(input.byte());
            ToDevice::Message { sequence: input.number(), key: KEY, expiry_ms: 0, flags, payload: b"on" }
        }
        13 => ToDevice::Generation { generation: input.number() },
        14 | 15 => ToDevice::Call { request: input.number32(), key: KEY, deadline_ms: input.number(), payload: b"?" },
        16 => ToDevice::Cancel { request: input.number32() },
        17 => ToDevice::EventAck { sequence: input.number() / 2 },
        18 if kind < 0x80 => ToDevice::Describe { offset: input.number32() },
        18 => ToDevice::Grant { grant },
        _ => {
            let reason = GoAwayReason::ALL[input.below(GoAwayReason::ALL.len())];
            ToDevice::GoAway { reason, reconnect_after_s: input.number32() }
        }
    }
}

/// The frames of the vectors after a connection, and a session in which something of everything happens.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let frames = vectors::bodies("to-device");
    let whole = |frame: &Vec<u8>| [&[8][..], &u16::try_from(frame.len()).expect("short").to_be_bytes(), frame].concat();
    let welcome = whole(&frames[0]);
    let mut seeds: Vec<_> = frames.iter().map(|frame| [vec![0, 11], welcome.clone(), whole(frame)].concat()).collect();
    let chosen = |kind: u8, numbers: &[u8]| [&[0, 0, 0, kind][..], numbers].concat();
    let message = |sequence| chosen(7, &[0, sequence]);
    let session = [
        vec![1, 11],
        chosen(0, &[3, 1, 30, 1, 4, 0, 0]),
        message(1),
        message(2),
        vec![16, 18],
        message(3),
        vec![22, 22, 20],
        chosen(17, &[2]),
        chosen(13, &[2]),
        message(1),
        vec![18, 18],
        chosen(14, &[1, 0xf0]),
        vec![21, 0, 0, 21, 2],
        vec![9, 200],
        chosen(6, &[]),
        vec![15, 0, 11],
        chosen(0, &[4, 2, 30, 1, 4, 4, 0]),
        message(2),
        chosen(19, &[1, 5]),
        vec![23, 0],
    ];
    seeds.push(session.concat());
    seeds
}

//! Everything at one moment: the parties, what is under way between them, and the ledger that judges them.
//!
//! A frame of a server reaches the device's queue at once; what is lost on that way is lost when the queue is
//! cleared. Upward frames wait in their connection. Everything between processes lies in `net`, in no order.

use std::rc::Rc;

use crate::ledger::Ledger;
use crate::message::{Id, Item, Since};
use crate::scenario::{Budget, Scenario};
use crate::session::{Attached, Hello, Life};
use crate::store::{Now, Store};

/// On its way between processes: may be taken in any order, late, twice, or never.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Net {
    /// A try to append that its route gave up waiting for.
    Append {
        send: u8,
        retry: bool,
        since: Since,
    },
    Deliver {
        to: Life,
        id: Id,
        message: u8,
    },
    /// `winner` is the ledger's number of the connection for whose sake.
    Kick {
        to: Life,
        epoch: u8,
        from: Life,
        winner: u8,
    },
    Detach {
        from: Life,
        epoch: u8,
        connection: u8,
    },
    Ack {
        id: Id,
        sent: u16,
    },
    Call {
        call: u8,
        to: Life,
        epoch: u8,
    },
    NotHere {
        call: u8,
        known: u8,
    },
}

/// Device → server, in order, on one connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Up {
    Generation(u8),
    Ack(u8),
    Nack(u8),
    Reply(u8),
    Event { queue: u8, sequence: u8, event: u8 },
}

/// Server → device, in order, waiting at the device.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Down {
    Generation(u8),
    Message(Item),
    /// One that was handled before: acknowledged again when its turn comes.
    Again(Id),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Connection {
    pub(crate) life: Life,
    pub(crate) hello: Hello,
    pub(crate) device_open: bool,
    pub(crate) server_open: bool,
    /// The server has read the `Hello`.
    pub(crate) greeted: bool,
    pub(crate) up: Vec<Up>,
}

/// How far an attachment is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    /// Asked the store; its reply may be under way.
    Attaching(Option<Attached>),
    Attached,
}

/// A device in a server's table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Seat {
    pub(crate) connection: u8,
    pub(crate) phase: Phase,
    pub(crate) epoch: u8,
    pub(crate) offered: u8,
    /// Everything stored up to here is sent or final.
    pub(crate) sent: Id,
    /// Generation that the stream is in, and that the device has answered.
    pub(crate) stream: u8,
    pub(crate) answered: u8,
    pub(crate) in_flight: Vec<Id>,
    pub(crate) more: bool,
    /// A read's reply under way: items, more, end of the mailbox when it was read.
    pub(crate) reading: Option<(Vec<Item>, bool, Id)>,
    /// The store's run when the seat was last compared with it.
    pub(crate) run: u8,
    pub(crate) calls: Vec<u8>,
}

/// A kick not yet answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct KickTask {
    pub(crate) to: Life,
    pub(crate) epoch: u8,
    pub(crate) winner: u8,
    pub(crate) sent: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Server {
    pub(crate) incarnation: u8,
    pub(crate) seats: Vec<Seat>,
    pub(crate) kicks: Vec<KickTask>,
    pub(crate) acks: Option<(Id, u16)>,
    pub(crate) nacks: Option<(u8, u16)>,
    /// Calls that wait for an attach under way.
    pub(crate) waiting: Vec<(u8, u8)>,
    /// Highest epoch known, highest one kicked.
    pub(crate) known: u8,
    pub(crate) kicked: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Device {
    pub(crate) boot: u8,
    pub(crate) attempt: u8,
    pub(crate) epoch: u8,
    pub(crate) cursor: Id,
    pub(crate) received: Id,
    /// Refused lately: a generation, and a bit for each sequence.
    pub(crate) nacks: (u8, u16),
    pub(crate) handler: Option<Item>,
    pub(crate) queue: Vec<Down>,
    pub(crate) connection: Option<u8>,
    pub(crate) welcomed: bool,
    /// Generation that acks are understood in.
    pub(crate) generation: u8,
    pub(crate) calls: Vec<u8>,
    /// Unacknowledged events: (sequence, event).
    pub(crate) events: Vec<(u8, u8)>,
    pub(crate) event_queue: u8,
    pub(crate) event_next: u8,
    pub(crate) event_sent: u8,
}

/// What the backend of one send was told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Told {
    Nothing,
    Stored(Id),
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum SendPhase {
    Idle,
    Retrying,
    /// The client is gone or has its answer.
    Done,
}

/// One `POST …/messages` at a route.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Send {
    pub(crate) phase: SendPhase,
    pub(crate) since: Since,
    pub(crate) told: Told,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Answer {
    Reply,
    Offline,
    Deadline,
    Disconnected,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum CallPhase {
    Idle,
    Asked(Life, u8),
    Done(Answer),
}

/// One `POST …/calls` at a route.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Call {
    pub(crate) phase: CallPhase,
    pub(crate) looked: bool,
    pub(crate) looked_again: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) backup: Rc<Store>,
    pub(crate) run: u8,
    pub(crate) era: u8,
    pub(crate) passed: u8,
    /// A rollback that left no trace, and that nobody has noticed yet.
    pub(crate) unnoticed: bool,
    pub(crate) servers: Vec<Server>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) connected: u8,
    pub(crate) device: Device,
    pub(crate) cache: Option<(Life, u8)>,
    pub(crate) sends: Vec<Send>,
    pub(crate) calls: Vec<Call>,
    pub(crate) net: Vec<Net>,
    pub(crate) left: Budget,
    pub(crate) ledger: Ledger,
}

impl World {
    /// Everything provisioned, nothing connected.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let b = scenario.budget;
        Self {
            store: Store::default(),
            backup: Rc::new(Store::default()),
            run: 0,
            era: 0,
            passed: 0,
            unnoticed: false,
            servers: vec![Server::default(); usize::from(scenario.servers)],
            connections: Vec::new(),
            connected: 0,
            device: Device {
                boot: 1,
                attempt: 0,
                epoch: 0,
                cursor: Id::default(),
                received: Id::default(),
                nacks: (0, 0),
                handler: None,
                queue: Vec::new(),
                connection: None,
                welcomed: false,
                generation: 0,
                calls: Vec::new(),
                events: Vec::new(),
                event_queue: 1,
                event_next: 1,
                event_sent: 0,
            },
            cache: None,
            sends: vec![
                Send { phase: SendPhase::Idle, since: Since::default(), told: Told::Nothing };
                usize::from(scenario.sends)
            ],
            calls: vec![
                Call { phase: CallPhase::Idle, looked: false, looked_again: false };
                usize::from(scenario.calls)
            ],
            net: Vec::new(),
            left: b,
            ledger: Ledger::new(scenario),
        }
    }

    pub(crate) fn now(&self, scenario: &Scenario) -> Now {
        Now { run: self.run, era: self.era, passed: self.passed, limits: scenario.limits, broken: scenario.broken }
    }

    pub(crate) fn put(&mut self, net: Net) {
        let at = self.net.partition_point(|n| *n <= net);
        self.net.insert(at, net);
    }

    pub(crate) fn life(&self, server: u8) -> Life {
        Life { server, incarnation: self.servers[usize::from(server)].incarnation }
    }

    pub(crate) fn is_alive(&self, life: Life) -> bool {
        self.life(life.server) == life
    }

    pub(crate) fn connection(&self, number: u8) -> Option<&Connection> {
        self.connections.iter().find(|c| c.hello.connection == number)
    }

    pub(crate) fn connection_mut(&mut self, number: u8) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.hello.connection == number)
    }

    /// Seat of a server that serves the device: the attached one of the highest epoch.
    pub(crate) fn attached_seat(&self, server: u8) -> Option<usize> {
        let seats = &self.servers[usize::from(server)].seats;
        (0..seats.len()).filter(|i| seats[*i].phase == Phase::Attached).max_by_key(|i| seats[*i].epoch)
    }

    pub(crate) fn seat_of(&self, server: u8, connection: u8) -> Option<usize> {
        let seats = &self.servers[usize::from(server)].seats;
        seats.iter().position(|s| s.connection == connection)
    }

    /// Whether the store's session is the device's own connection to a living server.
    pub(crate) fn is_in_store(&self) -> bool {
        let session = self.store.session.filter(|s| self.is_alive(s.life));
        self.device.connection.is_some() && session.map(|s| s.connection) == self.device.connection
    }

    /// Whether the device's own connection is the one that the store, a server and the device agree on.
    pub(crate) fn is_attached(&self) -> bool {
        let (Some(number), Some(session)) = (self.device.connection, self.store.session) else {
            return false;
        };
        let life = session.life;
        self.device.welcomed
            && session.connection == number
            && self.is_alive(life)
            && self
                .seat_of(life.server, number)
                .is_some_and(|i| self.servers[usize::from(life.server)].seats[i].phase == Phase::Attached)
    }

    /// Forgets what can never matter again.
    pub(crate) fn tidy(&mut self, scenario: &Scenario) {
        let now = self.now(scenario);
        self.store.expire(now, false);
        let servers = &self.servers;
        let alive = |l: Life| servers[usize::from(l.server)].incarnation == l.incarnation;
        for c in &mut self.connections {
            c.server_open &= alive(c.life);
            if !c.server_open {
                c.up.clear();
            }
        }
        self.connections.retain(|c| c.device_open || c.server_open);
        let strict = scenario.broken.keeps(crate::rule::Rule::KickNamesTheIncarnation);
        self.net.retain(|n| match n {
            Net::Deliver { to, .. } => alive(*to),
            Net::Kick { to, .. } => !strict || alive(*to),
            Net::Call { .. } | Net::NotHere { .. } | Net::Append { .. } | Net::Detach { .. } | Net::Ack { .. } => true,
        });
    }
}

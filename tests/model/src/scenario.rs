//! What is explored: how many parties, and how many faults of each kind.

use crate::rule::{Broken, Rule};
use crate::store::Limits;

/// How often each thing may happen. Requests are optional too: rest is judged with and without them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    /// A request or a reply between processes is lost; its sender times out.
    pub losses: u8,
    /// A `Deliver` is lost.
    pub hints: u8,
    /// A request takes effect after its sender gave up, a reply comes late, or a message comes twice.
    pub delays: u8,
    /// The device loses its connection; the server does not know.
    pub drops: u8,
    /// The device loses its power.
    pub power: u8,
    /// kill -9 of an IM-server.
    pub crashes: u8,
    /// kill -9 of a route between append and `Deliver`.
    pub route_crashes: u8,
    /// An HTTP client hangs up while its append is under way.
    pub hang_ups: u8,
    /// A backup of the store is taken.
    pub backups: u8,
    /// The store restarts from its backup, with another run id.
    pub rollbacks: u8,
    /// The store's contents go back to the backup, and no run id tells.
    pub unnoticed: u8,
    /// A message's TTL passes.
    pub expiries: u8,
    /// The device refuses a message.
    pub nacks: u8,
    /// The device publishes.
    pub events: u8,
    /// The device is revoked.
    pub revocations: u8,
}

/// One exhaustive exploration.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, as the trace printer takes it.
    pub name: &'static str,
    /// IM-servers.
    pub servers: u8,
    /// Messages that backends send.
    pub sends: u8,
    /// Calls that backends make.
    pub calls: u8,
    /// The second send repeats the first with its `Idempotency-Key`.
    pub repeated: bool,
    /// The device keeps its cursor (and event queue) over a power loss.
    pub persistent: bool,
    /// A message that resets the device whenever it is handled.
    pub poison: Option<u8>,
    /// A server notices dead sockets by itself. Without it only kicks close them, as in the 500 s before the cut.
    pub cut: bool,
    /// Heartbeats happen. Without them everything must go out at once.
    pub heartbeat: bool,
    /// The store goes back only while the device is between its login, which saw the newest epoch, and its attach.
    pub under_login: bool,
    /// Connections that the device opens at most.
    pub connections: u8,
    /// Faults.
    pub budget: Budget,
    /// Limits of the mailbox.
    pub limits: Limits,
    /// Rules that are broken.
    pub broken: Broken,
}

const LIMITS: Limits = Limits { window: 2, recent: 3, ring: 3, attempts: 6 };

const NONE: Budget = Budget {
    losses: 0,
    hints: 0,
    delays: 0,
    drops: 0,
    power: 0,
    crashes: 0,
    route_crashes: 0,
    hang_ups: 0,
    backups: 0,
    rollbacks: 0,
    unnoticed: 0,
    expiries: 0,
    nacks: 0,
    events: 0,
    revocations: 0,
};

const PLAIN: Scenario = Scenario {
    name: "plain",
    servers: 1,
    sends: 2,
    calls: 0,
    repeated: false,
    persistent: true,
    poison: None,
    cut: true,
    heartbeat: true,
    under_login: false,
    connections: 9,
    budget: NONE,
    limits: LIMITS,
    broken: Broken::NONE,
};

/// Every scenario.
pub const ALL: &[Scenario] = &[
    Scenario { name: "link", budget: Budget { losses: 1, drops: 1, ..NONE }, ..PLAIN },
    Scenario { name: "power", budget: Budget { losses: 1, power: 1, ..NONE }, ..PLAIN },
    Scenario {
        name: "forgetful",
        persistent: false,
        limits: Limits { window: 1, ..LIMITS },
        budget: Budget { drops: 1, power: 1, ..NONE },
        ..PLAIN
    },
    Scenario {
        name: "forgetful-late",
        persistent: false,
        limits: Limits { window: 1, ..LIMITS },
        budget: Budget { power: 1, delays: 1, ..NONE },
        ..PLAIN
    },
    Scenario { name: "prompt", sends: 3, heartbeat: false, budget: Budget { hang_ups: 1, delays: 1, ..NONE }, ..PLAIN },
    Scenario { name: "retry", sends: 3, budget: Budget { losses: 1, delays: 1, route_crashes: 1, ..NONE }, ..PLAIN },
    Scenario {
        name: "overrun",
        sends: 3,
        budget: Budget { losses: 1, ..NONE },
        limits: Limits { recent: 1, ..LIMITS },
        ..PLAIN
    },
    Scenario { name: "repeated", repeated: true, budget: Budget { losses: 1, hang_ups: 1, drops: 1, ..NONE }, ..PLAIN },
    Scenario { name: "rollback", budget: Budget { backups: 1, rollbacks: 1, hints: 1, ..NONE }, ..PLAIN },
    Scenario { name: "rollback-to-nothing", sends: 3, budget: Budget { rollbacks: 1, ..NONE }, ..PLAIN },
    Scenario {
        name: "rollback-power",
        persistent: false,
        budget: Budget { backups: 1, rollbacks: 1, power: 1, ..NONE },
        ..PLAIN
    },
    Scenario {
        name: "rollback-retry",
        sends: 1,
        budget: Budget { backups: 1, rollbacks: 1, losses: 1, ..NONE },
        ..PLAIN
    },
    Scenario { name: "two-rollbacks", budget: Budget { backups: 1, rollbacks: 2, ..NONE }, ..PLAIN },
    Scenario {
        name: "rollback-under-login",
        sends: 0,
        under_login: true,
        budget: Budget { rollbacks: 1, power: 1, ..NONE },
        ..PLAIN
    },
    Scenario { name: "rollback-drop", budget: Budget { backups: 1, rollbacks: 1, drops: 1, ..NONE }, ..PLAIN },
    Scenario { name: "unnoticed", budget: Budget { backups: 1, unnoticed: 1, drops: 1, ..NONE }, ..PLAIN },
    Scenario { name: "unnoticed-twice", sends: 3, budget: Budget { backups: 1, unnoticed: 2, ..NONE }, ..PLAIN },
    Scenario {
        name: "expiry",
        sends: 1,
        budget: Budget { expiries: 1, losses: 1, drops: 1, crashes: 1, ..NONE },
        ..PLAIN
    },
    Scenario { name: "expiry-order", budget: Budget { expiries: 1, drops: 1, ..NONE }, ..PLAIN },
    Scenario {
        name: "expiry-rollback",
        limits: Limits { window: 1, ..LIMITS },
        budget: Budget { expiries: 1, backups: 1, rollbacks: 1, drops: 1, ..NONE },
        ..PLAIN
    },
    Scenario {
        name: "refusal",
        limits: Limits { ring: 1, ..LIMITS },
        budget: Budget { nacks: 2, drops: 1, crashes: 1, ..NONE },
        ..PLAIN
    },
    Scenario {
        name: "poison",
        connections: 6,
        poison: Some(0),
        limits: Limits { attempts: 2, ..LIMITS },
        budget: Budget { drops: 1, ..NONE },
        ..PLAIN
    },
    Scenario {
        name: "flapping",
        limits: Limits { attempts: 2, ..LIMITS },
        budget: Budget { drops: 2, ..NONE },
        ..PLAIN
    },
    Scenario {
        name: "servers",
        servers: 2,
        sends: 1,
        budget: Budget { drops: 1, losses: 1, crashes: 1, ..NONE },
        ..PLAIN
    },
    Scenario {
        name: "servers-half-open",
        servers: 2,
        sends: 1,
        cut: false,
        budget: Budget { drops: 1, losses: 1, delays: 1, ..NONE },
        ..PLAIN
    },
    Scenario {
        name: "servers-rollback",
        servers: 2,
        sends: 0,
        cut: false,
        budget: Budget { drops: 1, power: 1, backups: 1, rollbacks: 1, delays: 1, ..NONE },
        ..PLAIN
    },
    Scenario {
        name: "reassert",
        servers: 2,
        sends: 0,
        budget: Budget { drops: 2, backups: 1, rollbacks: 1, ..NONE },
        ..PLAIN
    },
    Scenario { name: "reboot", servers: 2, sends: 0, budget: Budget { power: 2, delays: 1, ..NONE }, ..PLAIN },
    Scenario {
        name: "calls",
        servers: 2,
        sends: 0,
        calls: 1,
        budget: Budget { drops: 1, crashes: 1, losses: 1, delays: 1, ..NONE },
        ..PLAIN
    },
    Scenario {
        name: "calls-half-open",
        servers: 2,
        sends: 0,
        calls: 2,
        cut: false,
        budget: Budget { drops: 1, delays: 1, ..NONE },
        ..PLAIN
    },
    Scenario { name: "events", sends: 0, budget: Budget { events: 2, drops: 1, power: 1, losses: 1, ..NONE }, ..PLAIN },
    Scenario {
        name: "events-in-ram",
        sends: 0,
        persistent: false,
        budget: Budget { events: 2, drops: 1, power: 1, losses: 1, ..NONE },
        ..PLAIN
    },
    Scenario { name: "revocation", sends: 1, budget: Budget { revocations: 1, drops: 1, ..NONE }, ..PLAIN },
];

impl Scenario {
    /// The scenario of that name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|s| s.name == name).copied()
    }

    /// The same with one more rule broken.
    pub fn breaking(self, rule: Rule) -> Self {
        Self { broken: self.broken.and(rule), ..self }
    }
}

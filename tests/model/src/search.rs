//! Breadth-first search: every state that a scenario can reach, so the first violation has the shortest trace.
//!
//! Visited states are kept as 128-bit hashes (a collision would hide a state: below 1e-24 at ten million).

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::ledger::Violation;
use crate::moves::Move;
use crate::scenario::Scenario;
use crate::world::World;

/// What an exploration found.
#[derive(Debug)]
pub struct Found {
    /// Distinct states seen.
    pub states: usize,
    /// Of these, states at rest.
    pub at_rest: usize,
    /// Most moves from the start to any state.
    pub depth: usize,
    /// The first broken promise, with the moves that lead to it.
    pub violation: Option<(Violation, Vec<Move>)>,
}

/// Explores every state of the scenario, or up to the first violation.
///
/// # Panics
/// When the scenario has more than `STATES_MAX` states: its budget is too large.
pub fn explore(scenario: &Scenario) -> Found {
    let start = World::new(scenario);
    let mut seen: HashSet<u128, BuildHasherDefault<Keep>> = HashSet::default();
    seen.insert(fingerprint(&start));
    let mut trail: Vec<(u32, Move)> = vec![(0, Move::Connect(0))];
    let mut level = vec![(0u32, start)];
    let mut found = Found { states: 1, at_rest: 0, depth: 0, violation: None };
    while !level.is_empty() {
        let mut next = Vec::new();
        for (at, world) in level {
            let moves = world.moves(scenario);
            if !moves.iter().any(|m| m.is_progress()) && !world.owes_retry() {
                found.at_rest += 1;
                if let Err(violation) = world.judge_rest(scenario) {
                    found.violation = Some((violation, path(&trail, at)));
                    return found;
                }
            }
            for mv in moves {
                match world.after(scenario, mv) {
                    Ok(after) => {
                        if seen.insert(fingerprint(&after)) {
                            let number = u32::try_from(trail.len()).expect("fewer states than STATES_MAX");
                            trail.push((at, mv));
                            next.push((number, after));
                        }
                    }
                    Err(violation) => {
                        let mut moves = path(&trail, at);
                        moves.push(mv);
                        found.violation = Some((violation, moves));
                        found.states = seen.len();
                        return found;
                    }
                }
            }
            assert!(seen.len() < STATES_MAX, "{}: more than {STATES_MAX} states", scenario.name);
        }
        found.states = seen.len();
        found.depth += usize::from(!next.is_empty());
        level = next;
    }
    found
}

/// The trace of a violation, a numbered line for each move, with what the parties look like after it.
pub fn trace(scenario: &Scenario, moves: &[Move]) -> String {
    use fmt::Write as _;
    let mut world = World::new(scenario);
    let mut out = String::new();
    for (i, mv) in moves.iter().enumerate() {
        let _ = writeln!(out, "{:3}  {mv:?}", i + 1);
        match world.after(scenario, *mv) {
            Ok(after) => world = after,
            Err(violation) => {
                let _ = writeln!(out, "     => {violation:?}");
                return out;
            }
        }
        let _ = write!(out, "{world}");
    }
    if let Err(violation) = world.judge_rest(scenario) {
        let _ = writeln!(out, "     => at rest: {violation:?}");
    }
    out
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.store;
        let entries: Vec<_> = s.entries.iter().map(|e| (e.id.generation, e.id.sequence, e.message, e.ended)).collect();
        writeln!(
            f,
            "       store   run {} lineage {} generation {} first {} last {} offered {} session {:?} entries {entries:?} ring {:?}",
            self.run,
            s.lineage,
            s.generation,
            s.first,
            s.last,
            s.offered,
            s.session.map(|x| (x.life.server, x.epoch, x.connection)),
            s.ring
        )?;
        for (i, server) in self.servers.iter().enumerate() {
            for x in &server.seats {
                let attached = x.phase == crate::world::Phase::Attached;
                writeln!(
                    f,
                    "       server {i} connection {} attached {attached} epoch {} sent {:?} in flight {} more {}",
                    x.connection,
                    x.epoch,
                    (x.sent.generation, x.sent.sequence),
                    x.in_flight.len(),
                    x.more
                )?;
            }
        }
        let d = &self.device;
        writeln!(
            f,
            "       device  connection {:?} welcomed {} cursor {:?} handler {:?} queue {:?}",
            d.connection,
            d.welcomed,
            (d.cursor.generation, d.cursor.sequence),
            d.handler.map(|i| i.message),
            d.queue
        )?;
        if !self.net.is_empty() {
            writeln!(f, "       net     {:?}", self.net)?;
        }
        Ok(())
    }
}

/// A scenario with more is too large to be run often.
const STATES_MAX: usize = 3_000_000;

fn path(trail: &[(u32, Move)], mut at: u32) -> Vec<Move> {
    let mut moves = Vec::new();
    while at != 0 {
        let (from, mv) = trail[at as usize];
        moves.push(mv);
        at = from;
    }
    moves.reverse();
    moves
}

fn fingerprint(world: &World) -> u128 {
    let mut lanes = Lanes(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);
    world.hash(&mut lanes);
    u128::from(lanes.finish()) << 64 | u128::from(lanes.1 ^ lanes.1 >> 29)
}

/// Two independent multiply–rotate lanes: the world hashes as a few hundred small numbers, where `SipHash` takes most of the time.
struct Lanes(u64, u64);

impl Lanes {
    fn mix(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.1 = (self.1 ^ value).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(31);
    }
}

impl Hasher for Lanes {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.mix(u64::from(*b));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }
}

/// The fingerprints are hashes already.
#[derive(Default)]
struct Keep(u64);

impl Hasher for Keep {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes.iter().take(8) {
            self.0 = self.0 << 8 | u64::from(*b);
        }
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

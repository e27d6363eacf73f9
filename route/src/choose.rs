//! Choosing an IM-server for a device: the better of two drawn at random.
//!
//! Two drawn at random spread devices nearly as evenly as looking at all, and routes that decide on reports
//! of the same moment do not all rush to the one server that looked best in it.

use std::time::Duration;

use imlink_protocol::link::node::Load;

/// What is known of a server at the moment of choosing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Candidate {
    /// Its last report.
    pub(crate) load: Load,
    /// Age of that report; `None` before the first one.
    pub(crate) age: Option<Duration>,
    /// Devices that this route sent there since.
    pub(crate) assigned: u32,
    /// Most connections it takes.
    pub(crate) capacity: u32,
    /// It has the labels asked for.
    pub(crate) is_allowed: bool,
}

impl Candidate {
    /// How busy it is; `None` when it gets no device at all. Tenths of pressure first, then how full it is:
    /// small differences of CPU load are noise, and devices that only hold a connection cost next to none.
    pub(crate) fn score(&self) -> Option<Score> {
        let Load { connections, queued, cpu_permille, memory_permille, draining } = self.load;
        let expected = connections.saturating_add(self.assigned);
        let is_stale = self.age.is_none_or(|age| age > STALE_AFTER);
        let is_full = expected >= self.capacity || memory_permille >= MEMORY_FULL_PERMILLE;
        if !self.is_allowed || draining || is_stale || is_full {
            return None;
        }
        let fill = u64::from(expected) * FILL_PARTS / u64::from(self.capacity.max(1));
        let waiting = queued.min(QUEUED_FULL) * 1000 / QUEUED_FULL;
        let pressure = waiting.max(cpu_permille.min(1000).into()).max(memory_permille.into());
        Some(Score { pressure: pressure / PRESSURE_STEP, fill })
    }
}

/// How busy a server is; compared field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    /// The worst of queued work, CPU and memory, in tenths.
    pressure: u32,
    /// Connections of those it takes, in millionths.
    fill: u64,
}

/// Where among `candidates` the next device goes; `draw` is a random number.
pub(crate) fn choose(candidates: &[Candidate], draw: u64) -> Option<usize> {
    let open: Vec<(usize, Score)> =
        candidates.iter().enumerate().filter_map(|(at, one)| Some((at, one.score()?))).collect();
    let count = u64::try_from(open.len()).ok().filter(|count| *count > 0)?;
    let first = (draw >> 32) % count;
    // The second is another one, unless there is only one.
    let second = (first + 1 + (draw & u64::from(u32::MAX)) % (count - 1).max(1)) % count;
    let pick = |at: u64| open.get(usize::try_from(at).ok()?).copied();
    let (first, second) = (pick(first)?, pick(second)?);
    Some(if second.1 < first.1 { second.0 } else { first.0 })
}

/// Whether `labels` (`key=value,…`) hold all of `wanted`.
pub(crate) fn has_labels(labels: &str, wanted: &str) -> bool {
    let has = |label: &str| labels.split(',').any(|one| one.trim() == label);
    wanted.split(',').map(str::trim).filter(|label| !label.is_empty()).all(has)
}

/// Parts that a server's fill is counted in.
const FILL_PARTS: u64 = 1_000_000;
/// Thousandths of pressure that make a difference.
const PRESSURE_STEP: u32 = 100;
/// Reports come every 2 s: three missed ones mean that nothing is known.
const STALE_AFTER: Duration = Duration::from_secs(6);
/// Waiting messages and calls that count as fully busy.
const QUEUED_FULL: u32 = 10_000;
/// Memory use at which a server takes no new device.
const MEMORY_FULL_PERMILLE: u16 = 950;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn idle(capacity: u32) -> Candidate {
        Candidate { age: Some(Duration::ZERO), capacity, is_allowed: true, ..Candidate::default() }
    }

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        let load = (0..200u32, any::<u32>(), 0..1100u16, 0..1100u16, any::<bool>());
        (load, proptest::option::of(0..10u64), 0..50u32, 0..200u32, any::<bool>()).prop_map(
            |((connections, queued, cpu_permille, memory_permille, draining), age, assigned, capacity, allowed)| {
                Candidate {
                    load: Load { connections, queued, cpu_permille, memory_permille, draining },
                    age: age.map(Duration::from_secs),
                    assigned,
                    capacity,
                    is_allowed: allowed,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn somebody_is_chosen_exactly_when_somebody_is_open(
            candidates in proptest::collection::vec(any_candidate(), 0..8),
            draw: u64,
        ) {
            let chosen = choose(&candidates, draw);
            prop_assert_eq!(chosen.is_some(), candidates.iter().any(|one| one.score().is_some()));
            if let Some(at) = chosen {
                let one = candidates[at];
                prop_assert!(one.is_allowed && !one.load.draining);
                prop_assert!(one.age.unwrap() <= STALE_AFTER);
                prop_assert!(one.load.connections + one.assigned < one.capacity);
            }
        }

        #[test]
        fn the_busiest_of_several_is_never_chosen(
            count in 2usize..8,
            busiest in 0usize..8,
            draw: u64,
        ) {
            let busiest = busiest % count;
            let mut candidates = vec![idle(100); count];
            candidates[busiest].load.connections = 50;
            prop_assert_ne!(choose(&candidates, draw), Some(busiest));
        }
    }

    #[test]
    fn devices_spread_by_capacity_although_reports_are_old() {
        let mut candidates = vec![idle(1000), idle(1000), idle(2000)];
        let mut draw = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..2000 {
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            let at = choose(&candidates, draw).unwrap();
            candidates[at].assigned += 1;
        }
        let assigned: Vec<u32> = candidates.iter().map(|one| one.assigned).collect();
        assert!(assigned[0].abs_diff(500) < 30 && assigned[1].abs_diff(500) < 30, "{assigned:?}");
        assert!(assigned[2].abs_diff(1000) < 60, "{assigned:?}");
    }

    #[test]
    fn a_percent_of_cpu_does_not_draw_the_whole_fleet() {
        let mut candidates = vec![idle(1_000_000); 3];
        candidates[0].load.cpu_permille = 2;
        candidates[1].load.cpu_permille = 12;
        candidates[2].load.cpu_permille = 31;
        for draw in 0..300u64 {
            let at = choose(&candidates, draw.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
            candidates[at].assigned += 1;
        }
        assert!(candidates.iter().all(|one| one.assigned.abs_diff(100) < 10), "{candidates:?}");
        candidates[2].load.cpu_permille = 700;
        assert!(candidates[2].score() > candidates[0].score());
    }

    #[test]
    fn labels_pin() {
        assert!(has_labels("zone=eu,disk=ssd", "zone=eu"));
        assert!(has_labels("zone=eu", ""));
        assert!(!has_labels("zone=eu-west", "zone=eu"));
        assert!(!has_labels("", "zone=eu"));
    }
}

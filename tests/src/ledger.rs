//! The ledger: what was sent, against what devices handled and what imlink says became of it.
//!
//! Every payload in a ledger is different, so its hash names it through all three.
//!
//! ```text
//! sent      client · device · path · hash · what the client was told
//! handled   device · id · hash · redelivered · what the device had kept
//! state     what imlink says of an id, as often as it was asked
//! ```
//!
//! [`Ledger::judge`] finds every line that breaks a promise: a stored message that nobody handled, one that was
//! handled twice, out of order, at another device, under another path, or that nobody sent; and a state that
//! says otherwise. A refused message must not have been handled; one without a clear answer may have been, once.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use imlink_protocol::MessageId;

/// Violations that a report prints.
const PRINTED: usize = 20;

/// Hash of a payload, as the simulated devices write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub u64);

impl Hash {
    /// The hash of `payload`.
    pub fn of(payload: &[u8]) -> Self {
        Self(imlink_swarm::payload_hash(payload))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Stored under this id.
    Stored(MessageId),
    /// Stored under this id, and acknowledged by the device.
    Acked(MessageId),
    /// Not stored.
    Refused,
    /// Nothing certain: no answer, or `may-be-stored`.
    Unclear,
}

impl Told {
    /// The id, if there is one.
    pub const fn id(self) -> Option<MessageId> {
        match self {
            Self::Stored(id) | Self::Acked(id) => Some(id),
            Self::Refused | Self::Unclear => None,
        }
    }
}

/// A message as its sender saw it. Entries of one client are in the order in which it was answered, and a client sends to
/// one device only after the answer to the message before.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Which client.
    pub client: u32,
    /// To which device.
    pub device: String,
    /// About what.
    pub path: String,
    /// Its payload.
    pub hash: Hash,
    /// What the client was told.
    pub told: Told,
    /// When, in milliseconds since 1970.
    pub told_ms: u64,
}

/// A message as its device saw it. Entries of one device are in the order in which its handler got them.
#[derive(Clone, Debug)]
pub struct Handled {
    /// Which device.
    pub device: String,
    /// Its id.
    pub id: MessageId,
    /// About what, empty when the device's record does not say.
    pub path: String,
    /// Its payload.
    pub hash: Hash,
    /// Marked as possibly seen before.
    pub redelivered: bool,
    /// The device lost its cursor between the entry before and this one.
    pub forgot: bool,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Told as stored, never handled.
    Lost(String),
    /// Handled more than once, without the mark or without a reason.
    Doubled(String),
    /// Handled after a newer one.
    Disordered(String),
    /// Two messages of one client to one device got ids in the wrong order.
    Misnumbered(String),
    /// Handled, and not what anybody sent to that device under that path and id.
    Foreign(String),
    /// Refused, and handled all the same.
    Refused(String),
    /// A state that what happened contradicts.
    Dishonest(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, text) = match self {
            Self::Lost(text) => ("lost", text),
            Self::Doubled(text) => ("doubled", text),
            Self::Disordered(text) => ("disordered", text),
            Self::Misnumbered(text) => ("misnumbered", text),
            Self::Foreign(text) => ("foreign", text),
            Self::Refused(text) => ("refused but handled", text),
            Self::Dishonest(text) => ("dishonest state", text),
        };
        write!(f, "{name}: {text}")
    }
}

/// The three columns.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What clients sent.
    pub sent: Vec<Sent>,
    /// What devices handled.
    pub handled: Vec<Handled>,
    /// What imlink said of a message, each time it was asked, in order.
    pub states: BTreeMap<(String, MessageId), Vec<String>>,
}

/// The judgement over a whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages sent.
    pub sent: usize,
    /// Messages that clients were told are stored.
    pub stored: usize,
    /// Messages handled, repetitions included.
    pub handled: usize,
    /// Repetitions that the promise allows.
    pub repeated: usize,
    /// What was broken.
    pub violations: Vec<Violation>,
}

impl Report {
    /// Goes on when nothing was broken.
    ///
    /// # Panics
    /// When something was, with the first violations.
    pub fn check(&self) {
        assert!(self.violations.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, stored, handled, repeated, violations } = self;
        writeln!(
            f,
            "{sent} sent, {stored} stored, {handled} handled, {repeated} of them again as allowed, {} violations",
            violations.len()
        )?;
        violations.iter().take(PRINTED).try_for_each(|violation| writeln!(f, "  {violation}"))?;
        match violations.len().checked_sub(PRINTED) {
            Some(more @ 1..) => writeln!(f, "  … and {more} more"),
            _ => Ok(()),
        }
    }
}

impl Ledger {
    /// Compares the columns once everything has come to rest.
    pub fn judge(&self) -> Report {
        let mut report = Report {
            sent: self.sent.len(),
            stored: self.sent.iter().filter(|sent| sent.told.id().is_some()).count(),
            handled: self.handled.len(),
            ..Report::default()
        };
        self.judge_devices(&mut report);
        self.judge_sent(&mut report);
        self.judge_numbering(&mut report);
        self.judge_states(&mut report);
        report
    }

    /// Of the messages that clients were told are stored by `moment_ms`: how long after it the last one was
    /// handled, and which one.
    pub fn last_handled_after(&self, moment_ms: u64) -> Option<(Duration, String)> {
        let told: HashMap<Hash, &Sent> = self
            .sent
            .iter()
            .filter(|sent| sent.told.id().is_some() && sent.told_ms <= moment_ms)
            .map(|sent| (sent.hash, sent))
            .collect();
        let after = |handled: &Handled| {
            let sent = told.get(&handled.hash)?;
            let after = Duration::from_millis(handled.time_ms.checked_sub(moment_ms)?);
            Some((after, format!("{} {} of client {}", handled.device, handled.id, sent.client)))
        };
        self.handled.iter().filter_map(after).max()
    }

    /// Order and repetition, device by device.
    fn judge_devices(&self, report: &mut Report) {
        let mut last: HashMap<&str, MessageId> = HashMap::new();
        let mut seen: HashMap<(&str, MessageId), Hash> = HashMap::new();
        for handled in &self.handled {
            let Handled { device, id, hash, redelivered, forgot, .. } = handled;
            let again = seen.insert((device, *id), *hash);
            match again {
                Some(before) if before != *hash => {
                    let text = format!("{device} {id} was {before}, then {hash}");
                    report.violations.push(Violation::Foreign(text));
                }
                Some(_) if *redelivered && *forgot => report.repeated += 1,
                Some(_) => {
                    let mark = if *redelivered { "marked, but its cursor was kept" } else { "not marked" };
                    report.violations.push(Violation::Doubled(format!("{device} {id} handled again, {mark}")));
                }
                None => {}
            }
            let before = last.insert(device, *id);
            if let Some(before) = before.filter(|before| before > id && !forgot) {
                report.violations.push(Violation::Disordered(format!("{device} handled {id} after {before}")));
            }
        }
    }

    /// Each sent message against what was handled, both ways.
    fn judge_sent(&self, report: &mut Report) {
        let mut by_hash: HashMap<Hash, Vec<&Handled>> = HashMap::new();
        for handled in &self.handled {
            by_hash.entry(handled.hash).or_default().push(handled);
        }
        for sent in &self.sent {
            let Sent { client, device, path, hash, told, .. } = sent;
            let name = format!("{hash} of client {client} to {device} {path}");
            let handled = by_hash.remove(hash).unwrap_or_default();
            let wrong = handled.iter().find(|handled| {
                let other_path = !handled.path.is_empty() && handled.path != *path;
                handled.device != *device || other_path || told.id().is_some_and(|id| id != handled.id)
            });
            if let Some(wrong) = wrong {
                let text =
                    format!("{name}, told {told:?}, was handled as {} {} {}", wrong.device, wrong.id, wrong.path);
                report.violations.push(Violation::Foreign(text));
            }
            let ids: std::collections::BTreeSet<_> = handled.iter().map(|handled| handled.id).collect();
            if ids.len() > 1 {
                report
                    .violations
                    .push(Violation::Doubled(format!("{name} was handled under {} ids: {ids:?}", ids.len())));
            }
            match told {
                Told::Stored(id) | Told::Acked(id) if handled.is_empty() => {
                    report.violations.push(Violation::Lost(format!("{name}, {id}, told {told:?}")));
                }
                Told::Refused if !handled.is_empty() => report.violations.push(Violation::Refused(name)),
                _ => {}
            }
        }
        for handled in by_hash.into_values().flatten() {
            let text = format!("{} handled {} ({}), which nobody sent", handled.device, handled.id, handled.hash);
            report.violations.push(Violation::Foreign(text));
        }
    }

    /// A message that was answered before the next one was sent has the smaller id.
    fn judge_numbering(&self, report: &mut Report) {
        let mut last: HashMap<(u32, &str), MessageId> = HashMap::new();
        for sent in &self.sent {
            let Some(id) = sent.told.id() else { continue };
            let before = last.insert((sent.client, &sent.device), id);
            if let Some(before) = before.filter(|before| *before >= id) {
                let text = format!("client {} to {}: {id} was given after {before}", sent.client, sent.device);
                report.violations.push(Violation::Misnumbered(text));
            }
        }
    }

    /// States against what happened, and against one another.
    fn judge_states(&self, report: &mut Report) {
        let handled: std::collections::HashSet<(&str, MessageId)> =
            self.handled.iter().map(|handled| (handled.device.as_str(), handled.id)).collect();
        let mut dishonest = |text| report.violations.push(Violation::Dishonest(text));
        for ((device, id), states) in &self.states {
            let was_handled = handled.contains(&(device.as_str(), *id));
            let acked = states.iter().position(|state| state == "acked");
            match acked {
                Some(_) if !was_handled => dishonest(format!("{device} {id} is acked, and was never handled")),
                Some(at) => {
                    if let Some(back) = states.iter().skip(at).find(|state| *state != "acked") {
                        dishonest(format!("{device} {id} was acked, then {back}"));
                    }
                }
                None if was_handled => {
                    let last = states.last().map_or("nothing", String::as_str);
                    dishonest(format!("{device} {id} was handled, and is {last} at the end"));
                }
                None => {}
            }
        }
        for sent in &self.sent {
            let Told::Acked(id) = sent.told else { continue };
            let states = self.states.get(&(sent.device.clone(), id));
            if let Some(other) = states.into_iter().flatten().find(|state| *state != "acked") {
                dishonest(format!("{} {id} was told as acked, then {other}", sent.device));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u64) -> MessageId {
        MessageId::new(1, sequence)
    }

    fn sent(number: u64, told: Told) -> Sent {
        Sent { client: 0, device: "d".into(), path: "p".into(), hash: Hash(number), told, told_ms: 0 }
    }

    fn handled(number: u64) -> Handled {
        Handled {
            device: "d".into(),
            id: id(number),
            path: "p".into(),
            hash: Hash(number),
            redelivered: false,
            forgot: false,
            time_ms: 0,
        }
    }

    fn ledger(sent: Vec<Sent>, handled: Vec<Handled>) -> Ledger {
        Ledger { sent, handled, states: BTreeMap::new() }
    }

    fn acked() -> Ledger {
        ledger((1..=3).map(|n| sent(n, Told::Acked(id(n)))).collect(), (1..=3).map(handled).collect())
    }

    #[test]
    fn a_ledger_that_balances_has_no_violation() {
        let mut ledger = acked();
        ledger.states.insert(("d".into(), id(1)), vec!["acked".into()]);
        let report = ledger.judge();
        assert_eq!(report, Report { sent: 3, stored: 3, handled: 3, ..Report::default() });
    }

    /// Breaks a balancing ledger in one way and returns the names of what is found.
    fn broken(change: impl FnOnce(&mut Ledger)) -> Vec<String> {
        let mut ledger = acked();
        change(&mut ledger);
        let violations = ledger.judge().violations;
        violations.iter().filter_map(|violation| Some(violation.to_string().split_once(':')?.0.to_owned())).collect()
    }

    #[test]
    fn each_way_to_break_it_is_found_under_its_name() {
        assert_eq!(broken(|ledger| drop(ledger.handled.remove(1))), ["lost"]);
        assert_eq!(broken(|ledger| ledger.handled.push(handled(3))), ["doubled"]);
        assert_eq!(broken(|ledger| ledger.handled.swap(0, 1)), ["disordered"]);
        assert_eq!(broken(|ledger| ledger.handled.push(handled(9))), ["foreign"]);
        assert_eq!(broken(|ledger| ledger.handled[2].device = "e".into()), ["foreign"]);
        assert_eq!(broken(|ledger| ledger.handled[2].path = "q".into()), ["foreign"]);
        assert_eq!(broken(|ledger| ledger.sent[2].told = Told::Refused), ["refused but handled"]);
        assert_eq!(broken(|ledger| ledger.sent.swap(0, 1)), ["misnumbered"]);
        let state = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let at = |n| ("d".to_owned(), id(n));
        assert_eq!(broken(|ledger| drop(ledger.states.insert(at(7), state(&["acked"])))), ["dishonest state"]);
        let back = broken(|ledger| {
            ledger.sent[0].told = Told::Stored(id(1));
            ledger.states.insert(at(1), state(&["sent", "acked", "sent"]));
        });
        assert_eq!(back, ["dishonest state"]);
        assert_eq!(broken(|ledger| drop(ledger.states.insert(at(1), state(&["sent", "acked"])))), ["dishonest state"]);
    }

    #[test]
    fn a_repetition_is_allowed_only_marked_and_only_when_the_device_forgot() {
        let again =
            |redelivered, forgot| broken(|ledger| ledger.handled.push(Handled { redelivered, forgot, ..handled(3) }));
        assert_eq!(again(true, true), [""; 0]);
        assert_eq!(again(true, false), ["doubled"]);
        assert_eq!(again(false, true), ["doubled"]);
    }

    #[test]
    fn the_last_of_what_was_stored_by_a_moment_is_found() {
        let mut ledger = acked();
        for (index, handled) in (0u64..).zip(&mut ledger.handled) {
            handled.time_ms = 1000 + index * 100;
        }
        ledger.sent[2].told_ms = 1050;
        let (after, _) = ledger.last_handled_after(1040).unwrap();
        assert_eq!(after, Duration::from_millis(60));
    }

    #[test]
    fn a_message_without_a_clear_answer_may_be_handled_once_or_not() {
        let unclear = |handled| ledger(vec![sent(1, Told::Unclear)], handled).judge().violations.len();
        assert_eq!(unclear(vec![]), 0);
        assert_eq!(unclear(vec![handled(1)]), 0);
        assert_eq!(unclear(vec![handled(1), Handled { id: id(2), ..handled(1) }]), 1);
    }
}

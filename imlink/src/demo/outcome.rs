//! What the demo found, and whether it is what was promised.

use std::fmt;

use serde::Serialize;

/// What every step found.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Devices asked for.
    pub(super) devices: u32,
    /// Logging in.
    pub(super) attached: Attached,
    /// A command to every device.
    pub(super) commands: Commands,
    /// Messages that the devices handled, as they count.
    pub(super) messages_handled: u64,
    /// A question to one device.
    pub(super) call: Option<Call>,
    /// Events of all devices.
    pub(super) events: Events,
    /// A device that lost its connection.
    pub(super) reconnect: Option<Reconnect>,
    /// From start to end, the gateway's included.
    pub(super) seconds: f64,
}

/// Logging in.
#[derive(Debug, Default, Serialize)]
pub(super) struct Attached {
    pub(super) devices: u64,
    pub(super) seconds: f64,
}

/// A command to every device.
#[derive(Debug, Default, Serialize)]
pub(super) struct Commands {
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) seconds: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Why the first one that was not acknowledged was not.
    pub(super) problem: Option<String>,
}

/// A question to one device.
#[derive(Debug, Serialize)]
pub(super) struct Call {
    pub(super) device: String,
    pub(super) answer: String,
    pub(super) ms: f64,
}

/// Events of all devices.
#[derive(Debug, Default, Serialize)]
pub(super) struct Events {
    /// As the devices count them.
    pub(super) published: u64,
    /// Of these, acknowledged to the devices.
    pub(super) stored: u64,
    /// As the event stream brought them, each counted once.
    pub(super) received: u64,
    /// Brought again.
    pub(super) repeated: u64,
}

/// A device that lost its connection.
#[derive(Debug, Serialize)]
pub(super) struct Reconnect {
    /// State of the command that was sent meanwhile, before it came back.
    pub(super) while_away: String,
    /// State afterwards.
    pub(super) afterwards: String,
    /// Sessions before and after.
    pub(super) epochs: (u64, u64),
    /// From the mended path to the acknowledged command.
    pub(super) seconds: f64,
}

impl Outcome {
    pub(super) fn new(devices: u32) -> Self {
        Self {
            devices,
            attached: Attached::default(),
            commands: Commands::default(),
            messages_handled: 0,
            call: None,
            events: Events::default(),
            reconnect: None,
            seconds: 0.0,
        }
    }

    /// Whether everything is as promised.
    pub(super) fn is_good(&self) -> bool {
        self.checks().iter().all(|(is_good, _)| *is_good)
    }

    fn checks(&self) -> [(bool, String); 5] {
        let devices = u64::from(self.devices);
        let Self { attached, commands, events, .. } = self;
        let commands_line = format!(
            "{} commands sent, {} acknowledged, {} handled, in {:.2} s (p50 {:.1} ms, p99 {:.1} ms){}",
            commands.sent,
            commands.acked,
            self.messages_handled,
            commands.seconds,
            commands.p50_ms,
            commands.p99_ms,
            commands.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default(),
        );
        let call = match &self.call {
            Some(call) => (
                call.answer == CALL_TEXT,
                format!("a call to {}: answered {:?} after {:.1} ms", call.device, call.answer, call.ms),
            ),
            None => (false, "a call: not answered".into()),
        };
        let reconnect = match &self.reconnect {
            Some(back) => (
                back.while_away == "waiting" && back.afterwards == "acked" && back.epochs.1 > back.epochs.0,
                format!(
                    "a connection cut: the command sent meanwhile was {}, and {} {:.1} s after the path was mended (session {} → {})",
                    back.while_away, back.afterwards, back.seconds, back.epochs.0, back.epochs.1
                ),
            ),
            None => (false, "a connection cut: the device did not come back".into()),
        };
        [
            (
                attached.devices >= devices,
                format!("{} of {devices} devices attached in {:.2} s", attached.devices, attached.seconds),
            ),
            (commands.acked == devices && self.messages_handled == devices, commands_line),
            call,
            reconnect,
            (
                events.stored > 0 && (events.stored..=events.published).contains(&events.received),
                format!(
                    "{} events stored, {} received, {} of them twice",
                    events.stored, events.received, events.repeated
                ),
            ),
        ]
    }
}

/// What the device is asked to echo.
pub(super) const CALL_TEXT: &str = "is anybody there?";

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (is_good, line) in self.checks() {
            writeln!(f, "  {} {line}", if is_good { "ok    " } else { "FAILED" })?;
        }
        match self.is_good() {
            true => writeln!(f, "everything as promised, in {:.1} s; next: `imlink gateway`", self.seconds),
            false => writeln!(f, "NOT as promised, in {:.1} s; --log-level info shows more", self.seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Outcome {
        Outcome {
            attached: Attached { devices: 2, seconds: 0.1 },
            commands: Commands { sent: 2, acked: 2, ..Commands::default() },
            messages_handled: 2,
            call: Some(Call { device: "lamp-1".into(), answer: CALL_TEXT.into(), ms: 1.0 }),
            events: Events { published: 4, stored: 3, received: 3, repeated: 0 },
            reconnect: Some(Reconnect {
                while_away: "waiting".into(),
                afterwards: "acked".into(),
                epochs: (1, 2),
                seconds: 1.0,
            }),
            ..Outcome::new(2)
        }
    }

    #[test]
    fn anything_that_is_not_as_promised_fails_the_demo() {
        assert!(good().is_good());
        let wrong: [fn(&mut Outcome); 8] = [
            |outcome| outcome.attached.devices = 1,
            |outcome| outcome.commands.acked = 1,
            |outcome| outcome.messages_handled = 3,
            |outcome| outcome.call = None,
            |outcome| outcome.events.received = 2,
            |outcome| outcome.events.received = 5,
            |outcome| outcome.events.stored = 0,
            |outcome| outcome.reconnect = None,
        ];
        for (index, break_it) in wrong.into_iter().enumerate() {
            let mut outcome = good();
            break_it(&mut outcome);
            assert!(!outcome.is_good(), "{index}");
            assert!(outcome.to_string().contains("FAILED"), "{index}");
        }
    }
}

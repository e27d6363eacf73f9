//! The live line of a fleet, and its report.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use imlink_swarm::{Report, Snapshot};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use crate::bar::bar;

/// Interval of lines where there is no terminal to draw on.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// A fleet at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Moment {
    attached: u64,
    failures: u64,
    messages: u64,
    calls: u64,
    events: u64,
    p50_ms: f64,
    p99_ms: f64,
}

impl From<Snapshot> for Moment {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            attached: snapshot.attached,
            failures: snapshot.failures,
            messages: snapshot.messages,
            calls: snapshot.calls,
            events: snapshot.events_stored,
            p50_ms: snapshot.event_p50.as_secs_f64() * 1000.0,
            p99_ms: snapshot.event_p99.as_secs_f64() * 1000.0,
        }
    }
}

impl Moment {
    /// Sums of `parts`; of latencies the largest.
    pub(super) fn of_all(parts: &[Self]) -> Self {
        parts.iter().fold(Self::default(), |all, part| Self {
            attached: all.attached + part.attached,
            failures: all.failures + part.failures,
            messages: all.messages + part.messages,
            calls: all.calls + part.calls,
            events: all.events + part.events,
            p50_ms: all.p50_ms.max(part.p50_ms),
            p99_ms: all.p99_ms.max(part.p99_ms),
        })
    }
}

/// Draws on standard error; the report goes to standard output.
pub(super) struct Progress {
    bar: ProgressBar,
    devices: u32,
    json: bool,
    is_drawn: bool,
    last: Mutex<Last>,
}

struct Last {
    at: Instant,
    shown: Instant,
    moment: Moment,
}

impl Progress {
    /// A line for `devices`; nothing is drawn with `json`.
    pub(super) fn new(devices: u32, json: bool) -> Self {
        let (bar, is_drawn) = bar(Some(devices.into()), "{elapsed:>4} {bar:30} {pos}/{len} attached  {msg}", json);
        let now = Instant::now();
        let last = Mutex::new(Last { at: now, shown: now, moment: Moment::default() });
        Self { bar, devices, json, is_drawn, last }
    }

    /// Tells what is being done.
    pub(super) fn say(&self, text: &str) {
        if self.is_drawn {
            self.bar.println(text);
        } else if !self.json {
            eprintln!("{text}");
        }
    }

    /// Shows the fleet as it is at `moment`.
    pub(super) fn show(&self, moment: Moment) {
        let Ok(mut last) = self.last.lock() else { return };
        let now = Instant::now();
        let seconds = now.duration_since(last.at).as_secs_f64().max(0.001);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let line = format!(
            "{:.0} messages/s  {:.0} events/s  p50 {:.1} ms  p99 {:.1} ms  {} failures",
            rate(moment.messages, last.moment.messages),
            rate(moment.events, last.moment.events),
            moment.p50_ms,
            moment.p99_ms,
            moment.failures,
        );
        if self.is_drawn {
            self.bar.set_position(moment.attached);
            self.bar.set_message(line);
        } else if !self.json && now.duration_since(last.shown) >= LINE_INTERVAL {
            eprintln!("{}/{} attached  {line}", moment.attached, self.devices);
            last.shown = now;
        }
        if seconds >= 0.9 {
            (last.at, last.moment) = (now, moment);
        }
    }

    /// Prints the report.
    pub(super) fn finish(&self, report: &Report, processes: u32) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        if self.json {
            let mut json = serde_json::to_value(report).context("the report does not fit JSON")?;
            json["processes"] = processes.into();
            println!("{json}");
            return Ok(());
        }
        let attached = match report.all_attached_s {
            Some(seconds) => format!("all, after {seconds:.1} s"),
            None => "never all at once".into(),
        };
        println!("devices    {} in {processes} process(es), {:.1} s", report.devices, report.elapsed_s);
        println!("attached   {attached}; {} sessions, {} failures", report.sessions, report.failures);
        println!("messages   {} handled, {} of them marked as redelivered", report.messages, report.redelivered);
        println!("calls      {} answered", report.calls);
        println!(
            "events     {} published, {} stored, {} found their queue full",
            report.events_published, report.events_stored, report.events_dropped
        );
        let latency = report.event_latency;
        if report.events_stored > 0 {
            println!(
                "latency    of events: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
                latency.p50_ms, latency.p99_ms, latency.max_ms
            );
        }
        for (error, count) in &report.errors {
            println!("failure    {count} × {error}");
        }
        Ok(())
    }
}

//! Open loop: pushes at a fixed rate, each timed from the instant it was *scheduled*, so that a server
//! that falls behind cannot hide it by slowing the generator down.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;

use crate::fleet::{Fleet, STALL, Size, Target};
use crate::latency::{Latencies, Percentiles};
use crate::ledger::Ledger;
use crate::usage::{Mark, Server, Span};
use crate::wire::{Event, Wire};

/// What to run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Plan {
    /// Devices, pushed to in turn.
    pub devices: usize,
    /// Backend connections that take turns; above 1 only for a wire that answers where it was asked.
    pub backends: usize,
    /// Pushes a second.
    pub rate: f64,
    /// Measured time, after a second of warm-up.
    pub seconds: f64,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// From the scheduled instant to the answer.
    pub latency: Percentiles,
    /// Pushes without an answer `STALL` after the last was due.
    pub unanswered: u64,
    /// Server CPU for each push, µs.
    pub server_cpu_us: f64,
    /// The most that the generator itself was late with a push, µs.
    pub late_max_us: u64,
    /// CPU and bytes in all.
    pub usage: Span,
}

/// Runs the plan.
pub fn run<W: Wire>(target: Target, server: &Server, plan: Plan) -> anyhow::Result<Report> {
    ensure!(plan.backends > 0 && plan.devices > 0, "at least one backend and one device");
    ensure!(plan.rate >= 1.0, "at least one push a second");
    let size = Size { backends: plan.backends, devices: plan.devices };
    let mut fleet = Fleet::<W>::attach(target, size)?;
    let warm_up = plan.rate as u64;
    let total = warm_up + (plan.rate * plan.seconds) as u64;

    let mut ledger = Ledger::default();
    let mut latencies = Latencies::new();
    let mut late_max = Duration::ZERO;
    let before = Mark::now(server, fleet.traffic())?;
    let start = Instant::now();
    let due_at = |request: u64| start + Duration::from_secs_f64(request as f64 / plan.rate);
    let end = due_at(total) + STALL;
    while ledger.begun() < total || ledger.unanswered() > 0 {
        while ledger.begun() < total && due_at(ledger.begun()) <= Instant::now() {
            let due = due_at(ledger.begun());
            late_max = late_max.max(due.elapsed());
            let request = ledger.begin(due);
            let backend = (request % plan.backends as u64) as usize;
            let device = (request % plan.devices as u64) as u32;
            fleet.write(backend, |wire, out| wire.push(device, request, out))?;
        }
        let wake = if ledger.begun() < total { due_at(ledger.begun()) } else { end };
        let timeout = wake.saturating_duration_since(Instant::now());
        if timeout.is_zero() && wake == end {
            break;
        }
        fleet.turn(Some(timeout), |_, event, _, _| {
            let Event::Answered(request) = event else {
                return;
            };
            if let Some(due) = ledger.finish(request).filter(|_| request >= warm_up) {
                latencies.record(due.elapsed());
            }
        })?;
    }
    let usage = before.until(&Mark::now(server, fleet.traffic())?);
    ensure!(ledger.strays() == 0, "{} stray answers", ledger.strays());
    Ok(Report {
        plan,
        latency: latencies.percentiles(),
        unanswered: ledger.unanswered(),
        server_cpu_us: usage.server_us_per(total),
        late_max_us: u64::try_from(late_max.as_micros()).unwrap_or(u64::MAX),
        usage,
    })
}

//! Closed loop: a fixed number of pushes in flight, the next as soon as one is answered.

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
    /// Backend connections that share the pushes; above 1 only for a wire that answers where it was asked.
    pub backends: usize,
    /// Pushes in flight in all.
    pub in_flight: usize,
    /// Measured time, after a second of warm-up.
    pub seconds: f64,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// Answered pushes in the measured time.
    pub pushes: u64,
    /// Answered pushes a second.
    pub per_second: f64,
    /// Server CPU for each, µs.
    pub server_cpu_us: f64,
    /// CPU of the store's own processes for each, µs.
    pub store_cpu_us: Option<f64>,
    /// Bytes of one push on all four legs.
    pub wire_bytes: f64,
    /// Bytes of one push on the device's link alone, both ways.
    pub device_wire_bytes: f64,
    /// From a push to its answer.
    pub latency: Percentiles,
    /// CPU and bytes in all.
    pub usage: Span,
}

/// Runs the plan.
pub fn run<W: Wire>(target: Target, server: &Server, plan: Plan) -> anyhow::Result<Report> {
    ensure!(plan.backends > 0 && plan.devices > 0, "at least one backend and one device");
    ensure!(plan.in_flight >= plan.backends, "at least one push in flight for each backend");
    let size = Size { backends: plan.backends, devices: plan.devices };
    let mut fleet = Fleet::<W>::attach(target, size)?;
    let mut pushing = Pushing::new(plan.devices);
    for slot in 0..plan.in_flight {
        fleet.write(slot % plan.backends, |wire, out| pushing.next(wire, out))?;
    }
    pushing.turn_for(&mut fleet, WARM_UP)?;
    pushing.latencies = Latencies::new();
    let (before, answered) = (Mark::now(server, fleet.traffic())?, pushing.answered);
    pushing.turn_for(&mut fleet, Duration::from_secs_f64(plan.seconds))?;
    let usage = before.until(&Mark::now(server, fleet.traffic())?);
    ensure!(pushing.ledger.strays() == 0, "{} stray answers", pushing.ledger.strays());

    let pushes = pushing.answered - answered;
    let traffic = usage.traffic;
    let device_bytes = traffic.device_sent + traffic.device_received;
    let bytes = device_bytes + traffic.backend_sent + traffic.backend_received;
    Ok(Report {
        plan,
        pushes,
        per_second: usage.per_second(pushes),
        server_cpu_us: usage.server_us_per(pushes),
        store_cpu_us: usage.store_us_per(pushes),
        wire_bytes: bytes as f64 / pushes.max(1) as f64,
        device_wire_bytes: device_bytes as f64 / pushes.max(1) as f64,
        latency: pushing.latencies.percentiles(),
        usage,
    })
}

struct Pushing {
    devices: u64,
    ledger: Ledger,
    answered: u64,
    latencies: Latencies,
}

impl Pushing {
    fn new(devices: usize) -> Self {
        Self { devices: devices as u64, ledger: Ledger::default(), answered: 0, latencies: Latencies::new() }
    }

    fn next<W: Wire>(&mut self, wire: &mut W, out: &mut Vec<u8>) {
        let request = self.ledger.begin(Instant::now());
        wire.push((request % self.devices) as u32, request, out);
    }

    fn turn_for<W: Wire>(&mut self, fleet: &mut Fleet<W>, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        let (mut seen, mut progress) = (self.answered, Instant::now());
        while Instant::now() < end {
            fleet.turn(Some(TURN_MAX), |_, event, wire, out| {
                let Event::Answered(request) = event else {
                    return;
                };
                if let Some(due) = self.ledger.finish(request) {
                    self.answered += 1;
                    self.latencies.record(due.elapsed());
                    self.next(wire, out);
                }
            })?;
            if self.answered > seen {
                (seen, progress) = (self.answered, Instant::now());
            }
            ensure!(progress.elapsed() < STALL, "{seen} pushes answered, then nothing for {STALL:?}");
        }
        Ok(())
    }
}

const WARM_UP: Duration = Duration::from_secs(1);
const TURN_MAX: Duration = Duration::from_millis(100);

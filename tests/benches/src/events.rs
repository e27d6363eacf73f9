//! Uplink: every device publishes a batch of events, and the next once the server took all of it;
//! one backend consumes them. Devices pause while the consumer is far behind: a server that drops a slow
//! consumer or buffers without end would else be measured by how it fails.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;

use crate::fleet::{Fleet, STALL, Size, Target};
use crate::usage::{Mark, Server, Span};
use crate::wire::{Event, Wire};

/// What to run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Plan {
    /// Devices that publish.
    pub devices: usize,
    /// Events of one device in flight.
    pub in_flight: u32,
    /// Measured time, after a second of warm-up.
    pub seconds: f64,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// Events that reached the backend in the measured time.
    pub delivered: u64,
    /// The same a second.
    pub per_second: f64,
    /// Server CPU for each delivered event, µs.
    pub server_cpu_us: f64,
    /// CPU of the store's own processes for each, µs.
    pub store_cpu_us: Option<f64>,
    /// Events the server took from the devices a second.
    pub taken_per_second: f64,
    /// CPU and bytes in all.
    pub usage: Span,
}

/// Runs the plan.
pub fn run<W: Wire>(target: Target, server: &Server, plan: Plan) -> anyhow::Result<Report> {
    ensure!(plan.devices > 0 && plan.in_flight > 0, "at least one device and one event");
    let size = Size { backends: 1, devices: plan.devices };
    let mut fleet = Fleet::<W>::attach(target, size)?;
    let mut uplink = Uplink::new(plan);
    uplink.turn_for(&mut fleet, WARM_UP)?;
    let before = Mark::now(server, fleet.traffic())?;
    let (delivered, taken) = (uplink.delivered, uplink.taken);
    uplink.turn_for(&mut fleet, Duration::from_secs_f64(plan.seconds))?;
    let usage = before.until(&Mark::now(server, fleet.traffic())?);
    let delivered = uplink.delivered - delivered;
    Ok(Report {
        plan,
        delivered,
        per_second: usage.per_second(delivered),
        server_cpu_us: usage.server_us_per(delivered),
        store_cpu_us: usage.store_us_per(delivered),
        taken_per_second: usage.per_second(uplink.taken - taken),
        usage,
    })
}

struct Uplink {
    batch: u32,
    /// Events of each connection that the server has yet to take; the backend's stays 0.
    untaken: Vec<u32>,
    /// Devices whose batch was taken.
    resting: Vec<usize>,
    published: u64,
    taken: u64,
    delivered: u64,
}

impl Uplink {
    fn new(plan: Plan) -> Self {
        Self {
            batch: plan.in_flight,
            untaken: vec![0; plan.devices + 1],
            resting: (1..=plan.devices).collect(),
            published: 0,
            taken: 0,
            delivered: 0,
        }
    }

    fn turn_for<W: Wire>(&mut self, fleet: &mut Fleet<W>, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        let (mut seen, mut progress) = (self.delivered, Instant::now());
        while Instant::now() < end {
            self.publish(fleet)?;
            fleet.turn(Some(TURN_MAX), |number, event, _, _| self.handle(number, event))?;
            if self.delivered > seen {
                (seen, progress) = (self.delivered, Instant::now());
            }
            ensure!(progress.elapsed() < STALL, "{seen} events delivered, then nothing for {STALL:?}");
        }
        Ok(())
    }

    fn publish<W: Wire>(&mut self, fleet: &mut Fleet<W>) -> anyhow::Result<()> {
        while self.published.saturating_sub(self.delivered) < BACKLOG_MAX {
            let Some(number) = self.resting.pop() else {
                break;
            };
            if let Some(untaken) = self.untaken.get_mut(number) {
                *untaken = self.batch;
            }
            self.published += u64::from(self.batch);
            fleet.write(number, |wire, out| wire.publish(self.batch, out))?;
        }
        Ok(())
    }

    fn handle(&mut self, number: usize, event: Event) {
        match event {
            Event::Delivered => self.delivered += 1,
            Event::Taken(count) => {
                self.taken += u64::from(count);
                if let Some(untaken) = self.untaken.get_mut(number) {
                    *untaken = untaken.saturating_sub(count);
                    if *untaken == 0 {
                        self.resting.push(number);
                    }
                }
            }
            _ => {}
        }
    }
}

const BACKLOG_MAX: u64 = 20_000;
const WARM_UP: Duration = Duration::from_secs(1);
const TURN_MAX: Duration = Duration::from_millis(100);

//! Attaching a fleet, and what it costs the server to have it there.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::fleet::{Fleet, Size, Target};
use crate::provision;
use crate::usage::{Mark, Memory, Server, Span};
use crate::wire::Wire;

/// What to run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Plan {
    /// Devices to attach.
    pub devices: usize,
    /// Quiet time before memory is read and during which idle CPU is measured.
    pub settle_seconds: f64,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// Devices attached a second, 64 at a time.
    pub attaches_per_second: f64,
    /// Server CPU for each, µs.
    pub server_cpu_us: f64,
    /// Growth of the server's resident memory for each device, bytes.
    pub rss_bytes: f64,
    /// The same with shared pages divided.
    pub pss_bytes: f64,
    /// The server's memory before the first device.
    pub empty: Memory,
    /// Server CPU while all devices are quiet, in cores.
    pub quiet_cores: f64,
    /// CPU and bytes while attaching.
    pub usage: Span,
}

/// Runs the plan. With `provision` the devices are first provisioned over that API: what the server keeps of a
/// provisioned device counts as memory, the time it takes does not.
pub fn run<W: Wire>(
    target: Target,
    server: &Server,
    provision: Option<SocketAddr>,
    plan: Plan,
) -> anyhow::Result<Report> {
    let empty = server.memory()?;
    if let Some(api) = provision {
        provision::run::<W>(api, plan.devices)?;
    }
    let start = Mark::now(server, Default::default())?;
    let size = Size { backends: 0, devices: plan.devices };
    let mut fleet = Fleet::<W>::attach(target, size)?;
    let attached = Mark::now(server, fleet.traffic())?;
    fleet.idle(Duration::from_secs_f64(plan.settle_seconds))?;
    let settled = Mark::now(server, fleet.traffic())?;
    let full = server.memory()?;

    let usage = start.until(&attached);
    let count = plan.devices as u64;
    let per_device = |before: u64, after: u64| (after as f64 - before as f64) / count.max(1) as f64;
    Ok(Report {
        plan,
        attaches_per_second: usage.per_second(count),
        server_cpu_us: usage.server_us_per(count),
        rss_bytes: per_device(empty.rss, full.rss),
        pss_bytes: per_device(empty.pss, full.pss),
        empty,
        quiet_cores: attached.until(&settled).server_cores,
        usage,
    })
}

//! What processes use, from `/proc`: CPU time (user and system) and resident memory.

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

use crate::fleet::Traffic;

/// The processes that are the server.
#[derive(Clone, Debug)]
pub struct Server {
    pids: Vec<u32>,
    store_pids: Vec<u32>,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// All resident pages.
    pub rss: u64,
    /// The same with shared pages divided among their users.
    pub pss: u64,
}

impl Server {
    /// The server made of these processes, and those of a store beside it, whose CPU is told apart.
    pub fn new(pids: Vec<u32>, store_pids: Vec<u32>) -> Self {
        Self { pids, store_pids }
    }

    /// CPU time so far, µs. The kernel gives it in steps of 10 ms.
    pub fn cpu_us(&self) -> anyhow::Result<f64> {
        self.pids.iter().map(|pid| cpu_us(*pid)).sum()
    }

    /// CPU time of the store's processes so far, µs; `None` when it has none of its own.
    pub fn store_cpu_us(&self) -> anyhow::Result<Option<f64>> {
        let sum = self.store_pids.iter().map(|pid| cpu_us(*pid)).sum::<anyhow::Result<f64>>()?;
        Ok((!self.store_pids.is_empty()).then_some(sum))
    }

    /// Memory now.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let mut total = Memory::default();
        for pid in &self.pids {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            total.rss += kibibytes(&text, "Rss:").with_context(|| path.clone())? * 1_024;
            total.pss += kibibytes(&text, "Pss:").with_context(|| path.clone())? * 1_024;
        }
        Ok(total)
    }
}

/// What had been used at one instant of a run.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at: std::time::Instant,
    server_us: f64,
    store_us: Option<f64>,
    generator_us: f64,
    traffic: Traffic,
}

/// What was used between two marks.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Span {
    /// Length.
    pub seconds: f64,
    /// Server CPU, in cores.
    pub server_cores: f64,
    /// The store's CPU, in cores, where it has processes of its own.
    pub store_cores: Option<f64>,
    /// The generator's own CPU, in cores.
    pub generator_cores: f64,
    /// Bytes on the wire.
    pub traffic: Traffic,
}

impl Mark {
    /// Now.
    pub fn now(server: &Server, traffic: Traffic) -> anyhow::Result<Self> {
        let generator_us = cpu_us(std::process::id())?;
        Ok(Self {
            at: std::time::Instant::now(),
            server_us: server.cpu_us()?,
            store_us: server.store_cpu_us()?,
            generator_us,
            traffic,
        })
    }

    /// From here to `end`.
    pub fn until(&self, end: &Self) -> Span {
        let seconds = end.at.duration_since(self.at).as_secs_f64();
        Span {
            seconds,
            server_cores: (end.server_us - self.server_us) / seconds / 1e6,
            store_cores: end.store_us.zip(self.store_us).map(|(end, start)| (end - start) / seconds / 1e6),
            generator_cores: (end.generator_us - self.generator_us) / seconds / 1e6,
            traffic: Traffic {
                backend_sent: end.traffic.backend_sent - self.traffic.backend_sent,
                backend_received: end.traffic.backend_received - self.traffic.backend_received,
                device_sent: end.traffic.device_sent - self.traffic.device_sent,
                device_received: end.traffic.device_received - self.traffic.device_received,
            },
        }
    }
}

impl Span {
    /// Server CPU for each of `count` operations, µs.
    pub fn server_us_per(&self, count: u64) -> f64 {
        self.server_cores * self.seconds * 1e6 / count.max(1) as f64
    }

    /// The store's CPU for each of `count` operations, µs.
    pub fn store_us_per(&self, count: u64) -> Option<f64> {
        self.store_cores.map(|cores| cores * self.seconds * 1e6 / count.max(1) as f64)
    }

    /// Operations a second.
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.seconds
    }
}

fn cpu_us(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // After the name in parentheses: state is field 3, utime 14, stime 15 (proc_pid_stat(5)).
    let fields = text.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let times: Vec<u64> = fields.split_whitespace().skip(11).take(2).map_while(|field| field.parse().ok()).collect();
    let &[user, system] = times.as_slice() else {
        anyhow::bail!("{path}: no CPU times");
    };
    Ok((user + system) as f64 * 1e6 / rustix::param::clock_ticks_per_second() as f64)
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

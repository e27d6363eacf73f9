//! How busy this process is: CPU and memory, as Linux accounts them.

use std::fs;
use std::time::Instant;

use imlink_protocol::link::node::Load;

/// Samples CPU and memory of the process.
pub(crate) struct Sampler {
    memory_max: u64,
    cores: f64,
    last: Option<(Instant, f64)>,
}

impl Sampler {
    /// `memory_max` in bytes; 0 takes the control group's limit or the machine's memory.
    pub(crate) fn new(memory_max: u64) -> Self {
        let memory_max = if memory_max == 0 { memory_of_machine() } else { memory_max };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get()) as f64;
        Self { memory_max, cores, last: None }
    }

    /// Load since the last sample; `connections`, `queued` and `draining` are the caller's to fill.
    pub(crate) fn sample(&mut self) -> Load {
        let now = Instant::now();
        let cpu = cpu_seconds().unwrap_or_default();
        let cpu_permille = self.last.map_or(0, |(then, before)| {
            let wall = now.duration_since(then).as_secs_f64() * self.cores;
            permille((cpu - before) / wall.max(1e-3))
        });
        self.last = Some((now, cpu));
        let memory = resident_bytes().unwrap_or_default() as f64;
        Load { cpu_permille, memory_permille: permille(memory / self.memory_max.max(1) as f64), ..Load::default() }
    }
}

fn permille(part: f64) -> u16 {
    (part * 1000.0).clamp(0.0, 1000.0) as u16
}

/// User and system time of the process in seconds (`/proc/self/stat`, fields 14 and 15, in 1/100 s).
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "VmRSS:").map(|kb| kb * 1024)
}

fn memory_of_machine() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|info| kilobytes(&info, "MemTotal:"));
    let machine = machine.map_or(u64::MAX, |kb| kb * 1024);
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|max| max.trim().parse().ok());
    group.unwrap_or(u64::MAX).min(machine)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory_and_uses_cpu() {
        let mut sampler = Sampler::new(0);
        sampler.sample();
        let before = Instant::now();
        while before.elapsed().as_millis() < 60 {
            std::hint::black_box(before);
        }
        let load = sampler.sample();
        assert!(load.cpu_permille > 0);
        assert!(Sampler::new(1024).sample().memory_permille == 1000, "more than 1 KiB is resident");
    }
}

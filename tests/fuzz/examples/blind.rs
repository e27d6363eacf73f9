//! The fuzz targets without a fuzzer: what CI runs, on a stable toolchain and without coverage.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use imlink_fuzz::mutate::mutate;
use imlink_fuzz::{TARGETS, Target};
use imlink_protocol::hex::Hex;

const HELP: &str = "\
usage: blind [--seconds N] [--seed N] [TARGET…]    mutated vectors through each target, N seconds (2) each
       blind --replay TARGET FILE…                 the bytes of files through a target
       blind --seeds DIR                           writes what `cargo fuzz` begins with to DIR/TARGET/

Run from anywhere: bytes that fail go to tests/fuzz/artifacts/, those of regressions/ are tried first.";

/// Longest time that one input may take, on a machine that does other things too.
const INPUT_MAX: Duration = Duration::from_secs(20);
/// Most memory that all of it may have taken, in KiB: inputs have 4 KiB.
const MEMORY_KIB_MAX: u64 = 256 * 1024;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["-h" | "--help"] => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        ["--seeds", dir] => write_seeds(Path::new(dir)),
        ["--replay", name, files @ ..] => replay(name, files),
        options => fuzz(options),
    }
}

fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

fn no_target(name: &str) -> ExitCode {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    eprintln!("there is no target `{name}`; targets are: {}", names.join(", "));
    ExitCode::from(2)
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn write_seeds(dir: &Path) -> ExitCode {
    for target in TARGETS {
        let dir = dir.join(target.name);
        let written = std::fs::create_dir_all(&dir).and_then(|()| {
            let mut seeds = (0..).zip((target.seeds)());
            seeds.try_for_each(|(number, seed): (u32, _)| std::fs::write(dir.join(format!("seed-{number}")), seed))
        });
        if let Err(error) = written {
            eprintln!("{}: {error}", dir.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn replay(name: &str, files: &[&str]) -> ExitCode {
    let Some(target) = find(name) else { return no_target(name) };
    for file in files {
        match std::fs::read(file) {
            Ok(bytes) => (target.run)(&bytes),
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::FAILURE;
            }
        }
        println!("{file}: nothing wrong");
    }
    ExitCode::SUCCESS
}

fn fuzz(options: &[&str]) -> ExitCode {
    let (mut time, mut seed, mut targets) = (Duration::from_secs(2), fastrand::u64(..), Vec::new());
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let mut number = || options.next().and_then(|number| number.parse::<u64>().ok());
        match *option {
            "--seconds" => match number() {
                Some(seconds) => time = Duration::from_secs(seconds),
                None => return usage(),
            },
            "--seed" => match number() {
                Some(given) => seed = given,
                None => return usage(),
            },
            name if name.starts_with('-') => return usage(),
            name => match find(name) {
                Some(target) => targets.push(target),
                None => return no_target(name),
            },
        }
    }
    if targets.is_empty() {
        targets = TARGETS.iter().collect();
    }
    println!("seed {seed}: --seed {seed} makes the same inputs again");
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let now: Vec<Now> = std::iter::repeat_with(Now::default)
        .take(std::thread::available_parallelism().map_or(1, usize::from))
        .collect();
    std::thread::scope(|scope| {
        let work = |now| {
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                let is_good = run(target, seed, time, now);
                failed.fetch_add(usize::from(!is_good), Ordering::Relaxed);
            }
        };
        let workers: Vec<_> = now.iter().map(|now| scope.spawn(move || work(now))).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            now.iter().for_each(end_if_stuck);
        }
    });
    let failed = failed.into_inner();
    println!("targets: {} passed, {failed} failed", targets.len() - failed);
    let is_small = memory_kib().is_none_or(|kib| {
        println!("memory: {} MiB at most", kib / 1024);
        kib <= MEMORY_KIB_MAX
    });
    if failed == 0 && is_small { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("{HELP}");
    ExitCode::from(2)
}

/// The input that a thread is at.
type Now = Mutex<Option<(Instant, &'static str, Vec<u8>)>>;

fn end_if_stuck(now: &Now) {
    if let Ok(Some((since, name, bytes))) = now.lock().as_deref()
        && since.elapsed() > INPUT_MAX
    {
        report(name, bytes, "took too long");
        std::process::exit(1);
    }
}

/// Runs the seeds, what once failed, and changed ones of both until `time` is over.
fn run(target: &'static Target, seed: u64, time: Duration, now: &Now) -> bool {
    let mut rng = Rng::with_seed(seed);
    let mut seeds = (target.seeds)();
    seeds.extend(regressions(target.name));
    let began = Instant::now();
    let (mut count, mut slowest) = (0u64, Duration::ZERO);
    let first = seeds.clone();
    let changed = std::iter::from_fn(|| (began.elapsed() < time).then(|| mutate(&mut rng, &seeds)));
    for bytes in first.into_iter().chain(changed) {
        let started = Instant::now();
        set(now, Some((started, target.name, bytes.clone())));
        let is_good = catch_unwind(|| (target.run)(&bytes)).is_ok();
        set(now, None);
        count += 1;
        slowest = slowest.max(started.elapsed());
        if !is_good {
            report(target.name, &bytes, "failed");
            return false;
        }
    }
    println!("{:<16} {count:>8} inputs, the slowest took {slowest:.1?}", target.name);
    true
}

fn set(now: &Now, at: Option<(Instant, &'static str, Vec<u8>)>) {
    if let Ok(mut now) = now.lock() {
        *now = at;
    }
}

fn regressions(name: &str) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(here().join("regressions").join(name)).into_iter().flatten().flatten();
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a regression can be read")).collect()
}

fn report(name: &str, bytes: &[u8], what: &str) {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let file = here().join("artifacts").join(format!("{name}-{hash:016x}"));
    let written = std::fs::create_dir_all(here().join("artifacts")).and_then(|()| std::fs::write(&file, bytes));
    println!("{name}: an input {what}: {}", Hex(bytes));
    match written {
        Ok(()) => println!(
            "again: cargo run --manifest-path tests/fuzz/Cargo.toml --no-default-features --example blind -- --replay {name} {}",
            file.display()
        ),
        Err(error) => println!("{}: {error}", file.display()),
    }
}

/// The most memory this process has had.
fn memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

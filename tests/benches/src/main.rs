//! The load generator's command line: one measurement a run, reported as one line of JSON.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use imlink_bench::fleet::Target;
use imlink_bench::usage::Server;
use imlink_bench::wire::imlink::Imlink;
use imlink_bench::wire::imlink_http::ImlinkHttp;
use imlink_bench::wire::{Wire, mqtt::Mqtt, nats::Nats, raw::Raw, tls, tls::Tls};
use imlink_bench::{events, hold, idle, pace, provision, push};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;

/// Measures a running server as a backend and a fleet of devices; prints one line of JSON.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Args)]
struct ServerArgs {
    /// The protocol to speak.
    #[arg(long)]
    wire: WireName,
    /// Where devices connect.
    #[arg(long)]
    server: SocketAddr,
    /// Where backends connect, if elsewhere.
    #[arg(long)]
    backend_server: Option<SocketAddr>,
    /// imlink's HTTP API, over which the devices are provisioned first.
    #[arg(long)]
    provision: Option<SocketAddr>,
    /// Certificates that devices trust, as PEM.
    #[arg(long, required_if_eq("wire", "mqtt-tls"))]
    trust: Option<PathBuf>,
    /// A process of the server, whose CPU and memory are measured; may be given several times.
    #[arg(long, required = true)]
    pid: Vec<u32>,
    /// A process of a store beside the server, whose CPU is told apart; may be given several times.
    #[arg(long)]
    store_pid: Vec<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum WireName {
    Imlink,
    ImlinkSealed,
    ImlinkHttp,
    Mqtt,
    MqttTls,
    Nats,
    Raw,
}

#[derive(Clone, Copy, Subcommand)]
enum Measure {
    /// Pushes in a closed loop: rate, server CPU and bytes of each.
    Push {
        #[arg(long, default_value_t = 1_000)]
        devices: usize,
        /// Pushes in flight.
        #[arg(long, default_value_t = 64)]
        in_flight: usize,
        /// Backend connections that share them.
        #[arg(long, default_value_t = 1)]
        backends: usize,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Pushes at a fixed rate: latency from the scheduled instant.
    Pace {
        #[arg(long, default_value_t = 1_000)]
        devices: usize,
        /// Pushes a second.
        #[arg(long, default_value_t = 5_000.0)]
        rate: f64,
        /// Backend connections that take turns.
        #[arg(long, default_value_t = 1)]
        backends: usize,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Events from devices to a backend: rate and server CPU of each.
    Events {
        #[arg(long, default_value_t = 1_000)]
        devices: usize,
        /// Events of one device in flight.
        #[arg(long, default_value_t = 8)]
        in_flight: u32,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Attaching a fleet: rate, server CPU and memory of each device.
    Idle {
        #[arg(long, default_value_t = 10_000)]
        devices: usize,
        /// Quiet time before memory is read.
        #[arg(long, default_value_t = 2.0)]
        settle_seconds: f64,
    },
    /// Devices that only attach and answer, until standard input ends.
    Hold {
        #[arg(long, default_value_t = 1_000)]
        devices: usize,
    },
}

impl Measure {
    fn devices(&self) -> usize {
        match self {
            Self::Push { devices, .. }
            | Self::Pace { devices, .. }
            | Self::Events { devices, .. }
            | Self::Idle { devices, .. }
            | Self::Hold { devices } => *devices,
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("imlink-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<String> {
    raise_open_files()?;
    let target =
        Target { devices: cli.server.server, backends: cli.server.backend_server.unwrap_or(cli.server.server) };
    let server = Server::new(cli.server.pid, cli.server.store_pid);
    let provision = cli.server.provision;
    if let Some(file) = &cli.server.trust {
        tls::trust(file)?;
    }
    let report = match cli.server.wire {
        WireName::Imlink => measure::<Imlink<false>>(target, &server, provision, cli.measure)?,
        WireName::ImlinkSealed => measure::<Imlink<true>>(target, &server, provision, cli.measure)?,
        WireName::ImlinkHttp => measure::<ImlinkHttp>(target, &server, provision, cli.measure)?,
        WireName::Mqtt => measure::<Mqtt>(target, &server, provision, cli.measure)?,
        WireName::MqttTls => measure::<Tls<Mqtt>>(target, &server, provision, cli.measure)?,
        WireName::Nats => measure::<Nats>(target, &server, provision, cli.measure)?,
        WireName::Raw => measure::<Raw>(target, &server, provision, cli.measure)?,
    };
    Ok(serde_json::to_string(&report)?)
}

#[derive(Serialize)]
#[serde(tag = "measure", rename_all = "lowercase")]
enum Report {
    Push(push::Report),
    Pace(pace::Report),
    Events(events::Report),
    Idle(idle::Report),
    Hold,
}

fn measure<W: Wire>(
    target: Target,
    server: &Server,
    provision: Option<SocketAddr>,
    what: Measure,
) -> anyhow::Result<Report> {
    if let (Some(api), false) = (provision, matches!(what, Measure::Idle { .. })) {
        provision::run::<W>(api, what.devices())?;
    }
    Ok(match what {
        Measure::Push { devices, in_flight, backends, seconds } => {
            let plan = push::Plan { devices, backends, in_flight, seconds };
            Report::Push(push::run::<W>(target, server, plan)?)
        }
        Measure::Pace { devices, rate, backends, seconds } => {
            let plan = pace::Plan { devices, backends, rate, seconds };
            Report::Pace(pace::run::<W>(target, server, plan)?)
        }
        Measure::Events { devices, in_flight, seconds } => {
            let plan = events::Plan { devices, in_flight, seconds };
            Report::Events(events::run::<W>(target, server, plan)?)
        }
        Measure::Idle { devices, settle_seconds } => {
            let plan = idle::Plan { devices, settle_seconds };
            Report::Idle(idle::run::<W>(target, server, provision, plan)?)
        }
        Measure::Hold { devices } => {
            hold::run::<W>(target, devices)?;
            Report::Hold
        }
    })
}

/// As many open files as the system allows this process.
fn raise_open_files() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

//! `imlink swarm`: simulated fleets against a running gateway or route.
//!
//! ```text
//! one process      Swarm ──Live──▶ progress line ──▶ report
//! several          imlink swarm (draws) ◀──lines of JSON── imlink swarm --part (each a fleet of its own)
//! ```

mod part;
mod progress;
mod provision;
mod shares;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use imlink_swarm::{Config, Report, Swarm};
use tokio_util::sync::CancellationToken;

use crate::cli::{DEVICES_PER_PROCESS, SwarmArgs};
use crate::client::Api;
use crate::exit::Exit;
use crate::{open_files, signals};

use part::Parts;
use progress::Progress;
pub(crate) use provision::provision;

/// Interval of the live line.
const TICK: Duration = Duration::from_millis(500);

/// Runs what `args` say until its time is over or a signal ends it.
pub(crate) fn run(args: SwarmArgs) -> anyhow::Result<Exit> {
    if args.part {
        return part::run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(fleet(args))
}

async fn fleet(args: SwarmArgs) -> anyhow::Result<Exit> {
    let processes = processes(&args)?;
    open_files::raise();
    let shutdown = signals::shutdown()?;
    let mut whole = config(&args).await?;
    let api = Api::new(&args.client)?;
    if !args.plain {
        whole.keys = Some(provision::keys(&api, &args.client, &whole.tenant).await?);
    }
    let shares = shares::split(&whole, processes);
    for share in &shares {
        share.check()?;
    }
    let progress = Progress::new(args.devices, args.client.json);
    if args.provision {
        let ids: Vec<String> = (0..args.devices).map(|index| whole.device_id(index)).collect();
        progress.say(&format!("provisioning {} devices at {}", ids.len(), args.client.url));
        provision(&api, &ids, whole.keys.as_ref()).await?;
    }
    if let Some(seconds) = args.seconds {
        let time = Duration::try_from_secs_f64(seconds).context("--seconds is not a time")?;
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            shutdown.cancel();
        });
    }
    let report = match shares.as_slice() {
        [share] => within(share, &progress, shutdown).await?,
        _ => Parts::start(&shares)?.run(&progress, shutdown).await?,
    };
    progress.finish(&report, processes)?;
    Ok(if was_attached(&report, args.churn) { Exit::Done } else { Exit::Failed })
}

/// Whether all devices were attached: at once, or, where some leave all the time, each once on average.
fn was_attached(report: &Report, churn: f64) -> bool {
    report.all_attached_s.is_some() || (churn > 0.0 && report.sessions >= u64::from(report.devices))
}

/// Runs one fleet within this process.
async fn within(config: &Config, progress: &Progress, shutdown: CancellationToken) -> anyhow::Result<Report> {
    let swarm = Swarm::new(config.clone())?;
    let live = swarm.live();
    let running = swarm.run(shutdown);
    tokio::pin!(running);
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            report = running.as_mut() => return Ok(report?),
            _ = tick.tick() => progress.show(live.snapshot().into()),
        }
    }
}

fn processes(args: &SwarmArgs) -> anyhow::Result<u32> {
    let needed = args.devices.div_ceil(DEVICES_PER_PROCESS);
    let processes = args.processes.unwrap_or(needed);
    anyhow::ensure!(
        processes >= needed,
        "{} devices in {processes} processes are more than {DEVICES_PER_PROCESS} each: use --processes {needed}",
        args.devices
    );
    Ok(processes.min(args.devices))
}

async fn config(args: &SwarmArgs) -> anyhow::Result<Config> {
    let mut routes: Vec<SocketAddr> = Vec::new();
    for name in &args.connect {
        let found = tokio::net::lookup_host(name).await;
        let mut found = found.with_context(|| format!("--connect {name} is not HOST:PORT of a gateway or route"))?;
        routes.push(found.next().with_context(|| format!("--connect {name}: the name has no address"))?);
    }
    Ok(Config {
        routes,
        prefix: args.prefix.clone(),
        first: args.first,
        devices: args.devices,
        connect_rate: args.connect_rate,
        event_rate: args.event_rate,
        event_size: args.event_size,
        churn: args.churn,
        ledger: args.ledger.clone(),
        ..Config::default()
    })
}

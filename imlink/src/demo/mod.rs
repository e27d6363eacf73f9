//! `imlink demo`: the main job on one machine, shown and checked.
//!
//! A gateway (memory store, free loopback ports) and simulated devices in this process, with nothing between
//! them but what a cluster has: devices over TCP, the backend over HTTP. Every number comes from an answer or
//! a count, and the exit status is 0 only if all of them are right.

mod cut;
mod outcome;
mod steps;

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use imlink_protocol::key_pair::{LoginKeys, Psk};
use imlink_swarm::{Config, Keys, Swarm};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::cli::DemoArgs;
use crate::client::Api;
use crate::config::{Listen, LogFormat, Role, Settings};
use crate::exit::Exit;
use crate::keys::login_keys;
use crate::node::Gateway;
use crate::swarm::provision;
use crate::{logging, open_files, signals, state_dir};

use cut::Cut;
use outcome::Outcome;

/// Open files for one device: its socket and the gateway's, and room for the rest.
const FILES_PER_DEVICE: u64 = 2;
const OTHER_FILES: u64 = 512;
/// Connections a second.
const CONNECT_RATE: f64 = 5000.0;
/// Events a second of all devices.
const EVENT_RATE: f64 = 200.0;

/// Runs the demo.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    let files = open_files::raise();
    let needed = u64::from(args.devices) * FILES_PER_DEVICE + OTHER_FILES;
    anyhow::ensure!(
        files >= needed,
        "{} devices need {needed} open files, this process may open {files}: raise `ulimit -Hn`, or give fewer --devices",
        args.devices
    );
    let _log = logging::start(&args.log_level, LogFormat::Human)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(demo(args))?;
    if args.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        print!("{outcome}");
    }
    Ok(if outcome.is_good() { Exit::Done } else { Exit::Failed })
}

/// What the steps work with.
struct Stage {
    api: Api,
    devices: SocketAddr,
    ids: Vec<String>,
    keys: Option<Keys>,
    json: bool,
}

impl Stage {
    /// Tells what is being done.
    fn say(&self, text: &str) {
        if !self.json {
            println!("{text}");
            let _ = std::io::stdout().flush();
        }
    }
}

async fn demo(args: &DemoArgs) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let shutdown = signals::shutdown()?;
    let settings = settings()?;
    let gateway_stop = CancellationToken::new();
    let gateway = Gateway::start(&settings, Registry::default(), gateway_stop.clone())
        .await
        .context("the gateway does not start")?;
    let http = gateway.http().context("the gateway serves no HTTP")?;
    let devices = gateway.devices.context("the gateway takes no devices")?;
    let fleet = Config {
        routes: vec![devices],
        prefix: "lamp".into(),
        devices: args.devices,
        connect_rate: CONNECT_RATE,
        event_rate: EVENT_RATE,
        keys: Some(keys(&settings)?),
        ..Config::default()
    };
    let stage = Stage {
        api: Api::at(&format!("http://{http}"), Some(settings.token.clone()))?,
        devices,
        ids: (0..args.devices).map(|index| fleet.device_id(index)).collect(),
        keys: fleet.keys.clone(),
        json: args.json,
    };
    stage.say(&format!("a gateway on {http} (HTTP) and {} (devices), {} simulated devices", devices, args.devices));

    let mut outcome = Outcome::new(args.devices);
    let steps = show(&stage, fleet, &mut outcome);
    tokio::select! {
        done = steps => done?,
        () = shutdown.cancelled() => anyhow::bail!("interrupted"),
    }
    gateway_stop.cancel();
    gateway.finished().await?;
    outcome.seconds = began.elapsed().as_secs_f64();
    Ok(outcome)
}

/// One step after the other; what each found goes into `outcome`.
async fn show(stage: &Stage, fleet: Config, outcome: &mut Outcome) -> anyhow::Result<()> {
    provision(&stage.api, &stage.ids, stage.keys.as_ref()).await.context("devices cannot be provisioned")?;
    let events = steps::Events::watch(&stage.api).await?;
    let swarm = Swarm::new(fleet)?;
    let live = swarm.live();
    let fleet_stop = CancellationToken::new();
    let running = tokio::spawn(swarm.run(fleet_stop.clone()));

    outcome.attached = steps::attach(stage, &live).await;
    outcome.commands = steps::command_all(stage).await;
    outcome.call = steps::call(stage).await;
    outcome.reconnect = steps::reconnect(stage, Cut::listen(stage.devices).await?).await?;

    fleet_stop.cancel();
    let report = running.await.context("the fleet broke")??;
    outcome.messages_handled = report.messages;
    outcome.events = events.compare(&report).await;
    Ok(())
}

/// What the devices prove themselves by, and the gateway's keys that they pin.
fn keys(settings: &Settings) -> anyhow::Result<Keys> {
    let LoginKeys { current, next } = login_keys(settings)?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(Keys { secret: Psk::new(secret), route_keys: [current.public(), next.public()], psk: None })
}

fn settings() -> anyhow::Result<Settings> {
    let free = Listen::at(SocketAddr::from(([127, 0, 0, 1], 0)));
    Ok(Settings {
        name: "demo".into(),
        http_listen: free,
        backend_listen: Listen::NONE,
        device_listen: free,
        token: state_dir::random_hex()?,
        cluster_secret: state_dir::random_hex()?,
        route_key: state_dir::random_hex()?,
        route_key_next: state_dir::random_hex()?,
        ..Settings::of_role(Role::Gateway, String::new(), String::new())
    })
}

/// Longest wait for one step; a good one takes a fraction of it.
const STEP_MAX: Duration = Duration::from_secs(15);

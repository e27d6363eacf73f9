//! Compares the layouts of a connection: starts an IM-server of one form in this process, with a memory store and
//! a driver that stands for the route; devices come from a process of the generator. Prints one line of JSON.
#![forbid(unsafe_code)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use imlink_bench::layout::TaskServer;
use imlink_bench::usage::{Mark, Server as Process};
use imlink_bench::wire::imlink::device_id;
use imlink_link::{Link, OUTBOX_LEN_DEFAULT};
use imlink_protocol::frame;
use imlink_protocol::id::{Fingerprint, TokenId};
use imlink_protocol::key::Key;
use imlink_protocol::link::node::{Deliver, Registered, ToRoute, ToServer};
use imlink_server::{Config, Limits, Login, Server};
use imlink_store::mailbox::{Append, Appended};
use imlink_store::session::Proof;
use imlink_store::{DeviceKey, Store};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Measures one layout of connections.
#[derive(Clone, Copy, Parser)]
struct Cli {
    /// Which.
    #[arg(long)]
    form: Form,
    #[arg(long, default_value_t = 1_000)]
    devices: usize,
    /// Pushes in flight; 0 for memory only.
    #[arg(long, default_value_t = 512)]
    in_flight: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The product: a readiness loop over a slab.
    Loop,
    /// A tokio task for each connection.
    Tasks,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let store = Store::memory(imlink_store::Config::default());
    let mut names = Vec::with_capacity(cli.devices);
    for number in 0..cli.devices {
        let name = DeviceKey::single(&device_id(u32::try_from(number)?))?;
        store.provision(&name, Proof::Plain).await?;
        names.push(name);
    }
    let (mut route, address) = start(cli.form, &store).await?;
    let process = Process::new(vec![std::process::id()], Vec::new());
    let empty = process.memory()?;
    let start = Mark::now(&process, Default::default())?;
    let (mut devices, _output) = hold(address, cli.devices)?;
    let attaching = start.until(&Mark::now(&process, Default::default())?);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let full = process.memory()?;
    let mut report = serde_json::json!({
        "pss_bytes": (full.pss as f64 - empty.pss as f64) / cli.devices as f64,
        "attach_cpu_us": attaching.server_us_per(cli.devices as u64),
    });
    if cli.in_flight > 0 {
        let mut driver = Driver { store, names, sent: 0, acked: 0, frames: Vec::new() };
        for _ in 0..cli.in_flight {
            driver.push().await?;
        }
        driver.flush(&route)?;
        driver.drive(&mut route, Duration::from_secs(1)).await?;
        let (before, acked) = (Mark::now(&process, Default::default())?, driver.acked);
        driver.drive(&mut route, Duration::from_secs_f64(cli.seconds)).await?;
        let usage = before.until(&Mark::now(&process, Default::default())?);
        report["server_cpu_us"] = usage.server_us_per(driver.acked - acked).into();
        report["per_second"] = usage.per_second(driver.acked - acked).into();
    }
    drop(devices.stdin.take());
    devices.wait()?;
    println!("{report}");
    // The server's threads have nothing left to do.
    std::process::exit(0);
}

/// Starts a server of that form and registers it at the end of the link that is returned.
async fn start(form: Form, store: &Store) -> anyhow::Result<(Link, SocketAddr)> {
    let (there, mut route) = imlink_link::pair(OUTBOX_LEN_DEFAULT);
    let address = match form {
        Form::Tasks => {
            let server = TaskServer::start(store.clone())?;
            server.add_link(there);
            server.device_address()
        }
        Form::Loop => {
            let config = Config {
                name: "loop".into(),
                listen: None,
                advertise: String::new(),
                plain_listen: Some(([127, 0, 0, 1], 0).into()),
                plain_advertise: String::new(),
                allow_plain: false,
                labels: String::new(),
                login: Login::Direct,
                keys: None,
                fleet_psks: Default::default(),
                node_key: None,
                io_threads: 1,
                handshake_threads: 1,
                limits: Limits::default(),
            };
            let server = Server::start(config, store.clone(), imlink_server::metrics::Metrics::default())?;
            server.add_link(there);
            let address = server.plain_address().context("no plain listener")?;
            tokio::spawn(server.run(Default::default(), Default::default()));
            address
        }
    };
    route.receiver.receive().await?.context("the server closed the link")?;
    let keys = Registered { route: "r", day: 0, ticket_key_today: [1; 32], ticket_key_yesterday: [2; 32] };
    if form == Form::Loop {
        route.sender.send(&ToServer::Registered(keys))?;
    }
    Ok((route, address))
}

/// Devices in a process of their own, once all are attached.
fn hold(server: SocketAddr, devices: usize) -> anyhow::Result<(Child, BufReader<ChildStdout>)> {
    let generator = std::env::current_exe()?.with_file_name("imlink-bench");
    let mut child = Command::new(generator)
        .args(["--wire", "imlink", "--server", &server.to_string(), "--pid", &std::process::id().to_string()])
        .args(["hold", "--devices", &devices.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().context("piped")?);
    output.read_line(&mut line)?;
    if line.trim() != "attached" {
        bail!("the devices did not attach");
    }
    Ok((child, output))
}

/// Stands for the route: appends, hints, hears of acknowledgements.
struct Driver {
    store: Store,
    names: Vec<DeviceKey>,
    sent: u64,
    acked: u64,
    frames: Vec<u8>,
}

impl Driver {
    async fn push(&mut self) -> anyhow::Result<()> {
        self.sent += 1;
        let device = self.names.get((self.sent % self.names.len() as u64) as usize).context("no devices")?;
        let payload = bytes::Bytes::from_static(&[7; imlink_bench::wire::COMMAND_LEN]);
        let append = Append {
            device: device.clone(),
            id: (u128::from(self.sent) << 64).to_le_bytes(),
            retry: false,
            key: Key::raw("led/set"),
            fingerprint: Fingerprint::NONE,
            token: TokenId::NONE,
            ttl_s: 0,
            payload,
            mailbox_max: 1_000,
        };
        let Appended::Stored(stored) = self.store.append(&append).await? else { bail!("not stored") };
        let deliver = Deliver {
            device: device.as_str(),
            epoch: stored.session.map_or(0, |session| session.epoch),
            id: stored.id,
            key: append.key,
            expires_ms: stored.expires_ms,
            report: true,
            token: TokenId::NONE,
            payload: &append.payload,
        };
        imlink_link::encode_onto(&ToServer::Deliver(deliver), &mut self.frames)?;
        Ok(())
    }

    fn flush(&mut self, route: &Link) -> anyhow::Result<()> {
        route.sender.send_encoded(&self.frames)?;
        self.frames.clear();
        Ok(())
    }

    async fn drive(&mut self, route: &mut Link, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let batch = tokio::time::timeout(Duration::from_secs(5), route.receiver.receive()).await;
            let batch = batch.context("nothing acknowledged for 5 s")??.context("the server closed the link")?;
            for body in batch.frames() {
                if let ToRoute::Acked { .. } = frame::decode(body?).map_err(|error| anyhow::anyhow!("{error}"))? {
                    self.acked += 1;
                    self.push().await?;
                }
            }
            if !self.frames.is_empty() {
                self.flush(route)?;
            }
        }
        Ok(())
    }
}

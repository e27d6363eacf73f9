//! `imlink swarm` as a process: thousands of devices made of the real device client, and what they handled.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use imlink_protocol::MessageId;

use crate::ledger::{Handled, Hash};
use crate::node::{Node, TOKEN, binary};
use crate::process::Process;

/// Path of the messages that simulated devices take.
pub const PATH: &str = "cmd";
/// Largest payload that fits a simulated device, in bytes.
pub const PAYLOAD_MAX: usize = 1900;
/// Longest time for all devices to leave.
const LEAVE: Duration = Duration::from_secs(30);

/// A running fleet of devices `sim-1`, `sim-2` …
pub struct Fleet {
    process: Process,
    ledger: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// Provisions `devices` over the API of `route` and lets them log in at `logins`.
    pub fn start(route: &Node, logins: &[SocketAddr], devices: u32) -> Self {
        let folder = tempfile::Builder::new().prefix("imlink-fleet-").tempdir().expect("a temporary folder");
        let ledger = folder.path().join("ledger.csv");
        let mut arguments: Vec<String> =
            ["swarm", "--provision", "--json", "--connect-rate", "2000"].map(Into::into).into();
        arguments.extend(["--devices".into(), devices.to_string(), "--token".into(), TOKEN.into()]);
        arguments.extend(["--url".into(), format!("http://{}", route.http())]);
        arguments.extend(["--state-dir".into(), folder.path().display().to_string()]);
        arguments.extend(["--ledger".into(), ledger.display().to_string()]);
        for login in logins {
            arguments.extend(["--connect".into(), login.to_string()]);
        }
        let process = Process::start("swarm", &binary(), arguments, &folder.path().join("log"));
        Self { process, ledger, _folder: folder }
    }

    /// Id of the device `index`, from 0.
    pub fn device(index: usize) -> String {
        format!("sim-{}", index + 1)
    }

    /// Lets the devices leave, and returns what they handled.
    pub async fn end(mut self) -> Vec<Handled> {
        self.process.terminate();
        let status = self.process.end(LEAVE).await;
        assert!(status.success(), "the swarm ended with {status}: {}", self.process.log());
        let text = std::fs::read_to_string(&self.ledger).expect("the swarm's ledger");
        text.lines().filter(|line| !line.starts_with("device,")).map(handled).collect()
    }
}

/// A line of the swarm's ledger: device,generation,sequence,redelivered,length,hash,time.
fn handled(line: &str) -> Handled {
    let fields: Vec<_> = line.split(',').collect();
    let [device, generation, sequence, redelivered, _length, hash, time] = fields[..] else {
        panic!("not a line of a ledger: {line}");
    };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("not a number in: {line}"));
    Handled {
        device: device.into(),
        id: MessageId::new(number(generation), number(sequence)),
        path: String::new(),
        hash: Hash(u64::from_str_radix(hash, 16).unwrap_or_else(|_| panic!("not a hash in: {line}"))),
        redelivered: redelivered == "1",
        // Devices of a swarm keep their power.
        forgot: false,
        time_ms: number(time),
    }
}

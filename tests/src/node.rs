//! imlink as processes: a gateway, or routes and IM-servers around a store.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use imlink_protocol::key_pair::PrivateKey;

use crate::api::Api;
use crate::port::Port;
use crate::process::Process;
use crate::wait::eventually;

/// Bearer token of every node here.
pub const TOKEN: &str = "token-of-the-tests-0123456789";
/// Secret of every cluster here.
pub const CLUSTER_SECRET: &str = "secret-of-the-tests-0123456789";
/// Private keys of every route here, current and next.
pub const ROUTE_KEYS: [[u8; 32]; 2] = [[0x51; 32], [0x52; 32]];
/// Longest time from start to ready.
const START: Duration = Duration::from_secs(30);

/// The `imlink` under test: `IMLINK_BIN`, or the one of profile `e2e` in the target folder of this test.
///
/// # Panics
/// When there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("IMLINK_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/<profile>/deps/<test>
    let target = test.ancestors().nth(3).map(Path::to_path_buf).unwrap_or_default();
    let path = target.join("e2e").join("imlink");
    assert!(path.exists(), "no {}: run `cargo build --profile e2e -p imlink`", path.display());
    path
}

/// Which part of imlink a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Route, IM-server and store in one.
    Gateway,
    /// A route of a cluster.
    Route,
    /// An IM-server of a cluster.
    Server,
}

impl Role {
    /// The command that runs it.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Route => "route",
            Self::Server => "server",
        }
    }
}

/// One process of imlink; killed when dropped, restarted on the same addresses when asked.
pub struct Node {
    role: Role,
    name: String,
    settings: Vec<String>,
    // Before the folder: its log is read when it is dropped.
    process: Process,
    folder: tempfile::TempDir,
    http: Port,
    devices: Port,
    plain: Port,
    backends: Port,
    nodes: Port,
}

impl Node {
    /// Starts a gateway on the memory store, with `settings` (`key=value`) over the defaults, and waits until it is ready.
    pub async fn gateway(settings: &[&str]) -> Self {
        Self::start(Role::Gateway, "gateway", settings).await
    }

    /// Starts a node of `role` and waits until it is ready.
    pub async fn start(role: Role, name: &str, settings: &[&str]) -> Self {
        let mut node = Self::launch(role, name, settings);
        node.ready().await;
        node
    }

    /// Starts a node of `role` without waiting for it.
    pub fn launch(role: Role, name: &str, settings: &[&str]) -> Self {
        Self::launch_by(role, name, settings, spawn)
    }

    /// The same, with a log that goes into a pipe that nobody reads.
    pub fn launch_unread(role: Role, name: &str, settings: &[&str]) -> Self {
        Self::launch_by(role, name, settings, |role, name, settings, _| {
            Process::start_unread(name, &binary(), arguments(role, settings))
        })
    }

    fn launch_by(
        role: Role,
        name: &str,
        settings: &[&str],
        spawn: impl FnOnce(Role, &str, &[String], &Path) -> Process,
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("imlink-node-").tempdir().expect("a temporary folder");
        let [http, devices, plain] = [Port::free(), Port::free(), Port::free()];
        let [backends, nodes] = [Port::free(), Port::free()];
        let mut all = vec![
            format!("name={name}"),
            format!("state_dir={}", folder.path().display()),
            format!("cluster_secret={CLUSTER_SECRET}"),
            format!("device_listen={}", devices.address()),
            format!("plain_listen={}", plain.address()),
        ];
        match role {
            Role::Server => all.push(format!("ops_listen={}", http.address())),
            Role::Gateway | Role::Route => all.extend([
                format!("token={TOKEN}"),
                format!("http_listen={}", http.address()),
                format!("backend_listen={}", backends.address()),
                format!("route_key={}", PrivateKey::new(ROUTE_KEYS[0]).reveal()),
                format!("route_key_next={}", PrivateKey::new(ROUTE_KEYS[1]).reveal()),
            ]),
        }
        if role == Role::Route {
            all.push(format!("node_listen={}", nodes.address()));
        }
        all.extend(settings.iter().map(|setting| (*setting).into()));
        let process = spawn(role, name, &all, folder.path());
        Self { role, name: name.into(), settings: all, folder, http, devices, plain, backends, nodes, process }
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends instead, or takes longer than 30 s.
    pub async fn ready(&mut self) {
        let api = self.api();
        let what = format!("{} is ready", self.name);
        eventually(&what, START, async || {
            assert_eq!(self.process.ended(), None, "{} ended", self.name);
            let answer = api.try_get("/readyz").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its HTTP API (of a server: health and metrics only).
    pub fn api(&self) -> Api {
        Api::new(self.http.address(), TOKEN)
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http.address()
    }

    /// Where devices connect.
    pub fn devices(&self) -> SocketAddr {
        self.devices.address()
    }

    /// Where devices without a key connect.
    pub fn plain(&self) -> SocketAddr {
        self.plain.address()
    }

    /// Where backends link.
    pub fn backends(&self) -> SocketAddr {
        self.backends.address()
    }

    /// Where IM-servers link, of a route.
    pub fn nodes(&self) -> SocketAddr {
        self.nodes.address()
    }

    /// Runs `imlink` once with this node's store and state directory, and gives what it printed.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let setting = |name: &str| self.settings.iter().rev().find_map(|setting| setting.strip_prefix(name));
        let store = setting("store=").unwrap_or("memory").to_owned();
        self.ask_as(&format!("store={store}"), arguments)
    }

    /// The same with another setting of the store, `store=URL`.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn ask_as(&self, store: &str, arguments: &[&str]) -> String {
        let setting = |name: &str| self.settings.iter().rev().find_map(|setting| setting.strip_prefix(name));
        let (state, store) = (setting("state_dir=").unwrap_or_default(), store.trim_start_matches("store="));
        let mut command = std::process::Command::new(binary());
        command.args(arguments).args(["--store", store, "--state-dir", state]);
        output(command.env("IMLINK_CLUSTER_SECRET", setting("cluster_secret=").unwrap_or_default()))
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it with -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends SIGTERM and waits for its end.
    pub async fn leave(&mut self, within: Duration) -> ExitStatus {
        self.process.terminate();
        self.process.end(within).await
    }

    /// Whether it ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Starts it again with the same settings on the same addresses; waits until it is ready.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.role, &self.name, &self.settings, self.folder.path());
        self.ready().await;
    }
}

/// What `imlink` prints with `arguments`.
///
/// # Panics
/// When it does not end well.
pub fn run(arguments: &[&str]) -> String {
    output(std::process::Command::new(binary()).args(arguments))
}

fn output(command: &mut std::process::Command) -> String {
    // To imlink it is a setting that it does not know.
    let ended = command.env_remove("IMLINK_BIN").output().expect("imlink can be started");
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

fn spawn(role: Role, name: &str, settings: &[String], folder: &Path) -> Process {
    Process::start(name, &binary(), arguments(role, settings), &folder.join("log"))
}

fn arguments(role: Role, settings: &[String]) -> Vec<String> {
    let mut arguments = vec![role.command().to_owned()];
    for setting in settings {
        arguments.extend(["--set".into(), setting.clone()]);
    }
    arguments
}

//! One board in QEMU.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use imlink_protocol::key_pair::PrivateKey;
use imlink_tests::device::private_key;
use imlink_tests::node::ROUTE_KEYS;
use imlink_tests::process::Process;
use imlink_tests::wait::eventually;
use serde_json::json;

use crate::capture::{self, Packet};
use crate::monitor::Monitor;

/// Longest wait for something the board is to do.
const PATIENCE: Duration = Duration::from_secs(50);
/// This machine's loopback as QEMU's user network shows it.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// What a board is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    device: String,
    image: PathBuf,
    routes: Vec<SocketAddr>,
    arguments: Vec<String>,
    qemu: Vec<String>,
    resolver: Option<IpAddr>,
}

/// A board: switched off when dropped, with its flash kept until then.
pub struct Board {
    setup: Setup,
    // Before the folder: its log is read when it is dropped.
    process: Process,
    monitor: Monitor,
    folder: tempfile::TempDir,
}

impl Setup {
    /// The device `device` with the key that tests provision it with, which logs in at one of `routes` (addresses on
    /// this machine's loopback).
    pub fn new(device: &str, routes: &[SocketAddr]) -> Self {
        let mut setup = Self::plain(device, routes).with(&format!("private_key={}", private_key(device).reveal()));
        for key in ROUTE_KEYS {
            setup = setup.with(&format!("route_key={}", PrivateKey::new(key).public()));
        }
        setup
    }

    /// A device without a key, whose links are plain.
    pub fn plain(device: &str, routes: &[SocketAddr]) -> Self {
        Self {
            device: device.into(),
            image: firmware(),
            routes: routes.to_vec(),
            arguments: Vec::new(),
            qemu: Vec::new(),
            resolver: None,
        }
    }

    /// Another image than the example's.
    #[must_use]
    pub fn of(mut self, image: &Path) -> Self {
        self.image = image.into();
        self
    }

    /// Another argument of the firmware, `name=value`.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The board's names are looked up at port 53 of `resolver`, an address on this machine's loopback: QEMU sees it
    /// as the host's own resolver.
    #[must_use]
    pub fn resolved_by(mut self, resolver: IpAddr) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// More arguments of QEMU.
    #[must_use]
    pub fn with_qemu(mut self, arguments: &[&str]) -> Self {
        self.qemu.extend(arguments.iter().map(|argument| (*argument).into()));
        self
    }
}

impl Board {
    /// Switches a new board on.
    ///
    /// # Panics
    /// When QEMU cannot be started.
    pub fn start(setup: Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("imlink-board-").tempdir().expect("a temporary folder");
        let process = power_on(&setup, folder.path());
        let monitor = Monitor::connect(&folder.path().join("monitor"));
        Self { setup, process, monitor, folder }
    }

    /// Cuts the power and switches on again: all but flash is lost.
    pub fn power_cycle(&mut self) {
        self.process.kill();
        let _ = std::fs::remove_file(self.folder.path().join("monitor"));
        self.process = power_on(&self.setup, self.folder.path());
        self.monitor = Monitor::connect(&self.folder.path().join("monitor"));
    }

    /// Presses the reset button.
    pub fn reset(&mut self) {
        self.monitor.execute("system_reset", json!({}));
    }

    /// Plugs the network cable in or out.
    pub fn plug(&mut self, is_in: bool) {
        self.monitor.execute("set_link", json!({ "name": "net0", "up": is_in }));
    }

    /// Sets what the thermometer measures, in thousandths of a degree Celsius.
    pub fn set_temperature(&mut self, millicelsius: i32) {
        let property =
            json!({ "path": "/machine/peripheral/thermometer", "property": "temperature", "value": millicelsius });
        self.monitor.execute("qom-set", property);
    }

    /// Whether LED 0 is on, from the register of the board.
    pub fn is_led_on(&mut self) -> bool {
        let shown = self.monitor.execute("human-monitor-command", json!({ "command-line": "xp /1xw 0x40028000" }));
        let shown = shown.as_str().unwrap_or_default().trim();
        let word = shown.rsplit("0x").next().and_then(|word| u32::from_str_radix(word, 16).ok());
        word.unwrap_or_else(|| panic!("QEMU shows {shown:?}")) & 1 == 1
    }

    /// What it logged since it was made, over all power-ons.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How often it logged `text`.
    pub fn count(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Waits until it has logged `text` at least `times`.
    ///
    /// # Panics
    /// When it has not within 50 s.
    pub async fn logged(&self, text: &str, times: usize) {
        let what = format!("the board logs {text:?} {times} times");
        eventually(&what, PATIENCE, async || (self.count(text) >= times).then_some(())).await;
    }

    /// Waits until it is attached for the `times`th time since it was made.
    pub async fn attached(&self, times: usize) {
        self.logged("attached, epoch", times).await;
    }

    /// Packets that went over its cable, both ways, in order.
    pub fn packets(&self) -> Vec<Packet> {
        capture::read(&self.folder.path().join("capture"))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }
}

fn power_on(setup: &Setup, folder: &Path) -> Process {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut semihosting = format!("enable=on,target=native,arg=firmware,arg=device={}", setup.device);
    for route in &setup.routes {
        semihosting += &format!(",arg=route={HOST}:{}", route.port());
    }
    for argument in &setup.arguments {
        semihosting += &format!(",arg={argument}");
    }
    let fixed: [(&str, String); 9] = [
        ("-machine", "mps2-an385,memory-backend=flash".into()),
        ("-object", format!("memory-backend-file,id=flash,share=on,size=16M,mem-path={}", file("flash"))),
        ("-display", "none".into()),
        ("-serial", "none".into()),
        ("-nic", "user,model=lan9118,id=net0".into()),
        ("-object", format!("filter-dump,id=dump,netdev=net0,file={}", file("capture"))),
        ("-device", "tmp105,id=thermometer,address=0x48".into()),
        ("-qmp", format!("unix:{},server=on,wait=off", file("monitor"))),
        ("-semihosting-config", semihosting),
    ];
    let mut arguments: Vec<String> = fixed.into_iter().flat_map(|(name, value)| [name.into(), value]).collect();
    arguments.extend(["-kernel".into(), setup.image.display().to_string()]);
    arguments.extend(setup.qemu.iter().cloned());
    let mut program = "qemu-system-arm";
    if let Some(resolver) = setup.resolver {
        std::fs::write(folder.join("resolv.conf"), format!("nameserver {resolver}\n")).expect("a file in its folder");
        let mount = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"".into();
        let wrapped = ["--mount".into(), "sh".into(), "-c".into(), mount, file("resolv.conf"), program.into()];
        arguments.splice(0..0, wrapped);
        program = "unshare";
    }
    Process::start("qemu", Path::new(program), arguments, &folder.join("log"))
}

/// The firmware under test: `IMLINK_FIRMWARE`, or the one that the build script put into the target folder of this test.
///
/// # Panics
/// When there is none.
pub fn firmware() -> PathBuf {
    if let Some(path) = std::env::var_os("IMLINK_FIRMWARE") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/<profile>/deps/<test>
    let target = test.ancestors().nth(3).map(Path::to_path_buf).unwrap_or_default();
    let path = target.join("fw-boards/thumbv7m-none-eabi/release/imlink-qemu-mps2-an385");
    assert!(path.exists(), "no {}: run `firmware-example/build qemu-mps2-an385`", path.display());
    path
}

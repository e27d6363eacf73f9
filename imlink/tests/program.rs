//! The program as it is called: what it prints and how it ends.
#![allow(missing_docs, reason = "a test")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn imlink(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imlink"));
    // Nothing of whoever runs the test reaches it.
    command.args(arguments).env_clear().env("HOME", "/nonexistent");
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = imlink(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_demo_keeps_its_promises_and_says_so() {
    let (status, stdout, stderr) = run(&["demo", "--devices", "50", "--json"]);
    let outcome: serde_json::Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert_eq!(status, Some(0), "{outcome:#}");
    assert_eq!(outcome["commands"]["acked"], 50, "{outcome:#}");
    assert_eq!(outcome["messages_handled"], 50, "{outcome:#}");
    assert_eq!(outcome["reconnect"]["while_away"], "waiting", "{outcome:#}");
    assert_eq!(outcome["reconnect"]["afterwards"], "acked", "{outcome:#}");
}

#[test]
fn an_address_that_others_could_reach_is_refused_at_start() {
    for flag in ["--http-listen", "--plain-listen", "--backend-listen"] {
        let (status, _, stderr) = run(&["gateway", flag, "0.0.0.0:0"]);
        assert_eq!(status, Some(2), "{stderr}");
        assert!(stderr.contains("0.0.0.0:0 is not a loopback address"), "{stderr}");
    }
}

#[test]
fn the_configuration_is_printed_with_its_origins_and_without_secrets() {
    let output = imlink(&["gateway", "--print-config", "--name", "here", "--set", "route.drain_s=3"])
        .env("IMLINK_TOKEN", "sesame-sesame-sesame")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for line in ["name = \"here\"", "# flag --name", "drain_s = 3", "# flag --set", "# environment IMLINK_TOKEN"] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    assert!(!printed.contains("sesame"), "{printed}");
    let (status, _, stderr) = run(&["route", "--set", "htp_listen=none", "--print-config"]);
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.contains("did you mean `http_listen`?"), "{stderr}");
}

#[test]
fn a_client_without_a_gateway_says_what_to_do() {
    let (status, _, stderr) = run(&["send", "lamp-17", "led/set", "--url", "http://127.0.0.1:9"]);
    assert_eq!(status, Some(3), "{stderr}");
    assert!(stderr.contains("imlink gateway"), "{stderr}");
}

#[test]
fn a_node_of_a_cluster_does_not_start_without_a_shared_store() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    for role in ["route", "server"] {
        let (status, _, stderr) = run(&[role, "--store", "memory", "--state-dir", state]);
        assert_eq!(status, Some(1), "{stderr}");
        assert!(stderr.contains("--store redis://"), "{stderr}");
    }
}

#[test]
fn a_gateway_leaves_in_good_order_when_asked() {
    let state = tempfile::tempdir().unwrap();
    let free = "127.0.0.1:0";
    let mut gateway = imlink(&["gateway", "--http-listen", free, "--device-listen", free, "--backend-listen", "none"])
        .args(["--log-format", "json", "--state-dir", state.path().to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(gateway.stderr.take().unwrap()).lines();
    let mut next = |message: &str| loop {
        let line: serde_json::Value = serde_json::from_str(&log.next().unwrap().unwrap()).unwrap();
        if line["message"] == message {
            return line;
        }
    };
    let listening = next("the gateway listens");
    let url = format!("http://{}", listening["http"].as_str().unwrap());
    let client = ["--url", &url, "--state-dir", state.path().to_str().unwrap(), "--json"];
    let (status, stdout, stderr) = run(&[&["device", "add", "lamp-17", "--plain"], &client[..]].concat());
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("\"id\":\"lamp-17\""), "{stdout}");
    let late = ["send", "lamp-17", "led/set", "--hex", "01", "--wait", "acked", "--timeout", "0.2"];
    let (status, stdout, _) = run(&[&late[..], &client[..]].concat());
    assert_eq!(status, Some(4));
    assert!(stdout.contains("\"state\":\"waiting\""), "{stdout}");
    kill(Pid::from_raw(i32::try_from(gateway.id()).unwrap()), Signal::SIGTERM).unwrap();
    next("the gateway has left");
    assert!(gateway.wait().unwrap().success());
}

/// A gateway that is reached over TLS, and what it logs.
struct Secured {
    gateway: std::process::Child,
    log: std::thread::JoinHandle<String>,
    dir: tempfile::TempDir,
    url: String,
}

impl Secured {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let free = "127.0.0.1:0";
        let mut gateway =
            imlink(&["gateway", "--http-listen", free, "--device-listen", free, "--backend-listen", free])
                .args(["--log-format", "json", "--log-level", "trace", "--state-dir"])
                .arg(dir.path().join("state"))
                .arg("--tls-cert")
                .arg(dir.path().join("cert.pem"))
                .arg("--tls-key")
                .arg(dir.path().join("key.pem"))
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let stderr = gateway.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let read: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if read["message"] == "the gateway listens" {
                    let _ = tell.send(read["http"].as_str().unwrap_or_default().to_owned());
                }
                all += &line;
            }
            all
        });
        let http = told.recv_timeout(std::time::Duration::from_secs(20)).expect("the gateway listens");
        let url = format!("https://localhost:{}", http.rsplit_once(':').unwrap().1);
        Self { gateway, log, dir, url }
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let ca_file = self.dir.path().join("cert.pem");
        let state = self.dir.path().join("state");
        let client = ["--url", &self.url, "--ca-file", ca_file.to_str().unwrap()];
        run(&[arguments, &client, &["--state-dir", state.to_str().unwrap()]].concat())
    }
}

#[test]
fn a_token_does_what_it_may_over_tls_until_it_is_revoked_and_no_secret_is_logged() {
    let secured = Secured::start();
    let (status, _, stderr) = secured.run(&["device", "add", "lamp-17", "door-1"]);
    assert_eq!(status, Some(0), "{stderr}");
    let add =
        ["token", "add", "--allow", "send:lamp-*,state", "--expires", "30d", "--rate", "100/s", "--name", "billing"];
    let (status, token, stderr) = secured.run(&add);
    assert_eq!(status, Some(0), "{stderr}");
    let token = token.trim();
    let (id, secret) = token.strip_prefix("imt_").unwrap().split_once('_').unwrap();
    assert_eq!((id.len(), secret.len()), (16, 64), "{token}");
    assert!(!stderr.contains(secret) && stderr.contains("send:lamp-*,state 100/s"), "{stderr}");

    let send = |device: &str| secured.run(&["send", device, "led/set", "--hex", "01", "--json", "--token", token]);
    let (status, stdout, stderr) = send("lamp-17");
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("waiting"), "{stdout}");
    let (status, _, stderr) = send("door-1");
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("forbidden") && stderr.contains("`send:door-1`"), "{stderr}");

    let (_, listed, _) = secured.run(&["token", "list", "--json"]);
    assert!(listed.contains(id) && listed.contains("\"active\"") && !listed.contains(secret), "{listed}");
    let (status, _, stderr) = secured.run(&["token", "revoke", id]);
    assert_eq!(status, Some(0), "{stderr}");
    let (status, _, stderr) = send("lamp-17");
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("unauthorized"), "{stderr}");

    let (status, audit, stderr) = secured.run(&["audit"]);
    assert_eq!(status, Some(0), "{stderr}");
    for change in ["device-provisioned lamp-17 by configured from 127.0.0.1:", &format!("token-revoked {id}")] {
        assert!(audit.contains(change), "{change}: {audit}");
    }
    // Another tenant has none of it.
    let (status, other, stderr) = secured.run(&["device", "list", "--tenant", "acme"]);
    assert_eq!((status, other.as_str()), (Some(0), ""), "{stderr}");
    // Whoever does not know the authority does not connect.
    let (status, _, stderr) = run(&["device", "list", "--url", &secured.url, "--token", token]);
    assert_eq!(status, Some(3), "{stderr}");

    kill(Pid::from_raw(i32::try_from(secured.gateway.id()).unwrap()), Signal::SIGTERM).unwrap();
    let mut gateway = secured.gateway;
    assert!(gateway.wait().unwrap().success());
    let log = secured.log.join().unwrap();
    let configured = std::fs::read_to_string(secured.dir.path().join("state/token")).unwrap();
    assert!(log.contains("audit") && log.contains(id), "{log}");
    assert!(!log.contains(secret) && !log.contains(configured.trim()) && !audit.contains(secret), "a secret is logged");
}

#[test]
fn a_firmware_project_is_never_written_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lamp");
    let path = path.to_str().unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let arguments = ["new-firmware", "lamp", "--board", "nucleo-h743zi", "--path", path, "--source", source, "--json"];
    let (status, stdout, stderr) = run(&arguments);
    assert_eq!(status, Some(0), "{stderr}");
    let written: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(written["target"], "thumbv7em-none-eabihf");
    for file in ["README.md", ".cargo/config.toml", "interface/src/lib.rs", "app/Cargo.toml", "board/memory.x"] {
        assert!(folder.path().join("lamp").join(file).is_file(), "{file}");
    }
    let (status, _, stderr) = run(&arguments);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("is there already and not empty"), "{stderr}");
    for (wrong, why) in [(["Lamp", source], "begin with a letter"), (["lamp", "/nonexistent"], "--source /nonexistent")]
    {
        let elsewhere = folder.path().join("elsewhere");
        let [name, source] = wrong;
        let path = elsewhere.to_str().unwrap();
        let (_, _, stderr) =
            run(&["new-firmware", name, "--board", "nucleo-h743zi", "--path", path, "--source", source]);
        assert!(stderr.contains(why) && !elsewhere.exists(), "{stderr}");
    }
}

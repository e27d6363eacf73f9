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
    for flag in ["--http-listen", "--device-listen", "--backend-listen"] {
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

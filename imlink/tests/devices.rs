//! Devices and keys as an operator handles them, with the program itself and a gateway that runs.
#![allow(missing_docs, reason = "a test")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A gateway of its own, killed at the end.
struct Gateway {
    child: Child,
    url: String,
    devices: String,
    dir: tempfile::TempDir,
    /// What it logged up to listening.
    log: Vec<Value>,
}

/// How a command ended.
struct Ended {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

fn imlink(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imlink"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent");
    command
}

fn end(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Gateway {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(dir: tempfile::TempDir) -> Self {
        let free = "127.0.0.1:0";
        let child = imlink(&["gateway", "--http-listen", free, "--device-listen", free, "--backend-listen", "none"])
            .args(["--log-format", "json", "--state-dir", dir.path().to_str().unwrap()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut gateway = Self { child, url: String::new(), devices: String::new(), dir, log: Vec::new() };
        let mut lines = BufReader::new(gateway.child.stderr.take().unwrap()).lines();
        loop {
            let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            gateway.log.push(line.clone());
            if line["message"] == "the gateway listens" {
                let text = |name: &str| line[name].as_str().unwrap().to_owned();
                (gateway.url, gateway.devices) = (format!("http://{}", text("http")), text("devices"));
                std::thread::spawn(move || lines.for_each(drop));
                return gateway;
            }
        }
    }

    fn ask(&self, arguments: &[&str]) -> Ended {
        let client = ["--url", &self.url, "--state-dir", self.dir.path().to_str().unwrap()];
        end(imlink(&[arguments, &client[..]].concat()))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.ask(&[arguments, &["--json"]].concat());
        assert_eq!(ended.status, Some(0), "{arguments:?}: {}", ended.err);
        ended.json()
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Everything that it keeps on disk, as text.
    fn kept(&self) -> String {
        let files = std::fs::read_dir(self.dir.path()).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn public_of(private: &str) -> String {
    private.parse::<imlink_protocol::key_pair::PrivateKey>().unwrap().public().to_string()
}

fn private_key(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

#[test]
fn a_first_start_makes_keys_and_says_what_a_device_must_pin() {
    let gateway = Gateway::start();
    let told = gateway.log.iter().find(|line| line["current"].is_string()).expect("a line with the public keys");
    for (name, field) in [("route-key", "current"), ("route-key-next", "next")] {
        let path = gateway.dir.path().join(name);
        let private = std::fs::read_to_string(&path).unwrap();
        assert_eq!(told[field], public_of(private.trim()), "{name}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        let log = serde_json::to_string(&gateway.log).unwrap();
        assert!(!log.contains(private.trim()), "{name} is in the log");
    }
    let dir = gateway.dir.path().to_str().unwrap();
    let shown = end(imlink(&["keys", "show", "--json", "--state-dir", dir])).json();
    assert_eq!((&shown["current"], &shown["next"]), (&told["current"], &told["next"]));
}

#[test]
fn after_a_rotation_the_gateway_has_the_next_key_and_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let keys = |arguments: &[&str]| end(imlink(&[&["keys"], arguments, &["--json", "--state-dir", path]].concat()));
    let before = keys(&["show"]).json();
    let refused = keys(&["rotate"]);
    assert_eq!(refused.status, Some(2));
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    let after = keys(&["rotate", "--yes"]).json();
    assert_eq!(after["current"], before["next"]);
    assert!(after["next"] != before["next"] && after["next"] != before["current"]);
    let gateway = Gateway::start_in(dir);
    let flash = gateway.json(&["device", "add", "lamp-17"]);
    assert_eq!(flash["route_keys"], serde_json::json!([after["current"], after["next"]]));
}

#[test]
fn private_keys_are_hidden_in_the_printed_configuration() {
    let secret = private_key(0x5e);
    let mut command = imlink(&["gateway", "--print-config"]);
    command.env("IMLINK_ROUTE_KEY", &secret).env("IMLINK_ROUTE_KEY_NEXT", &secret).env("IMLINK_FLEET_PSK", &secret);
    let printed = end(command);
    assert_eq!(printed.status, Some(0), "{}", printed.err);
    assert_eq!(printed.out.matches("(hidden)").count(), 3, "{}", printed.out);
    assert!(!printed.out.contains(&secret), "{}", printed.out);
    let dir = tempfile::tempdir().unwrap();
    let wrong = end(imlink(&["gateway", "--set", "route_key=12", "--state-dir", dir.path().to_str().unwrap()]));
    assert_eq!(wrong.status, Some(1));
    assert!(wrong.err.contains("route_key has 2 characters"), "{}", wrong.err);
}

#[test]
fn a_device_is_given_a_key_pair_that_is_shown_once_and_kept_nowhere() {
    let gateway = Gateway::start();
    let flash = gateway.json(&["device", "add", "lamp-17"]);
    let private = flash["private_key"].as_str().unwrap();
    assert_eq!(flash["public_key"], public_of(private));
    assert_eq!((&flash["id"], &flash["tenant"], &flash["fleet_psk"]), (&"lamp-17".into(), &"-".into(), &Value::Null));
    assert_eq!(flash["addresses"], serde_json::json!([gateway.devices]));
    let shown = gateway.json(&["device", "show", "lamp-17"]);
    assert_eq!((&shown["proof"], &shown["public_key"]), (&"public-key".into(), &flash["public_key"]));
    assert!(!shown.to_string().contains(private) && !gateway.kept().contains(private));

    let again = gateway.ask(&["device", "add", "lamp-17"]);
    assert_eq!(again.status, Some(1));
    assert!(again.err.contains("device rotate lamp-17") && again.err.contains("--replace"), "{}", again.err);
    assert_eq!(gateway.json(&["device", "show", "lamp-17"]), shown, "nothing was changed");
    let replaced = gateway.json(&["device", "add", "lamp-17", "--replace"]);
    assert_ne!(replaced["public_key"], flash["public_key"]);
    let text = gateway.ask(&["device", "add", "lamp-18"]);
    assert!(text.out.contains("private key") && text.out.contains("shown once"), "{}", text.out);
}

#[test]
fn a_device_registers_its_own_key_or_none() {
    let gateway = Gateway::start();
    let key = public_of(&private_key(7));
    let flash = gateway.json(&["device", "add", "own", "--public-key", &key]);
    assert_eq!((&flash["public_key"], &flash["private_key"]), (&key.as_str().into(), &Value::Null));
    assert_eq!(gateway.json(&["device", "add", "own", "--public-key", &key])["public_key"], key, "again is harmless");
    let other = public_of(&private_key(8));
    assert_eq!(gateway.ask(&["device", "add", "own", "--public-key", &other]).status, Some(1));
    assert_eq!(gateway.ask(&["device", "add", "own", "--plain"]).status, Some(1), "a key is not dropped by the way");
    assert_eq!(gateway.json(&["device", "show", "own"])["public_key"], key);

    for _ in 0..2 {
        assert_eq!(gateway.json(&["device", "add", "bench", "--plain"])["proof"], "plain");
    }
    let refused = gateway.ask(&["device", "rotate", "bench"]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.err.contains("plain"), "{}", refused.err);
    let wrong = gateway.ask(&["device", "add", "x", "--public-key", "12"]);
    assert_eq!(wrong.status, Some(2));
    assert!(wrong.err.contains("64 hexadecimal digits"), "{}", wrong.err);
    let small = gateway.ask(&["device", "add", "x", "--public-key", &"0".repeat(64)]);
    assert!(small.err.contains("small order"), "{}", small.err);
}

#[test]
fn a_rotation_gives_a_next_key_beside_the_current_one() {
    let gateway = Gateway::start();
    let first = gateway.json(&["device", "add", "lamp-17"]);
    let next = gateway.json(&["device", "rotate", "lamp-17"]);
    assert_eq!(next["public_key"], public_of(next["private_key"].as_str().unwrap()));
    let shown = gateway.json(&["device", "show", "lamp-17"]);
    assert_eq!((&shown["public_key"], &shown["next_public_key"]), (&first["public_key"], &next["public_key"]));
    let text = gateway.ask(&["device", "show", "lamp-17"]).out;
    assert!(text.contains("next key"), "{text}");
}

#[test]
fn a_revoked_device_stays_so_until_it_is_restored() {
    let gateway = Gateway::start();
    gateway.json(&["device", "add", "lamp-17"]);
    assert_eq!(gateway.json(&["device", "revoke", "lamp-17"])["revoked"], true);
    let send = ["send", "lamp-17", "led/set", "--hex", "01"];
    assert!(gateway.ask(&send).err.contains("revoked"));
    let again = gateway.ask(&["device", "add", "lamp-17", "--replace"]);
    assert!(again.err.contains("still revoked") && again.err.contains("device restore"), "{}", again.err);
    assert!(gateway.ask(&send).err.contains("revoked"));
    assert_eq!(gateway.json(&["device", "restore", "lamp-17"])["revoked"], false);
    assert_eq!(gateway.ask(&send).status, Some(0));
    assert_eq!(gateway.ask(&["device", "revoke", "nobody"]).status, Some(1));
}

/// Runs a compiler on `source`; not found is a pass only where it is not installed.
fn compiles(program: &str, arguments: &[&str], source: &str) {
    let output = Command::new(program).args(arguments).arg(source).output();
    match output {
        Err(error) => eprintln!("not compiled, {program}: {error}"),
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn what_to_flash_is_written_as_c_rust_and_json_that_compile() {
    let dir = tempfile::tempdir().unwrap();
    let psk = private_key(0xfe);
    std::fs::write(dir.path().join("fleet-psk"), &psk).unwrap();
    let gateway = Gateway::start_in(dir);
    let to = |ending: &str| gateway.file(&format!("lamp.{ending}"));
    for (id, ending) in [("a", "h"), ("b", "rs"), ("c", "json")] {
        let path = to(ending);
        let done = gateway.json(&["device", "add", id, "--out", &path, "--address", "gw.example:7000"]);
        assert_eq!(done["file"], path.as_str());
        assert!(done["private_key"].is_null(), "only the file has it");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path}");
        let shown = gateway.json(&["device", "show", id]);
        assert_eq!(shown["public_key"], done["public_key"]);
    }
    let json: Value = serde_json::from_str(&std::fs::read_to_string(to("json")).unwrap()).unwrap();
    assert_eq!(json["fleet_psk"], psk.as_str());
    assert_eq!(json["addresses"], serde_json::json!(["gw.example:7000"]));
    let shown = gateway.json(&["device", "show", "c"]);
    assert_eq!(shown["public_key"], public_of(json["private_key"].as_str().unwrap()));
    let c = std::fs::read_to_string(to("h")).unwrap();
    assert!(c.contains("imlink_private_key[32]") && c.contains("0xfe, 0xfe"), "{c}");
    let main = gateway.file("main.c");
    let body = "#include \"lamp.h\"\nint main(void) { return imlink_private_key[0] + imlink_route_keys[1][31] + \
                imlink_fleet_psk[31] + imlink_addresses[0][0] + sizeof IMLINK_DEVICE_ID + sizeof IMLINK_TENANT; }\n";
    std::fs::write(&main, body).unwrap();
    compiles("cc", &["-Wall", "-Werror", "-std=c99", "-fsyntax-only"], &main);
    let out = gateway.file("lib.rmeta");
    compiles("rustc", &["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "-o", &out], &to("rs"));
}

#[test]
fn a_file_that_cannot_be_written_or_a_refused_key_leaves_nothing_behind() {
    let gateway = Gateway::start();
    let taken = gateway.file("taken.h");
    std::fs::write(&taken, "precious").unwrap();
    let refused = gateway.ask(&["device", "add", "lamp-17", "--out", &taken]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.err.contains("not overwritten"), "{}", refused.err);
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "precious");
    assert_eq!(gateway.ask(&["device", "show", "lamp-17"]).status, Some(1), "no key was registered");
    let fresh = gateway.file("fresh.h");
    let refused = gateway.ask(&["device", "rotate", "nobody", "--out", &fresh]);
    assert_eq!(refused.status, Some(1));
    assert!(!Path::new(&fresh).exists(), "no file for a key that does not count");
    let form = gateway.ask(&["device", "add", "lamp-17", "--out", &gateway.file("lamp.bin")]);
    assert!(form.err.contains("--format"), "{}", form.err);
}

#[test]
fn a_fleet_is_exported_imported_elsewhere_and_exported_as_the_same() {
    let gateway = Gateway::start();
    for id in ["a", "b"] {
        gateway.json(&["device", "add", id]);
    }
    gateway.json(&["device", "rotate", "b"]);
    gateway.json(&["device", "revoke", "a"]);
    gateway.json(&["device", "add", "c", "--plain"]);
    let csv = gateway.ask(&["device", "export"]).out;
    assert_eq!(csv.lines().count(), 4, "{csv}");
    for format in ["csv", "json"] {
        let elsewhere = Gateway::start();
        let table = elsewhere.file(&format!("fleet.{format}"));
        let written = gateway.json(&["device", "export", "--out", &table]);
        assert_eq!(written["devices"], 3);
        let first = elsewhere.json(&["device", "import", &table]);
        assert_eq!(first, serde_json::json!({ "devices": 3, "created": 3, "known": 0 }), "{format}");
        let again = elsewhere.json(&["device", "import", &table]);
        assert_eq!(again, serde_json::json!({ "devices": 3, "created": 0, "known": 3 }), "{format}");
        assert_eq!(elsewhere.ask(&["device", "export"]).out, csv, "{format}");
        assert_eq!(elsewhere.ask(&["device", "export", "--after", "b"]).out.lines().count(), 2);
    }
}

#[test]
fn a_table_with_an_error_imports_nothing_and_names_line_and_column() {
    let gateway = Gateway::start();
    let table = gateway.file("fleet.csv");
    std::fs::write(&table, "id,proof,public_key\na,plain,\nb,,12\n").unwrap();
    let refused = gateway.ask(&["device", "import", &table]);
    assert_eq!(refused.status, Some(1));
    for word in ["fleet.csv", "line 3", "column public_key", "nothing was imported"] {
        assert!(refused.err.contains(word), "{word}: {}", refused.err);
    }
    assert_eq!(gateway.ask(&["device", "list"]).out, "");
    let unnamed = gateway.ask(&["device", "import", "-"]);
    assert!(unnamed.err.contains("--format"), "{}", unnamed.err);
}

#[test]
fn an_import_leaves_a_revocation_that_the_table_does_not_name() {
    let gateway = Gateway::start();
    let table = gateway.file("fleet.csv");
    std::fs::write(&table, format!("id,public_key\na,{}\n", public_of(&private_key(3)))).unwrap();
    gateway.json(&["device", "import", &table]);
    gateway.json(&["device", "revoke", "a"]);
    gateway.json(&["device", "import", &table]);
    assert_eq!(gateway.json(&["device", "show", "a"])["revoked"], true);
}

#[test]
fn a_qr_code_is_drawn_or_written_and_holds_nothing_secret() {
    let gateway = Gateway::start();
    let flash = gateway.json(&["device", "add", "lamp-17"]);
    let drawn = gateway.ask(&["device", "qr", "lamp-17"]);
    let uri = drawn.out.lines().last().unwrap();
    assert!(uri.starts_with("imlink:lamp-17?tenant=-&current="), "{uri}");
    assert!(uri.contains(flash["public_key"].as_str().unwrap()), "{uri}");
    assert!(!uri.contains(flash["private_key"].as_str().unwrap()), "{uri}");
    assert!(drawn.out.contains('█'), "{}", drawn.out);
    for (name, start) in [("code.svg", &b"<?xml"[..]), ("code.png", &b"\x89PNG"[..])] {
        let path = gateway.file(name);
        let ended = gateway.ask(&["device", "qr", "lamp-17", "--out", &path]);
        assert_eq!(ended.status, Some(0), "{}", ended.err);
        assert!(std::fs::read(&path).unwrap().starts_with(start), "{name}");
    }
}

//! QEMU's monitor: JSON lines over a socket (QMP).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest wait for QEMU to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the monitor of one QEMU.
pub struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to the monitor at `path`, once QEMU has made it.
    ///
    /// # Panics
    /// When there is none within 20 s.
    pub fn connect(path: &Path) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(why) if Instant::now() > deadline => panic!("no monitor at {}: {why}", path.display()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("a time above zero");
        let mut monitor = Self { lines: BufReader::new(stream) };
        monitor.line();
        monitor.execute("qmp_capabilities", json!({}));
        monitor
    }

    /// Has QEMU do `command`; what it returns.
    ///
    /// # Panics
    /// When QEMU refuses or is gone.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let asked = json!({ "execute": command, "arguments": arguments });
        self.lines.get_mut().write_all(format!("{asked}\n").as_bytes()).expect("QEMU listens");
        loop {
            let mut answer = self.line();
            assert_eq!(answer.get("error"), None, "{command} is refused");
            // Events come in between.
            if let Some(returned) = answer.get_mut("return") {
                return returned.take();
            }
        }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("QEMU answers in time");
        assert!(!line.is_empty(), "QEMU is gone");
        serde_json::from_str(&line).expect("QEMU speaks JSON")
    }
}

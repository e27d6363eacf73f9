//! `imlink blob` as a process, and what it is given.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::node::{TOKEN, binary};

/// Longest time that one command may take.
const COMMAND_MAX: Duration = Duration::from_secs(100);

/// Bytes of which each word is another one.
pub fn content(len: u32) -> Vec<u8> {
    (0..len.div_ceil(4)).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).take(len as usize).collect()
}

/// Writes a file and gives its path.
///
/// # Panics
/// When it cannot be written.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file in a temporary folder");
    path.to_str().expect("a path of text").into()
}

/// Runs `imlink blob` with `arguments` against the API at `http`.
///
/// # Panics
/// When it does not end.
pub async fn blob(http: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(binary());
    command.arg("blob").args(arguments).args(["--url", &format!("http://{http}"), "--token", TOKEN]);
    let ended = command.kill_on_drop(true).output();
    tokio::time::timeout(COMMAND_MAX, ended).await.expect("it ends").expect("imlink can be started")
}

/// All that a command printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The JSON that a command printed.
///
/// # Panics
/// When it failed.
pub fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", text(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

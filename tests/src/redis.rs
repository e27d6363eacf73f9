//! A redis-server of the test's own.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::port::Port;
use crate::process::Process;
use crate::wait::eventually;

/// What Redis promises to keep when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// Everything it answered: `appendonly yes`, `appendfsync always`.
    Everything,
}

/// A redis-server on a port of its own, with its folder.
pub struct Redis {
    port: Port,
    // Before the folder: its log is read when it is dropped.
    process: Process,
    folder: tempfile::TempDir,
    keep: Keep,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub async fn start(keep: Keep) -> Self {
        let folder = tempfile::Builder::new().prefix("imlink-redis-").tempdir();
        let folder = folder.expect("a temporary folder");
        let port = Port::free();
        let process = spawn(&port, folder.path(), keep);
        let redis = Self { port, folder, keep, process };
        redis.answers().await;
        redis
    }

    /// Kills it with -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port and folder, and waits until it answers.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.port, self.folder.path(), self.keep);
        self.answers().await;
    }

    /// The process, to be stopped and resumed.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.port.address()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// Settings of a node of the cluster around it: this store, and one state directory, as on one machine.
    pub fn settings(&self) -> [String; 2] {
        [format!("store={}", self.url()), format!("state_dir={}", self.folder.path().join("state").display())]
    }

    /// The raw answer to one command, for tests that look behind imlink's back.
    pub async fn command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.port.address()).await?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(request.as_bytes()).await?;
        stream.write_all(b"*1\r\n$4\r\nQUIT\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Ok(answer.strip_suffix("+OK\r\n").map(Into::into).unwrap_or(answer))
    }

    /// A copy of everything in it, as it lies in a file of its own making: what somebody gets who steals a backup.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn backup(&self) -> Vec<u8> {
        // Uncompressed, so that nothing hides in it.
        for words in [["CONFIG", "SET", "rdbcompression", "no"].as_slice(), &["SAVE"]] {
            let answer = self.command(words).await.expect("Redis answers");
            assert!(answer.starts_with("+OK"), "{words:?}: {answer}");
        }
        std::fs::read(self.folder.path().join("dump.rdb")).expect("the file that SAVE wrote")
    }

    async fn answers(&self) {
        eventually("redis-server answers", Duration::from_secs(20), async || {
            let answer = self.command(&["PING"]).await.ok()?;
            answer.starts_with("+PONG").then_some(())
        })
        .await;
    }
}

fn spawn(port: &Port, folder: &Path, keep: Keep) -> Process {
    let (appendonly, fsync) = match keep {
        Keep::Nothing => ("no", "no"),
        Keep::Everything => ("yes", "always"),
    };
    let number = port.number().to_string();
    let folder_text = folder.to_string_lossy();
    let arguments = [
        "--bind",
        "127.0.0.1",
        "--port",
        &number,
        "--dir",
        &folder_text,
        "--save",
        "",
        "--daemonize",
        "no",
        "--appendonly",
        appendonly,
        "--appendfsync",
        fsync,
        "--maxmemory-policy",
        "noeviction",
        "--loglevel",
        "notice",
    ];
    Process::start("redis-server", Path::new("redis-server"), arguments, &folder.join("redis.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_an_always_syncing_redis_answered_survives_a_kill() {
        let mut redis = Redis::start(Keep::Everything).await;
        assert_eq!(redis.command(&["SET", "k", "v"]).await.unwrap(), "+OK\r\n");
        redis.kill();
        redis.restart().await;
        assert_eq!(redis.command(&["GET", "k"]).await.unwrap(), "$1\r\nv\r\n");
    }
}

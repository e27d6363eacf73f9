//! A child process that cannot outlive its test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::eventually;

/// Lines of a log that are printed when its test fails.
const TAIL: usize = 60;

/// A running child and its log.
///
/// It is killed with -9 and waited for when dropped; if the test itself is killed, the kernel kills the child
/// (by `setpriv --pdeathsig`). When the test fails, the end of the log is printed.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Its output, if nobody reads that.
    unread: Option<std::io::PipeReader>,
}

impl Process {
    /// Starts `program` with `arguments`; what it prints is added to `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start<S: AsRef<std::ffi::OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        log: &Path,
    ) -> Self {
        let out = File::options().create(true).append(true).open(log);
        let out = out.unwrap_or_else(|why| panic!("cannot open {}: {why}", log.display()));
        let errors = out.try_clone().expect("a second handle of an open file");
        Self::spawn(name, program, arguments, [out.into(), errors.into()], log)
    }

    /// Starts `program` with `arguments`, with standard error and output in one pipe that nobody reads.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_unread<S: AsRef<std::ffi::OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let (unread, out) = std::io::pipe().expect("a pipe");
        let errors = out.try_clone().expect("a second handle of an open pipe");
        let mut process = Self::spawn(name, program, arguments, [out.into(), errors.into()], Path::new("/dev/null"));
        process.unread = Some(unread);
        process
    }

    fn spawn<S: AsRef<std::ffi::OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        [out, errors]: [Stdio; 2],
        log: &Path,
    ) -> Self {
        let mut command = Command::new("setpriv");
        // What configures imlink on this machine must not configure the one under test.
        let configuring = |name: &str| name.starts_with("IMLINK_") || name == "RUST_LOG";
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(configuring)) {
            command.env_remove(name);
        }
        let child = command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|why| panic!("cannot start {name} with setpriv (of util-linux): {why}"));
        Self { name: name.into(), child, log: log.into(), unread: None }
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with -9, at once.
    pub fn kill(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM: please leave.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Sends SIGSTOP: it lives, and does nothing.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are below 2^22"));
        kill(pid, signal).unwrap_or_else(|why| panic!("cannot send {signal} to {}: {why}", self.name));
    }

    /// How it ended, `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of this process can be waited for")
    }

    /// Waits for its end.
    pub async fn end(&mut self, within: Duration) -> ExitStatus {
        let what = format!("end of {}", self.name);
        eventually(&what, within, async || self.ended()).await
    }

    /// Resident memory in bytes, 0 when it has ended.
    pub fn memory(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0) * 4096
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default();
            eprintln!("--- the last of {} lines of {} ---", lines.len(), self.name);
            tail.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_child_prints_and_how_it_ends_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let sh = Path::new("/bin/sh");
        let mut child = Process::start("sh", sh, ["-c", "echo out; echo err >&2; exit 3"], &dir.path().join("log"));
        let status = child.end(Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(3));
        assert_eq!(child.log(), "out\nerr\n");
    }

    #[tokio::test]
    async fn a_dropped_child_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let child = Process::start("sleep", Path::new("/bin/sleep"), ["100"], &dir.path().join("log"));
        let proc = PathBuf::from(format!("/proc/{}", child.pid()));
        assert!(proc.exists());
        drop(child);
        assert!(!proc.exists());
    }
}

//! Exit statuses, the same for every command.

use std::process::ExitCode;

/// How a command ended. Part of the interface for scripts: numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Refused or failed; standard error says why.
    Failed = 1,
    /// The command line or the configuration is wrong (clap's own status too).
    Usage = 2,
    /// The gateway or route cannot be reached.
    Unreachable = 3,
    /// `send --wait acked`: stored, and not acknowledged when time was over.
    NotYet = 4,
    /// `send --wait acked`: the message came to another end (rejected, expired, cancelled, failed).
    NotAcked = 5,
    /// A second signal ended it at once.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// For `--help`.
pub(crate) const HELP: &str = "\
Exit status:
  0  done
  1  refused or failed; standard error says why
  2  the command line or the configuration is wrong
  3  the gateway or route cannot be reached
  4  send --wait acked: stored, and not acknowledged when time was over
  5  send --wait acked: rejected, expired, cancelled or failed
  130  a second signal ended it at once";

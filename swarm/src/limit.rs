//! Open files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that a process needs beside its devices.
const OTHER_FILES: u64 = 64;

/// The process may not open enough files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{devices} devices need {needed} open files, this process may open {allowed}: raise the limit with \
     `ulimit -Hn {needed}` (as root) or LimitNOFILE=, or run fewer devices in each of more processes"
)]
pub struct LimitError {
    devices: u32,
    needed: u64,
    allowed: u64,
}

/// Raises the soft limit when the hard one allows it.
pub(crate) fn ensure_open_files(devices: u32) -> Result<(), LimitError> {
    let needed = u64::from(devices) + OTHER_FILES;
    let too_few = |allowed| LimitError { devices, needed, allowed };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|_| too_few(0))?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed || setrlimit(Resource::RLIMIT_NOFILE, needed, hard).is_err() {
        return Err(too_few(hard));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_told_with_what_to_raise() {
        assert_eq!(ensure_open_files(1), Ok(()));
        let error = ensure_open_files(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("need 4294967359 open files") && error.contains("ulimit -Hn 4294967359"), "{error}");
    }
}

//! The state directory: secrets that were made at the first start, and where commands on the same machine
//! find them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use imlink_protocol::hex::Hex;

/// Bytes of a secret before it is written in hexadecimal.
const SECRET_LEN: usize = 32;

/// A secret in the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    /// Bearer token of backends.
    Token,
    /// Secret of the cluster's nodes.
    Cluster,
    /// Private key that devices log in to.
    RouteKey,
    /// The one that follows it.
    RouteKeyNext,
    /// Secrets that fleets share with their routes, by tenant.
    FleetPsk,
    /// What the keys of simulated devices are made of.
    Swarm,
}

impl Secret {
    const fn file(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Cluster => "cluster-secret",
            Self::RouteKey => "route-key",
            Self::RouteKeyNext => "route-key-next",
            Self::FleetPsk => "fleet-psk",
            Self::Swarm => "swarm-secret",
        }
    }
}

/// A directory of mode 0700 for files of mode 0600.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

/// A secret, and whether it was made just now.
pub(crate) struct Found {
    /// The secret.
    pub(crate) text: String,
    /// Where it is kept.
    pub(crate) path: PathBuf,
    /// Made by this call.
    pub(crate) is_new: bool,
}

impl StateDir {
    /// The directory at `path`.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Takes `file` away, if it is there.
    pub(crate) fn remove_file(&self, file: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where it is unless configured: systemd's, the user's, or below the working directory.
    pub(crate) fn default_path(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        if let Some(path) = variable("STATE_DIRECTORY") {
            return path.into();
        }
        if let Some(path) = variable("XDG_STATE_HOME") {
            return Path::new(&path).join("imlink");
        }
        match variable("HOME") {
            Some(home) => Path::new(&home).join(".local/state/imlink"),
            None => "imlink-state".into(),
        }
    }

    /// The secret, if there is one.
    pub(crate) fn read(&self, secret: Secret) -> io::Result<Option<String>> {
        self.read_file(secret.file())
    }

    /// What `file` holds, if there is one.
    pub(crate) fn read_file(&self, file: &str) -> io::Result<Option<String>> {
        match fs::read_to_string(self.0.join(file)) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The secret, made now when there is none. Of several processes that start at once, one makes it.
    pub(crate) fn read_or_make(&self, secret: Secret) -> anyhow::Result<Found> {
        self.read_or_make_file(secret.file(), random_hex)
    }

    /// What `file` holds, made by `make` when there is none.
    pub(crate) fn read_or_make_file(
        &self,
        file_name: &str,
        make: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<Found> {
        let path = self.0.join(file_name);
        let problem = || format!("cannot keep a secret in {} (choose another --state-dir)", path.display());
        if let Some(text) = self.read_file(file_name).with_context(problem)? {
            return Ok(Found { text, path, is_new: false });
        }
        let text = make()?;
        let draft = self.draft(file_name, &text).with_context(problem)?;
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft).with_context(problem)?;
        match linked {
            Ok(()) => Ok(Found { text, path, is_new: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let text = self.read_file(file_name).with_context(problem)?.unwrap_or_default();
                Ok(Found { text, path, is_new: false })
            }
            Err(error) => Err(error).with_context(problem),
        }
    }
}

impl StateDir {
    /// Puts `text` in the place of the secret that is there, at once or not at all.
    pub(crate) fn replace(&self, secret: Secret, text: &str) -> anyhow::Result<()> {
        let path = self.0.join(secret.file());
        let problem = || format!("cannot change the secret in {}", path.display());
        let draft = self.draft(secret.file(), text).with_context(problem)?;
        fs::rename(&draft, &path).with_context(problem)?;
        fs::File::open(&self.0).and_then(|dir| dir.sync_all()).with_context(problem)
    }

    /// Writes `text` to a new file beside the one of that name, readable by its owner only.
    fn draft(&self, file_name: &str, text: &str) -> anyhow::Result<PathBuf> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let draft = self.0.join(format!(".{file_name}-{:016x}", random()?));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        writeln!(file, "{text}").and_then(|()| file.sync_all())?;
        Ok(draft)
    }
}

/// Eight random bytes.
pub(crate) fn random_id() -> anyhow::Result<[u8; 8]> {
    Ok(random()?.to_be_bytes())
}

fn random() -> anyhow::Result<u64> {
    getrandom::u64().map_err(|error| anyhow::anyhow!("no random numbers: {error}"))
}

/// A new secret in hexadecimal.
pub(crate) fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0; SECRET_LEN];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(Hex(&bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        assert_eq!(state.read(Secret::Token).unwrap(), None);
        let first = state.read_or_make(Secret::Token).unwrap();
        let second = state.read_or_make(Secret::Token).unwrap();
        assert!(first.is_new && !second.is_new);
        assert_eq!(first.text, second.text);
        assert_eq!(first.text.len(), 2 * SECRET_LEN);
        assert_eq!(fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(state.read_or_make(Secret::Cluster).unwrap().text, first.text);
    }

    #[test]
    fn a_replaced_secret_is_still_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        let made = state.read_or_make(Secret::RouteKey).unwrap();
        state.replace(Secret::RouteKey, "another").unwrap();
        assert_eq!(state.read(Secret::RouteKey).unwrap().as_deref(), Some("another"));
        assert_eq!(fs::metadata(&made.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn those_that_start_at_once_agree_on_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let make = || StateDir::new(&path).read_or_make(Secret::Cluster).unwrap();
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(found.iter().filter(|found| found.is_new).count(), 1);
        let texts: Vec<_> = found.into_iter().map(|found| found.text).collect();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "no draft is left");
        assert!(texts.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

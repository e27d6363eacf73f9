//! Layers of configuration, each value with where it came from.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;

use toml::{Table, Value};

use super::{Role, Settings};

/// Environment variables that begin with `IMLINK_` and are no keys.
const NOT_KEYS: &[&str] = &["IMLINK_CONFIG", "IMLINK_URL", "IMLINK_TOKEN_FILE", "IMLINK_TENANT", "IMLINK_CA_FILE"];

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {why}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {why}")]
    NotToml {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        why: Box<toml::de::Error>,
    },
    /// There is no such key.
    #[error("{origin} names `{key}`, which is not a key; did you mean `{nearest}`? (`--print-config` lists all)")]
    Unknown {
        /// Where it was named.
        origin: Source,
        /// What was named.
        key: String,
        /// The nearest key.
        nearest: String,
    },
    /// A value is not one that the key takes.
    #[error("{origin} sets `{key}` to a wrong value: {why}")]
    Value {
        /// Where it was set.
        origin: Source,
        /// Which key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A flag of another command.
    #[error("{origin}: `imlink {role}` has no `{key}`; `imlink {role} --print-config` lists what it has")]
    OtherRole {
        /// The flag.
        origin: Source,
        /// Its key.
        key: &'static str,
        /// The command.
        role: &'static str,
    },
    /// `--set` without `=`.
    #[error("--set {0} is not of the form KEY=VALUE")]
    NotAPair(String),
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody set it.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// What a configuration is made from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// The file, if one is named.
    pub(crate) file: Option<PathBuf>,
    /// The environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Flags of their own: key, value.
    pub(crate) flags: Vec<(&'static str, String)>,
    /// `--set` flags: `key=value`.
    pub(crate) set: Vec<String>,
}

/// The configuration that applies, and why.
#[derive(Debug)]
pub(crate) struct Effective {
    /// The values.
    pub(crate) settings: Settings,
    role: Role,
    layers: BTreeMap<String, (Value, Source)>,
}

impl Effective {
    /// Lays `sources` over the defaults.
    pub(crate) fn load(role: Role, defaults: Settings, sources: Sources) -> Result<Self, ConfigError> {
        let mut layers = Layers::new(&defaults);
        if let Some(path) = sources.file {
            layers.add_file(path)?;
        }
        let known: Vec<(String, String)> = layers.values.keys().map(|key| (variable(key), key.clone())).collect();
        let is_key = |name: &str| name.starts_with("IMLINK_") && !NOT_KEYS.contains(&name);
        for (name, text) in sources.environment.into_iter().filter(|(name, _)| is_key(name)) {
            let key = known.iter().find(|(variable, _)| *variable == name).map(|(_, key)| key.clone());
            let key = key.unwrap_or_else(|| name.trim_start_matches("IMLINK_").to_lowercase());
            layers.set_text(&key, text, Source::Environment(name))?;
        }
        for (key, text) in sources.flags {
            let origin = Source::Flag(format!("--{}", key.replace(['_', '.'], "-")));
            // Files and environments may be shared by all nodes of a machine; a flag is meant for this one.
            if !role.uses(key) {
                return Err(ConfigError::OtherRole { origin, key, role: role.name() });
            }
            layers.set_text(key, text, origin)?;
        }
        for pair in sources.set {
            let (key, text) = pair.split_once('=').ok_or_else(|| ConfigError::NotAPair(pair.clone()))?;
            layers.set_text(key.trim(), text.into(), Source::Flag("--set".into()))?;
        }
        Ok(Self { settings: layers.settings().unwrap_or(defaults), role, layers: layers.values })
    }

    /// The configuration as TOML, secrets hidden, with where each value came from.
    pub(crate) fn print(&self) -> String {
        let (inner, outer): (Vec<_>, Vec<_>) =
            self.layers.iter().filter(|(key, _)| self.role.uses(key)).partition(|(key, _)| key.contains('.'));
        let mut text = format!("# imlink {}\n", self.role.name());
        let mut table = "";
        for (key, (value, source)) in outer.into_iter().chain(inner) {
            let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
            if section != table {
                table = section;
                let _ = write!(text, "\n[{section}]\n");
            }
            let is_set = value.as_str() != Some("");
            // A login may be part of the store's address.
            let shown = value.as_str().map(|text| Value::String(without_password(text)));
            let value = shown.as_ref().filter(|_| key == "store").unwrap_or(value);
            let line = match Settings::SECRETS.contains(&key.as_str()) && is_set {
                true => format!("{name} = \"(hidden)\""),
                false => format!("{name} = {value}"),
            };
            let _ = writeln!(text, "{line:<44} # {source}");
        }
        text
    }
}

/// A URL with its login hidden.
pub(crate) fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://(hidden)@{host}"),
        _ => url.into(),
    }
}

/// Keys with their values so far.
struct Layers {
    values: BTreeMap<String, (Value, Source)>,
}

impl Layers {
    fn new(defaults: &Settings) -> Self {
        let mut values = BTreeMap::new();
        // Settings are tables of strings, numbers and booleans, all of which TOML has.
        if let Ok(Value::Table(table)) = Value::try_from(defaults) {
            flatten("", table, &mut |key, value| {
                values.insert(key, (value, Source::Default));
            });
        }
        Self { values }
    }

    fn add_file(&mut self, path: PathBuf) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(&path).map_err(|why| ConfigError::Unreadable { path: path.clone(), why })?;
        let table: Table =
            toml::from_str(&text).map_err(|why| ConfigError::NotToml { path: path.clone(), why: Box::new(why) })?;
        let mut found = Vec::new();
        flatten("", table, &mut |key, value| found.push((key, value)));
        let source = Source::File(path);
        found.into_iter().try_for_each(|(key, value)| self.set(&key, value, source.clone()))
    }

    /// Sets `key` from text, read as what the key's default is.
    fn set_text(&mut self, key: &str, text: String, source: Source) -> Result<(), ConfigError> {
        let wrong = |why: String| ConfigError::Value { origin: source.clone(), key: key.into(), why };
        let value = match self.values.get(key) {
            Some((Value::Integer(_), _)) => {
                let number = text.trim().replace('_', "").parse();
                Value::Integer(number.map_err(|_| wrong(format!("`{text}` is not a whole number")))?)
            }
            Some((Value::Boolean(_), _)) => {
                let answer = text.trim().parse();
                Value::Boolean(answer.map_err(|_| wrong(format!("`{text}` is neither true nor false")))?)
            }
            _ => Value::String(text),
        };
        self.set(key, value, source)
    }

    /// Sets `key` if it exists and takes `value`.
    fn set(&mut self, key: &str, value: Value, source: Source) -> Result<(), ConfigError> {
        let Some(slot) = self.values.get_mut(key) else {
            return Err(ConfigError::Unknown {
                origin: source,
                key: key.into(),
                nearest: nearest(key, self.values.keys()),
            });
        };
        *slot = (value, source.clone());
        self.settings().map(drop).map_err(|why| ConfigError::Value {
            origin: source,
            key: key.into(),
            why: why.message().trim().into(),
        })
    }

    fn settings(&self) -> Result<Settings, toml::de::Error> {
        let mut root = Table::new();
        for (key, (value, _)) in &self.values {
            match key.split_once('.') {
                None => {
                    root.insert(key.clone(), value.clone());
                }
                Some((section, name)) => {
                    let inner = root.entry(section).or_insert_with(|| Value::Table(Table::new()));
                    if let Value::Table(inner) = inner {
                        inner.insert(name.into(), value.clone());
                    }
                }
            }
        }
        Value::Table(root).try_into()
    }
}

/// The environment variable of a key.
fn variable(key: &str) -> String {
    format!("IMLINK_{}", key.replace('.', "_").to_uppercase())
}

fn flatten(prefix: &str, table: Table, found: &mut impl FnMut(String, Value)) {
    for (name, value) in table {
        match value {
            Value::Table(inner) if prefix.is_empty() => flatten(&format!("{name}."), inner, found),
            value => found(format!("{prefix}{name}"), value),
        }
    }
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> String {
    known.min_by_key(|known| strsim::damerau_levenshtein(key, known)).cloned().unwrap_or_default()
}

//! The settings of `coordinator run`: one TOML file, environment, flags, in that order of precedence.
//!
//! [`KEYS`] is the only place where a key is named with its default; every value is checked against
//! it before a port is bound, and knows where it came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod show;
#[cfg(test)]
mod tests;

pub(crate) use show::show;

/// Environment variables: the key in upper case, `.` as `_`.
pub(crate) const ENVIRONMENT_PREFIX: &str = "OTTLA_COORDINATOR_";

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A whole number within bounds, both inclusive.
    Int { min: i64, max: i64 },
    /// `true` or `false`.
    Flag,
    /// Any text.
    Text,
    /// `HOST:PORT`.
    Address,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
    pub(crate) default: &'static str,
    pub(crate) doc: &'static str,
}

/// Every key, in the order `config show` prints them.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "listen",
        takes: Takes::Address,
        default: "127.0.0.1:9097",
        doc: "Where the Admin service listens; port 0 picks a free one.",
    },
    Key {
        name: "advertise",
        takes: Takes::Text,
        default: "",
        doc: "HOST:PORT under which brokers reach this coordinator; empty: the address it listens on.",
    },
    Key {
        name: "zookeeper.connect",
        takes: Takes::Text,
        default: "127.0.0.1:2181/ottla",
        doc: "The registry: HOST:PORT, or several separated by commas, and a chroot.",
    },
    Key {
        name: "zookeeper.session.timeout.ms",
        takes: Takes::Int { min: 100, max: 600_000 },
        default: "6000",
        doc: "Milliseconds after which a silent coordinator is taken for dead and another one takes over; the registry may grant another value.",
    },
    Key {
        name: "num.partitions",
        takes: Takes::Int { min: 1, max: 10_000 },
        default: "1",
        doc: "Partitions of a topic whose creator names no number.",
    },
    Key {
        name: "default.replication.factor",
        takes: Takes::Int { min: 1, max: 32_767 },
        default: "1",
        doc: "Replicas of each partition of a topic whose creator names no number; so many brokers must be live then. 3 outlives the loss of one machine without a pause, with min.insync.replicas 2.",
    },
    Key {
        name: "min.insync.replicas",
        takes: Takes::Int { min: 1, max: 2_147_483_647 },
        default: "1",
        doc: "For topics that do not override it: a replica that died and so left fewer than this number in sync may still be elected (KIP-966). Give the value that the brokers have; with a smaller one a partition may wait longer for a leader.",
    },
    Key {
        name: "unclean.leader.election.enable",
        takes: Takes::Flag,
        default: "false",
        doc: "For topics that do not override it: whether a replica that is not in sync may lead when no other is left. The partition works again, and acknowledged messages may be lost.",
    },
    Key {
        name: "auto.leader.rebalance.enable",
        takes: Takes::Flag,
        default: "true",
        doc: "Whether leadership goes back to the preferred leaders (the first replicas) by itself, once they are live and in sync.",
    },
    Key {
        name: "leader.imbalance.check.interval.seconds",
        takes: Takes::Int { min: 1, max: 2_147_483_647 },
        default: "300",
        doc: "Seconds between two looks at whether leadership is out of balance.",
    },
    Key {
        name: "leader.imbalance.per.broker.percentage",
        takes: Takes::Int { min: 0, max: 100 },
        default: "10",
        doc: "Percent of the partitions preferring a broker that others may lead before they go back to it.",
    },
    Key {
        name: "max.connections",
        takes: Takes::Int { min: 1, max: 100_000 },
        default: "1000",
        doc: "Connections to the Admin service at once; more are closed at once.",
    },
];

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingError {
    #[error("cannot read the configuration file {}: {source}; check the path given with --config", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not valid TOML: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("unknown key `{name}` in {origin}{}; `coordinator config show` lists every key", did_you_mean(*.nearest))]
    Unknown { name: String, origin: Origin, nearest: Option<&'static str> },
    #[error("`{name} = {value}` in {origin} is not valid: {expected}")]
    Value { name: &'static str, value: String, origin: Origin, expected: String },
    #[error("`--set {0}` is not KEY=VALUE")]
    NotAnAssignment(String),
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(": did you mean `{name}`?"))
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "the environment ({name})"),
            Self::Flag => f.write_str("the command line"),
        }
    }
}

/// Checked values by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    set: BTreeMap<&'static str, (String, Origin)>,
}

impl Settings {
    /// Sets a key after checking it; a later call wins.
    pub(crate) fn set(
        &mut self,
        name: &str,
        value: &str,
        origin: Origin,
    ) -> Result<(), SettingError> {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            let nearest = nearest(name);
            return Err(SettingError::Unknown { name: name.to_owned(), origin, nearest });
        };
        if let Err(expected) = check(key.takes, value) {
            let value = value.to_owned();
            return Err(SettingError::Value { name: key.name, value, origin, expected });
        }
        self.set.insert(key.name, (value.to_owned(), origin));
        Ok(())
    }

    /// Takes every key of a TOML file; tables and dotted keys are the same thing.
    pub(crate) fn read_file(&mut self, path: &Path) -> Result<(), SettingError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingError::Read { path: path.to_owned(), source })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            SettingError::Syntax { path: path.to_owned(), message: error.to_string() }
        })?;
        self.read_table("", &table, path)
    }

    fn read_table(
        &mut self,
        prefix: &str,
        table: &toml::Table,
        path: &Path,
    ) -> Result<(), SettingError> {
        for (name, value) in table {
            let name = format!("{prefix}{name}");
            match value {
                toml::Value::Table(inner) => {
                    self.read_table(&format!("{name}."), inner, path)?;
                }
                toml::Value::String(text) => self.set(&name, text, Origin::File(path.into()))?,
                other => self.set(&name, &other.to_string(), Origin::File(path.into()))?,
            }
        }
        Ok(())
    }

    /// Takes every variable that begins with [`ENVIRONMENT_PREFIX`].
    pub(crate) fn read_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), SettingError> {
        for (variable, value) in variables {
            let Some(suffix) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let name = suffix.to_ascii_lowercase().replace('_', ".");
            self.set(&name, &value, Origin::Environment(variable))?;
        }
        Ok(())
    }

    /// Takes a `KEY=VALUE` of the command line.
    pub(crate) fn read_assignment(&mut self, text: &str) -> Result<(), SettingError> {
        let (name, value) =
            text.split_once('=').ok_or_else(|| SettingError::NotAnAssignment(text.to_owned()))?;
        self.set(name.trim(), value.trim(), Origin::Flag)
    }

    /// The value of a key: what was set, else its default.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.set.get(name) {
            Some((value, _)) => value,
            None => KEYS.iter().find(|key| key.name == name).map_or("", |key| key.default),
        }
    }

    /// A whole number; it was checked when it was set.
    pub(crate) fn int(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// A number of milliseconds.
    pub(crate) fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.int(name).unsigned_abs())
    }

    /// Where the value of a key came from.
    pub(crate) fn origin(&self, name: &str) -> Origin {
        self.set.get(name).map_or(Origin::Default, |(_, origin)| origin.clone())
    }
}

/// The key that was probably meant.
fn nearest(name: &str) -> Option<&'static str> {
    let distances = KEYS.iter().map(|key| (strsim::damerau_levenshtein(key.name, name), key.name));
    distances.min().filter(|(distance, _)| *distance <= 4).map(|(_, name)| name)
}

/// Says what would fit when `value` does not.
fn check(takes: Takes, value: &str) -> Result<(), String> {
    match takes {
        Takes::Int { min, max } => match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            _ => Err(format!("a whole number from {min} to {max} is expected")),
        },
        Takes::Flag if matches!(value, "true" | "false") => Ok(()),
        Takes::Flag => Err("true or false is expected".to_owned()),
        Takes::Text => Ok(()),
        Takes::Address => match value.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
            _ => Err("HOST:PORT is expected, port 0 for any free one".to_owned()),
        },
    }
}

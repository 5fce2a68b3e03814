//! Where values come from: a TOML file, then the environment, then flags; the last one wins.
//!
//! Every value is checked against the table of keys before it is used, and knows where it came
//! from, so that an error names the file or the variable to correct.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::keys::{self, Key, Kind};
use super::listeners;

/// Environment variables of the broker: the key in upper case, `.` as `_`.
pub const ENVIRONMENT_PREFIX: &str = "OTTLA_BROKER_";

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}; check the path given with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// No such key.
    #[error("unknown key `{name}` in {origin}{}; `broker config show` lists every key", did_you_mean(.nearest))]
    Unknown {
        /// The name as written.
        name: String,
        /// Where.
        origin: Origin,
        /// A known name like it.
        nearest: Option<&'static str>,
    },
    /// The value does not fit the key.
    #[error("`{name} = {value}` in {origin} is not valid: {expected}")]
    Value {
        /// The key.
        name: &'static str,
        /// The value as written.
        value: String,
        /// Where.
        origin: Origin,
        /// What would fit.
        expected: String,
    },
    /// `--set` without `=`.
    #[error("`--set {0}` is not KEY=VALUE")]
    NotAnAssignment(String),
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(": did you mean `{name}`?"))
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The subcommand set it (`broker dev`).
    Command,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::Command => f.write_str("the command"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "the environment ({name})"),
            Self::Flag => f.write_str("the command line"),
        }
    }
}

/// Checked values by key.
#[derive(Debug, Clone, Default)]
pub struct Values {
    set: BTreeMap<&'static str, (String, Origin)>,
}

impl Values {
    /// Sets a key after checking it; a later call wins.
    pub fn set(&mut self, name: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
        let Some(key) = keys::find(name) else {
            let nearest = keys::nearest(name);
            return Err(ConfigError::Unknown { name: name.to_owned(), origin, nearest });
        };
        if let Err(expected) = check(key, value) {
            let value = value.to_owned();
            return Err(ConfigError::Value { name: key.name, value, origin, expected });
        }
        self.set.insert(key.name, (value.to_owned(), origin));
        Ok(())
    }

    /// Takes every key of a TOML file; tables and dotted keys are the same thing.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let message = error.to_string();
            let hint = match message.contains("cannot extend value") {
                true => "; write the longer of two keys in quotes, as in \"max.connections.per.ip\" = 100",
                false => "",
            };
            ConfigError::Syntax { path: path.to_owned(), message: format!("{}{hint}", message.trim_end()) }
        })?;
        self.read_table("", &table, path)
    }

    fn read_table(
        &mut self,
        prefix: &str,
        table: &toml::Table,
        path: &Path,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let name = format!("{prefix}{name}");
            let text = match value {
                toml::Value::Table(inner) => {
                    self.read_table(&format!("{name}."), inner, path)?;
                    continue;
                }
                toml::Value::String(text) => text.clone(),
                toml::Value::Array(items) => {
                    let items: Vec<_> = items
                        .iter()
                        .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                        .collect();
                    items.join(",")
                }
                other => other.to_string(),
            };
            self.set(&name, &text, Origin::File(path.to_owned()))?;
        }
        Ok(())
    }

    /// Takes every variable that begins with [`ENVIRONMENT_PREFIX`].
    pub fn read_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            let Some(suffix) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let name = suffix.to_ascii_lowercase().replace('_', ".");
            self.set(&name, &value, Origin::Environment(variable))?;
        }
        Ok(())
    }

    /// Takes a `KEY=VALUE` of the command line.
    pub fn read_assignment(&mut self, text: &str) -> Result<(), ConfigError> {
        let (name, value) =
            text.split_once('=').ok_or_else(|| ConfigError::NotAnAssignment(text.to_owned()))?;
        self.set(name.trim(), value.trim(), Origin::Flag)
    }

    /// The value of a key of the table: what was set, else its default.
    pub(crate) fn text(&self, name: &'static str) -> &str {
        match self.set.get(name) {
            Some((value, _)) => value,
            None => keys::find(name).map_or("", |key| key.default),
        }
    }

    /// A whole number. Values are checked when they are set, so this cannot fail for an `Int` key.
    pub(crate) fn int(&self, name: &'static str) -> i64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// A number from 0 to 1.
    pub(crate) fn ratio(&self, name: &'static str) -> f64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// A number of milliseconds.
    pub(crate) fn millis(&self, name: &'static str) -> std::time::Duration {
        std::time::Duration::from_millis(self.int(name).max(0).unsigned_abs())
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &'static str) -> bool {
        self.text(name) == "true"
    }

    /// A list of paths.
    pub(crate) fn paths(&self, name: &'static str) -> Vec<PathBuf> {
        self.text(name)
            .split(',')
            .map(str::trim)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .collect()
    }

    /// Where the value of a key came from.
    pub(crate) fn origin(&self, name: &str) -> Origin {
        self.set.get(name).map_or(Origin::Default, |(_, origin)| origin.clone())
    }
}

/// Says what would fit when `value` does not.
pub(super) fn check(key: &Key, value: &str) -> Result<(), String> {
    match key.kind {
        Kind::Int { min, max } => match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            _ if max == i64::MAX => Err(format!("a whole number from {min} is expected")),
            _ => Err(format!("a whole number from {min} to {max} is expected")),
        },
        Kind::Ratio if value.parse::<f64>().is_ok_and(|n| (0.0..=1.0).contains(&n)) => Ok(()),
        Kind::Ratio => Err("a number from 0 to 1 is expected".to_owned()),
        Kind::Bool if matches!(value, "true" | "false") => Ok(()),
        Kind::Bool => Err("true or false is expected".to_owned()),
        Kind::Choice(words) if words.contains(&value) => Ok(()),
        Kind::Choice(words) => Err(format!("one of {} is expected", words.join(", "))),
        Kind::Text => Ok(()),
        Kind::Address => match value.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
            _ => Err("HOST:PORT is expected, port 0 for any free one".to_owned()),
        },
        Kind::Listeners => listeners::check(value),
        Kind::Paths if value.split(',').any(|path| !path.trim().is_empty()) => Ok(()),
        Kind::Paths => Err("at least one directory is expected".to_owned()),
    }
}

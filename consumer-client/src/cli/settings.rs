//! Settings from a file, then the environment, then flags; the last one wins.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use consumer_client::{ConsumerConfig, KEYS};

use super::args::SettingArgs;

/// Environment variables of settings: this and the key in upper case, `.` as `_`.
const ENVIRONMENT_PREFIX: &str = "OTTLA_CONSUMER_";
/// Not a setting: names the file.
const ENVIRONMENT_CONFIG: &str = "OTTLA_CONSUMER_CONFIG";

/// The configuration and, by key, what set it.
pub(crate) struct Loaded {
    pub(crate) config: ConsumerConfig,
    origins: BTreeMap<String, String>,
}

/// What the consumer runs with.
pub(crate) fn load(args: &SettingArgs) -> Result<Loaded> {
    let loaded = load_all(args, std::env::vars())?;
    loaded.config.validate()?;
    Ok(loaded)
}

fn load_all(
    args: &SettingArgs,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded> {
    let mut loaded = Loaded { config: ConsumerConfig::default(), origins: BTreeMap::new() };
    if let Some(path) = &args.config {
        for (key, value) in read_file(path)? {
            loaded.set(&key, &value, path.display().to_string())?;
        }
    }
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        if variable != ENVIRONMENT_CONFIG {
            let key = name.to_ascii_lowercase().replace('_', ".");
            loaded.set(&key, &value, format!("the environment ({variable})"))?;
        }
    }
    let flags = [
        ("bootstrap.servers", &args.bootstrap_server),
        ("group.id", &args.group),
        ("membership", &args.membership),
    ];
    for (key, value) in flags {
        if let Some(value) = value {
            loaded.set(key, value, "the command line".into())?;
        }
    }
    for assignment in &args.set {
        let Some((key, value)) = assignment.split_once('=') else {
            bail!("`--set {assignment}` is not KEY=VALUE");
        };
        loaded.set(key.trim(), value, "the command line".into())?;
    }
    Ok(loaded)
}

impl Loaded {
    fn set(&mut self, key: &str, value: &str, origin: String) -> Result<()> {
        self.config.set(key, value).with_context(|| format!("in {origin}"))?;
        self.origins.insert(key.into(), origin);
        Ok(())
    }

    /// Sets what nobody has said otherwise.
    pub(crate) fn prefer(&mut self, key: &str, value: &str) -> Result<()> {
        if !self.origins.contains_key(key) {
            self.config.set(key, value)?;
        }
        Ok(())
    }
}

/// The keys of a TOML file with their values as text; tables and dotted keys are the same thing.
fn read_file(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings file {}", path.display()))?;
    let table: toml::Table =
        text.parse().with_context(|| format!("{} is not valid TOML", path.display()))?;
    let mut settings = Vec::new();
    flatten("", &table, &mut settings);
    Ok(settings)
}

fn flatten(prefix: &str, table: &toml::Table, into: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            toml::Value::Table(inner) => flatten(&format!("{key}."), inner, into),
            other => into.push((key, text_of(other))),
        }
    }
}

fn text_of(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Prints every setting as a file for `--config`.
pub(crate) fn show(args: &SettingArgs) -> Result<()> {
    let loaded = load_all(args, std::env::vars())?;
    print!("{}", as_file(&loaded));
    Ok(loaded.config.validate()?)
}

fn as_file(loaded: &Loaded) -> String {
    let mut out = String::from(
        "# Settings of the Ottla consumer. A key that is commented out has the value shown, its\n\
         # default. The environment (OTTLA_CONSUMER_ and the key in upper case, `.` as `_`) overrides\n\
         # this file, flags override both.\n",
    );
    let defaults = ConsumerConfig::default();
    for key in KEYS {
        let value = literal(&(key.get)(&loaded.config));
        let bounds =
            if key.bounds.is_empty() { String::new() } else { format!(": {}", key.bounds) };
        out.push_str(&format!("\n# {}\n# {}{bounds}.", key.doc, key.unit));
        match loaded.origins.get(key.name) {
            None => out.push_str(&format!("\n#{} = {value}\n", key.name)),
            Some(origin) => {
                let default = literal(&(key.get)(&defaults));
                let name = key.name;
                out.push_str(&format!(" Set by {origin}; default {default}.\n{name} = {value}\n"));
            }
        }
    }
    out
}

fn literal(value: &str) -> String {
    match (value.parse::<u64>(), value.parse::<bool>()) {
        (Err(_), Err(_)) => toml::Value::String(value.into()).to_string(),
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_environment_and_flags_override_one_another_in_this_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("consumer.toml");
        let file = "fetch.min.bytes = 1\n[queued.max]\nbytes = 3000000\n\
                    [bootstrap]\nservers = [\"a:1\", \"b:2\"]\n";
        let mut out = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut out, file.as_bytes()).unwrap();
        let environment = [
            ("OTTLA_CONSUMER_FETCH_MIN_BYTES".into(), "2".into()),
            ("OTTLA_CONSUMER_GROUP_ID".into(), "from-environment".into()),
            ("OTTLA_CONSUMER_CONFIG".into(), "ignored here".into()),
        ];
        let args = SettingArgs {
            config: Some(path),
            group: Some("g".into()),
            set: vec!["fetch.min.bytes=3".into()],
            ..SettingArgs::default()
        };
        let mut loaded = load_all(&args, environment.into_iter()).unwrap();
        loaded.prefer("fetch.min.bytes", "9").unwrap();
        loaded.prefer("client.id", "me").unwrap();
        let config = &loaded.config;
        assert_eq!(config.bootstrap_servers, ["a:1", "b:2"]);
        assert_eq!((config.fetch_min_bytes, config.queued_max_bytes), (3, 3_000_000));
        assert_eq!((config.group_id.as_deref(), &*config.client_id), (Some("g"), "me"));
    }

    #[test]
    fn a_wrong_key_names_its_origin_and_the_right_one() {
        let environment = [("OTTLA_CONSUMER_FETCH_MIN_BYTE".into(), "2".into())];
        let error = load_all(&SettingArgs::default(), environment.into_iter()).err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("FETCH_MIN_BYTE)") && text.contains("`fetch.min.bytes`"), "{text}");
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let args = SettingArgs { set: vec!["fetch.min.bytes=7".into()], ..SettingArgs::default() };
        let shown = as_file(&load_all(&args, std::iter::empty()).unwrap());
        assert!(shown.contains("\nfetch.min.bytes = 7\n"), "{shown}");
        let uncommented: String = shown
            .lines()
            .map(|line| line.strip_prefix('#').filter(|r| !r.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let table: toml::Table = uncommented.parse().unwrap();
        let mut settings = Vec::new();
        flatten("", &table, &mut settings);
        assert_eq!(settings.len(), KEYS.len());
        let mut config = ConsumerConfig::default();
        settings.iter().for_each(|(key, value)| config.set(key, value).unwrap());
    }
}

//! Settings from a file, then the environment, then flags; the last one wins.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use producer_client::ProducerConfig;
use producer_client::config::KEYS;

use super::args::SettingArgs;

/// Environment variables of settings: this and the key in upper case, `.` as `_`.
const ENVIRONMENT_PREFIX: &str = "OTTLA_PRODUCER_";
/// Not a setting: names the file.
const ENVIRONMENT_CONFIG: &str = "OTTLA_PRODUCER_CONFIG";

/// The configuration and, by key, what set it.
struct Loaded {
    config: ProducerConfig,
    origins: BTreeMap<String, String>,
}

/// What the producer runs with.
pub(crate) fn load(args: &SettingArgs) -> Result<ProducerConfig> {
    let loaded = load_all(args, std::env::vars())?;
    loaded.config.validate()?;
    Ok(loaded.config)
}

fn load_all(
    args: &SettingArgs,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded> {
    let mut loaded = Loaded { config: ProducerConfig::default(), origins: BTreeMap::new() };
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
        ("acks", &args.acks),
        ("linger.ms", &args.linger_ms),
        ("batch.size", &args.batch_size),
        ("compression.type", &args.compression_codec),
        ("partitioner", &args.partitioner),
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
        "# Settings of the Ottla producer. A key that is commented out has the value shown, its\n\
         # default. The environment (OTTLA_PRODUCER_ and the key in upper case, `.` as `_`) overrides\n\
         # this file, flags override both.\n",
    );
    let defaults = ProducerConfig::default();
    for key in KEYS {
        let value = literal(&(key.get)(&loaded.config));
        let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
        out.push_str(&format!("\n# {}.\n# {}{unit}.", key.doc, key.bounds));
        match loaded.origins.get(key.name) {
            None => out.push_str(&format!("\n#{} = {value}\n", key.name)),
            Some(origin) => {
                let default = literal(&(key.get)(&defaults));
                out.push_str(&format!(
                    " Set by {origin}; default {default}.\n{} = {value}\n",
                    key.name
                ));
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

    fn no_environment() -> std::iter::Empty<(String, String)> {
        std::iter::empty()
    }

    #[test]
    fn file_environment_and_flags_override_one_another_in_this_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("producer.toml");
        let file = "linger.ms = 1\nacks = \"1\"\n[batch]\nsize = 1000\n\
                    [bootstrap]\nservers = [\"a:1\", \"b:2\"]\n";
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), file.as_bytes())
            .unwrap();
        let environment = [
            ("OTTLA_PRODUCER_LINGER_MS".into(), "2".into()),
            ("OTTLA_PRODUCER_BATCH_SIZE".into(), "2000".into()),
            ("OTTLA_PRODUCER_CONFIG".into(), "ignored here".into()),
        ];
        let args = SettingArgs {
            config: Some(path),
            set: vec!["linger.ms=3".into()],
            ..SettingArgs::default()
        };
        let loaded = load_all(&args, environment.into_iter()).unwrap();
        let config = &loaded.config;
        assert_eq!(config.bootstrap_servers, ["a:1", "b:2"]);
        assert_eq!(config.acks, producer_client::Acks::Leader);
        assert_eq!((config.linger.as_millis(), config.batch_size), (3, 2000));
    }

    #[test]
    fn a_wrong_key_names_its_origin_and_the_right_one() {
        let environment = [("OTTLA_PRODUCER_LINGER".into(), "2".into())];
        let error = load_all(&SettingArgs::default(), environment.into_iter()).err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("OTTLA_PRODUCER_LINGER") && text.contains("`linger.ms`"), "{text}");
        let args = SettingArgs { set: vec!["acks".into()], ..SettingArgs::default() };
        assert!(load_all(&args, no_environment()).is_err());
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let args = SettingArgs { set: vec!["linger.ms=7".into()], ..SettingArgs::default() };
        let shown = as_file(&load_all(&args, no_environment()).unwrap());
        assert!(shown.contains("\nlinger.ms = 7\n") && shown.contains("\n#batch.size = 65536\n"));
        let uncommented: String = shown
            .lines()
            .map(|line| {
                line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let table: toml::Table = uncommented.parse().unwrap();
        let mut settings = Vec::new();
        flatten("", &table, &mut settings);
        assert_eq!(settings.len(), KEYS.len());
        let mut config = ProducerConfig::default();
        settings.iter().for_each(|(key, value)| config.set(key, value).unwrap());
    }
}

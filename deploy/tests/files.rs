//! The files of this folder are the real ones: the executables accept every configuration and every
//! command line that the compose file and the units name.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_yaml_ng::Value;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn executable(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("OTTLA_BIN") {
        Some(dir) => PathBuf::from(dir),
        // target/debug/deps/files-…
        None => {
            std::env::current_exe()?.parent().and_then(Path::parent).context("a folder")?.into()
        }
    };
    let path = dir.join(name);
    ensure!(path.exists(), "{} is missing: `cargo build` makes it", path.display());
    Ok(path)
}

/// Lets an executable load its settings as `run` would with these arguments; what it prints.
fn settings(name: &str, arguments: &[String]) -> Result<String> {
    let output = Command::new(executable(name)?)
        .args(["config", "show"])
        .args(arguments)
        .env_clear()
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} config show {arguments:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The arguments after `run`, with installed paths replaced by this folder's.
fn arguments_of_run(command: &[String]) -> Result<Vec<String>> {
    ensure!(command.get(1).is_some_and(|word| word == "run"), "{command:?} does not run anything");
    let config = folder().join("config");
    Ok(command[2..]
        .iter()
        .map(|argument| argument.replace("/etc/ottla", &config.display().to_string()))
        .collect())
}

/// Checks one command line of a broker or coordinator; the settings it would run with.
fn check_command(command: &[String]) -> Result<String> {
    let name = command[0].rsplit('/').next().unwrap_or_default();
    let mut arguments = arguments_of_run(command)?;
    if name == "coordinator" {
        // `config show` takes the file; `--advertise` is checked by `run` itself.
        if let Some(at) = arguments.iter().position(|argument| argument == "--advertise") {
            let address = arguments.get(at + 1).context("--advertise needs an address")?;
            ensure!(address.contains(':'), "--advertise {address}: no port");
            arguments.drain(at..at + 2);
        }
    }
    settings(name, &arguments)
}

fn compose() -> Result<Value> {
    let text = std::fs::read_to_string(folder().join("compose.yaml"))?;
    let mut compose: Value = serde_yaml_ng::from_str(&text)?;
    compose.apply_merge()?;
    Ok(compose)
}

fn words(value: &Value) -> Result<Vec<String>> {
    let list = value.as_sequence().context("a list of words")?;
    list.iter().map(|word| Ok(word.as_str().context("a word")?.to_owned())).collect()
}

#[test]
fn the_compose_file_runs_what_exists_with_settings_that_parse() -> Result<()> {
    let compose = compose()?;
    let services = compose["services"].as_mapping().context("services")?;
    let mut kinds = std::collections::BTreeMap::new();
    for (name, service) in services {
        let name = name.as_str().context("a name")?;
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        *kinds.entry(kind.to_owned()).or_insert(0) += 1;
        let health = &service["healthcheck"]["test"];
        ensure!(health.is_sequence(), "{name} has no healthcheck");
        if kind == "zookeeper" {
            continue;
        }
        let shown = check_command(&words(&service["command"])?).context(name.to_owned())?;
        ensure!(
            shown
                .lines()
                .any(|line| line.starts_with("zookeeper.connect") && line.contains("zookeeper-1")),
            "{name} does not use the ensemble of the compose file:\n{shown}"
        );
        for dependency in ["zookeeper-1", "zookeeper-2", "zookeeper-3"] {
            ensure!(!service["depends_on"][dependency].is_null(), "{name} starts too early");
        }
    }
    let expected = [("broker", 3), ("coordinator", 2), ("zookeeper", 3)];
    ensure!(kinds == expected.map(|(kind, count)| (kind.to_owned(), count)).into(), "{kinds:?}");
    Ok(())
}

#[test]
fn every_volume_that_is_mounted_is_declared() -> Result<()> {
    let compose = compose()?;
    for (name, service) in compose["services"].as_mapping().context("services")? {
        let Some(volumes) = service["volumes"].as_sequence() else { continue };
        for volume in volumes {
            let volume = volume.as_str().context("a volume")?.split(':').next().unwrap_or_default();
            ensure!(compose["volumes"].get(volume).is_some(), "{name:?}: no volume {volume}");
        }
    }
    Ok(())
}

#[test]
fn the_healthchecks_ask_the_ports_of_the_configuration() -> Result<()> {
    let compose = compose()?;
    let test = |service: &str| -> Result<String> {
        Ok(words(&compose["services"][service]["healthcheck"]["test"])?.join(" "))
    };
    let broker = std::fs::read_to_string(folder().join("config/broker.toml"))?;
    ensure!(
        broker.contains("listen.http = \"0.0.0.0:9095\"") && test("broker-1")?.contains("/9095")
    );
    let coordinator = std::fs::read_to_string(folder().join("config/coordinator.toml"))?;
    ensure!(coordinator.contains(":9097\"") && test("coordinator-1")?.contains("/9097"));
    Ok(())
}

#[test]
fn the_units_run_what_exists_with_settings_that_parse() -> Result<()> {
    for unit in ["ottla-broker.service", "ottla-coordinator.service"] {
        let text = std::fs::read_to_string(folder().join("systemd").join(unit))?;
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart="));
        let command: Vec<String> =
            line.context("ExecStart")?.split_whitespace().map(str::to_owned).collect();
        check_command(&command).context(unit)?;
    }
    Ok(())
}

#[test]
fn the_client_samples_parse() -> Result<()> {
    for name in ["producer", "consumer"] {
        let file = folder().join("config").join(format!("{name}.toml"));
        let shown = settings(name, &["--config".to_owned(), file.display().to_string()])?;
        ensure!(shown.contains("broker-1:9094"), "{name}: {shown}");
    }
    Ok(())
}

#[test]
fn the_dockerfile_copies_what_exists() -> Result<()> {
    let text = std::fs::read_to_string(folder().join("Dockerfile"))?;
    for name in ["broker", "coordinator", "producer", "consumer"] {
        ensure!(text.contains(&format!("target/release/{name}")), "{name} is not in the image");
        executable(name)?;
    }
    ensure!(folder().join("config").is_dir() && text.contains("COPY deploy/config/ /etc/ottla/"));
    Ok(())
}

//! What must be on the machine: `integration-tests/foreign-clients` fetches it, or says why it cannot.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Options;
use crate::system::System;

/// Where everything is that could be had.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    /// The Go program with everybody's clients.
    clients: Option<PathBuf>,
    /// By the name that `foreign-clients` has for them.
    servers: HashMap<&'static str, PathBuf>,
}

impl Programs {
    pub(crate) fn clients(&self) -> Result<&Path> {
        self.clients.as_deref().context("the clients were not installed")
    }

    pub(crate) fn server(&self, system: System) -> Result<&Path> {
        let server = system.server().and_then(|server| self.servers.get(server));
        server.map(PathBuf::as_path).with_context(|| format!("{} was not installed", system.name()))
    }

    /// Whether all of it is there.
    pub(crate) fn has(&self, system: System) -> bool {
        (system.protocol().is_none() || self.clients.is_some())
            && system.server().is_none_or(|server| self.servers.contains_key(server))
    }
}

/// Installs what the systems of a run need; those that must be left out, and why.
pub(crate) fn programs(options: &Options) -> (Programs, Vec<(System, String)>) {
    let mut programs = Programs::default();
    let mut skipped = Vec::new();
    let mut tried: HashMap<&str, Result<PathBuf, String>> = HashMap::new();
    for system in System::all() {
        if !options.only.is_empty() && !options.only.contains(&system) {
            continue;
        }
        if options.durable && system == System::Rabbitmq {
            let reason = "its streams have no fsync before the confirmation".to_owned();
            skipped.push((system, reason));
            continue;
        }
        let clients = system.protocol().map(|_| "peers");
        let needed = [clients, system.server()].into_iter().flatten();
        let failed = needed.filter_map(|what| {
            let path = tried
                .entry(what)
                .or_insert_with(|| install(what).map_err(|error| format!("{error:#}")));
            match path {
                Ok(path) if what == "peers" => programs.clients = Some(path.clone()),
                Ok(path) => drop(programs.servers.insert(what, path.clone())),
                Err(reason) => return Some(reason.clone()),
            }
            None
        });
        let reasons: Vec<String> = failed.collect();
        if !reasons.is_empty() {
            let command =
                system.server().map_or("peers".to_owned(), |server| format!("{server} and peers"));
            skipped.push((
                system,
                format!(
                    "{} (integration-tests/foreign-clients install {command})",
                    reasons.join("; ")
                ),
            ));
        }
    }
    (programs, skipped)
}

fn install(what: &str) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign-clients");
    let output = Command::new(&script).args(["install", what]).output();
    let output = output.with_context(|| format!("running {}", script.display()))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}", error.trim().lines().next_back().unwrap_or("it does not say why"));
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(PathBuf::from(text.trim()))
}

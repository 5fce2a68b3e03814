//! The machine, what else it does, and the versions of everybody: part of every result.

use std::process::Command;

use serde_json::{Value, json};

use crate::install::Programs;
use crate::system::System;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

pub(crate) fn describe(congestion: &Value, programs: &Programs) -> Value {
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let systems: Vec<Value> = System::all()
        .filter(|system| programs.has(*system))
        .map(|system| {
            json!({
                "system": system, "version": version(system, programs), "client": system.client(),
            })
        })
        .collect();
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_kib": total.trim().trim_end_matches(" kB"),
        "congestion_control": congestion,
        "load_at_start": read("/proc/loadavg").split(' ').next(),
        "clients": client_versions(programs),
        "systems": systems,
    })
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// Of the libraries in the Go program.
fn client_versions(programs: &Programs) -> Value {
    let Ok(clients) = programs.clients() else { return Value::Null };
    let line = first_line(Command::new(clients).arg("versions"));
    serde_json::from_str(&line).unwrap_or_default()
}

fn version(system: System, programs: &Programs) -> String {
    let Ok(path) = programs.server(system) else {
        let broker = integration_tests::executable("broker").unwrap_or_else(|_| "broker".into());
        return first_line(Command::new(broker).arg("--version"));
    };
    match system {
        System::ApacheKafka => named(&path.join("jars"), "kafka-clients-"),
        System::Rabbitmq => {
            let text = read(&path.display().to_string());
            let said = text.lines().find_map(|line| line.rsplit_once("Version: "));
            said.map_or("unknown", |(_, version)| version).to_owned()
        }
        _ => first_line(Command::new(path).arg("--version")),
    }
}

/// What follows `prefix` in the name of a file of the folder.
fn named(folder: &std::path::Path, prefix: &str) -> String {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let found = names.filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned())).next();
    found.map_or("unknown".to_owned(), |name| name.trim_end_matches(".jar").to_owned())
}

/// CPU seconds that all cores of the machine have been busy.
pub(crate) fn busy_seconds() -> f64 {
    let stat = read("/proc/stat");
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split_whitespace().skip(1).flat_map(str::parse).collect();
    let at = |i: usize| ticks.get(i).copied().unwrap_or_default() as f64 / 100.0;
    // user, nice, system, idle, iowait, irq, softirq, steal
    at(0) + at(1) + at(2) + at(5) + at(6)
}

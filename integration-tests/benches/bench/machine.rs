//! The machine and what else it does: part of every result.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Kernel, CPU, memory, congestion control, versions, load.
pub(crate) fn describe() -> Value {
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let of_memory = |name: &str| -> u64 {
        let line = memory.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
    };
    let first_of = |path: &str| read(path).split_whitespace().next().unwrap_or_default().to_owned();
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_mib": of_memory("MemTotal:") / 1024,
        "memory_available_mib": of_memory("MemAvailable:") / 1024,
        "dirty_limit_percent": read("/proc/sys/vm/dirty_ratio"),
        "congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "load_at_start": first_of("/proc/loadavg"),
        "ottla": broker_version(),
        "rustc": said_by("rustc"),
        "cc": said_by("cc"),
    })
}

/// The first line that `program --version` prints.
fn said_by(program: &str) -> String {
    first_line(Command::new(program).arg("--version"))
}

fn broker_version() -> String {
    let program = integration_tests::executable("broker").unwrap_or_else(|_| "broker".into());
    first_line(Command::new(program).arg("--version"))
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// File system and device of a folder, and whether the device turns, as far as the kernel tells.
pub(crate) fn disk(folder: &Path) -> Value {
    let folder = folder.canonicalize().unwrap_or_default();
    let mounts = read("/proc/self/mounts");
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
            folder.starts_with(place).then_some((place.len(), device, kind))
        })
        .max_by_key(|(len, ..)| *len);
    let Some((_, device, kind)) = mount else { return json!("unknown") };
    let name = Path::new(device).file_name().unwrap_or_default();
    let queue = Path::new("/sys/class/block").join(name).join("queue");
    let turns = match read(queue.join("rotational")).as_str() {
        "0" => "no",
        "1" => "yes",
        _ => "unknown",
    };
    json!({ "file_system": kind, "device": device, "rotational": turns })
}

/// CPU seconds that all cores of the machine have been busy, and those taken by other guests.
pub(crate) fn busy_seconds() -> (f64, f64) {
    let stat = read("/proc/stat");
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split_whitespace().skip(1).flat_map(str::parse).collect();
    let at = |i: usize| ticks.get(i).copied().unwrap_or_default() as f64 / 100.0;
    // user, nice, system, idle, iowait, irq, softirq, steal
    (at(0) + at(1) + at(2) + at(5) + at(6), at(7))
}

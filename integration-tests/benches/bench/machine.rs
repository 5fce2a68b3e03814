//! The machine and what else it does: part of every result.

use serde_json::{Value, json};

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Kernel, CPU, memory, congestion control, versions.
pub(crate) fn describe() -> Value {
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let first_of = |path: &str| read(path).split_whitespace().next().unwrap_or_default().to_owned();
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_kib": total.trim().trim_end_matches(" kB"),
        "congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "congestion_control_used": "reno on both ends of every connection (loopback), raw ones too",
        "dirty_limit": read("/proc/sys/vm/dirty_ratio"),
        "load_at_start": first_of("/proc/loadavg"),
        "version": env!("CARGO_PKG_VERSION"),
        "rust": option_env!("RUSTC_VERSION").unwrap_or("see rustc --version"),
    })
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

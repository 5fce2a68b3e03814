//! TCP's congestion control, the same for every process of a run: the machine's is set at the start
//! and put back at the end, also where the run fails or is interrupted.
//!
//! BBR paces even loopback and costs half of the throughput and more there; Ottla asks for reno on
//! loopback by itself, peers do not. So it is set for all, or who compares must know.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Of this network namespace.
const SETTING: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// `--congestion-control` with this name changes nothing.
const LEAVE: &str = "system";
/// After a signal, processes and files are cleaned up in this time, or left behind.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(10);

/// Puts the machine's setting back when dropped.
#[derive(Debug)]
pub(crate) struct Congestion {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// What to put back; `None`: nothing was changed, or it was put back.
    before: Mutex<Option<String>>,
    told: Value,
}

fn read() -> String {
    std::fs::read_to_string(SETTING).unwrap_or_default().trim().to_owned()
}

#[allow(clippy::disallowed_methods, reason = "a setting of the kernel, not a file that can tear")]
fn write(name: &str) -> std::io::Result<()> {
    std::fs::write(Path::new(SETTING), name)
}

impl Congestion {
    /// Sets it to `name` for the machine where that is allowed. Must come before the first thread is
    /// started: from here on only one thread gets SIGINT and SIGTERM.
    pub(crate) fn set(name: &str) -> Result<Self> {
        let before = read();
        let refused = match name {
            LEAVE => None,
            name if name == before => None,
            name => write(name).err(),
        };
        let now = read();
        let scope = match &refused {
            None => "all TCP connections of the machine (its network namespace)".to_owned(),
            Some(error) => format!(
                "the machine's could not be set ({error}; it needs root): Ottla and the raw programs use \
                 reno on loopback, everybody else {now}"
            ),
        };
        let told = json!({ "used": now, "before": before, "scope": scope });
        let state = State { before: Mutex::new((now != before).then_some(before)), told };
        let congestion = Self { state: Arc::new(state) };
        congestion.watch_signals()?;
        Ok(congestion)
    }

    /// For the machine's line.
    pub(crate) fn told(&self) -> &Value {
        &self.state.told
    }

    fn watch_signals(&self) -> Result<()> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block().context("blocking signals")?;
        let state = Arc::clone(&self.state);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            if let Ok(signal) = signals.wait() {
                let _ = INTERRUPTED.set(signal);
                state.restore();
                // The main thread sees them end, fails, and so cleans up.
                end_children();
                std::process::exit(128 + signal as i32);
            }
        })?;
        Ok(())
    }
}

static INTERRUPTED: OnceLock<Signal> = OnceLock::new();

/// An error once the run was interrupted.
pub(crate) fn check_interrupted() -> Result<()> {
    let signal = INTERRUPTED.get();
    ensure!(signal.is_none(), "interrupted by {}", signal.map_or("", |signal| signal.as_str()));
    Ok(())
}

/// Ends the processes that this one started, as often as it starts new ones.
fn end_children() {
    let deadline = std::time::Instant::now() + CLEAN_UP_LIMIT;
    while std::time::Instant::now() < deadline {
        for child in children() {
            let _ = kill(child, Signal::SIGKILL);
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn children() -> Vec<Pid> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let texts =
        tasks.flatten().flat_map(|task| std::fs::read_to_string(task.path().join("children")));
    texts
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .flat_map(|id| id.parse())
        .map(Pid::from_raw)
        .collect()
}

impl State {
    fn restore(&self) {
        if let Some(before) = self.before.lock().take()
            && let Err(error) = write(&before)
        {
            eprintln!("bench: cannot put {SETTING} back to {before}: {error}");
        }
    }
}

impl Drop for Congestion {
    fn drop(&mut self) {
        self.state.restore();
    }
}

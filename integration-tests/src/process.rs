//! One executable under test: started, waited for, paused, killed, measured.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a server may take to print its ready line.
pub const READY_LIMIT: Duration = Duration::from_secs(30);

/// A running process. Dropping it kills it, so that a failing test leaves nothing behind.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Memory of a process in KiB, as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// Anonymous pages: heaps and stacks.
    pub rss_anon_kib: u64,
    /// Shared memory and tmpfs pages.
    pub rss_shmem_kib: u64,
    /// Mapped file pages; the page cache's, shown beside the rest.
    pub rss_file_kib: u64,
}

impl Memory {
    /// Of a process, now.
    pub fn of(pid: i32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .with_context(|| format!("no {name} in /proc/{pid}/status"))?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Self {
            rss_anon_kib: field("RssAnon")?,
            rss_shmem_kib: field("RssShmem")?,
            rss_file_kib: field("RssFile")?,
        })
    }

    /// What Ottla calls memory: RssAnon + RssShmem, in MiB.
    pub fn mib(self) -> f64 {
        (self.rss_anon_kib + self.rss_shmem_kib) as f64 / 1024.0
    }
}

impl Process {
    /// Starts an executable; standard error goes to `<dir>/<name>.log`, appended to.
    pub fn spawn(name: &str, dir: &Path, mut command: Command) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let stderr = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Starts a server and waits for the JSON line it prints when it serves.
    pub fn spawn_ready(
        name: &str,
        dir: &Path,
        command: Command,
    ) -> Result<(Self, serde_json::Value)> {
        Self::spawn_told(name, dir, command, |_| {})
    }

    /// The same; `told` gets its process id before it has done anything.
    pub fn spawn_told(
        name: &str,
        dir: &Path,
        mut command: Command,
        told: impl FnOnce(Pid),
    ) -> Result<(Self, serde_json::Value)> {
        command.stdout(Stdio::piped());
        let mut process = Self::spawn(name, dir, command)?;
        told(process.pid());
        let stdout = process.child.stdout.take().context("stdout was piped")?;
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads on after the first line, so that the process never meets a closed pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let line = match receive.recv_timeout(READY_LIMIT) {
            Ok(line) => line,
            Err(_) => bail!("{name} printed no ready line; its log ends:\n{}", process.log_tail()),
        };
        let ready = serde_json::from_str(&line)
            .with_context(|| format!("{name} printed {line:?} instead of a ready line"))?;
        Ok((process, ready))
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits; an exit code other than 0 is an error.
    pub fn stop(&mut self, limit: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait(limit)?;
        if !status.success() {
            bail!("{} ended with {status}; its log ends:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {limit:?}; log:\n{}", self.name, self.log_tail());
            }
            #[allow(clippy::disallowed_methods, reason = "waitpid has no deadline")]
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines of its standard error.
    pub fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// All of its standard error so far.
    pub fn log_text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its memory now.
    pub fn memory(&self) -> Result<Memory> {
        Memory::of(self.pid().as_raw())
    }

    /// User and system CPU seconds used so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field, a name in parentheses, may hold blanks; utime and stime are 14 and 15.
        let rest = stat.rsplit_once(')').context("no name in stat")?.1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        // USER_HZ is 100 on every Linux that Rust runs on.
        Ok(ticks as f64 / 100.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of {} ends:\n{}", self.name, self.log_tail());
        }
    }
}

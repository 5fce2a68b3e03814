//! The broker whose growth is measured: `broker dev` with fresh data, and what it uses.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use consumer_client::Consumer;
use integration_tests::dev::Dev;
use integration_tests::process::Memory;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proto::TopicPartition;
use tempfile::TempDir;

use crate::Options;
use crate::fleet::consumer_config;
use crate::meter::{Peak, cpu_seconds, own_cpu_seconds};

/// For a thousand clients and what stands open beside them.
const CONNECTIONS_MAX: &str = "max.connections=20000";
/// Until a process has let go of what a change needed for a moment.
const SETTLE: Duration = Duration::from_millis(1500);

/// A topic without leaders after so long will not get any.
const LEAD_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) struct Subject {
    // Ends before its directory goes.
    pub(crate) dev: Dev,
    pub(crate) started: Duration,
    _dir: TempDir,
}

impl Subject {
    pub(crate) fn start(options: &Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ottla-growth-").tempdir_in(&options.data)?;
        let mut settings = vec![CONNECTIONS_MAX];
        settings.extend(options.broker_settings.iter().map(String::as_str));
        let start = Instant::now();
        let dev = Dev::start(dir.path(), &settings)?;
        Ok(Self { dev, started: start.elapsed(), _dir: dir })
    }

    pub(crate) fn process(&self) -> u32 {
        self.dev.process.pid().as_raw().cast_unsigned()
    }

    /// Creates a topic; seconds until the last of its partitions is led, which is after the command has
    /// its answer.
    pub(crate) fn create_topic(&self, topic: &str, partitions: u32) -> Result<f64> {
        let start = Instant::now();
        let partitions = partitions.to_string();
        let mut arguments = vec!["topics", "--create", "--topic", topic];
        arguments.extend(["--partitions", &partitions]);
        for config in ["flush=os", "max.message.bytes=4194304"] {
            arguments.extend(["--config", config]);
        }
        self.dev.run("coordinator", &arguments, "")?;
        let consumer = Consumer::new(consumer_config(&self.dev.bootstrap)?)?;
        let last = partitions.parse::<i32>()? - 1;
        let all = (0..=last).map(|partition| TopicPartition::new(topic, partition));
        let all: Vec<_> = all.collect();
        while consumer.control().end_offsets(&all).is_err() {
            ensure!(start.elapsed() < LEAD_LIMIT, "{topic} has no leaders");
            pause(LOOK_EVERY);
        }
        consumer.close()?;
        Ok(start.elapsed().as_secs_f64())
    }

    pub(crate) fn delete_topic(&self, topic: &str) -> Result<f64> {
        let start = Instant::now();
        self.dev.run("coordinator", &["topics", "--delete", "--topic", topic], "")?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// KiB of RssAnon + RssShmem, once it has settled.
    pub(crate) fn settled_kib(&self) -> Result<f64> {
        pause(SETTLE);
        Ok(self.dev.process.memory()?.mib() * 1024.0)
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.process()))?.count())
    }

    /// Measures from here on.
    pub(crate) fn watch(&self) -> Result<Watch> {
        let process = self.process();
        Ok(Watch {
            process,
            start: Instant::now(),
            broker: cpu_seconds(process)?,
            own: own_cpu_seconds(),
            memory: Peak::watch_whole(process)?,
        })
    }
}

/// See [`Subject::watch`].
pub(crate) struct Watch {
    process: u32,
    start: Instant,
    broker: f64,
    own: f64,
    memory: Peak,
}

/// What was used meanwhile.
pub(crate) struct Used {
    pub(crate) seconds: f64,
    pub(crate) broker_cpu: f64,
    pub(crate) client_cpu: f64,
    /// Of the broker, at its peak.
    pub(crate) peak_kib: f64,
}

impl Watch {
    pub(crate) fn stop(self) -> Result<Used> {
        let seconds = self.start.elapsed().as_secs_f64();
        Ok(Used {
            seconds,
            broker_cpu: cpu_seconds(self.process)? - self.broker,
            client_cpu: own_cpu_seconds() - self.own,
            peak_kib: self.memory.stop().0 as f64,
        })
    }
}

/// CPU seconds of a process's present threads, to the nanosecond; for what takes less than a tick.
pub(crate) fn fine_cpu_seconds(process: u32) -> Result<f64> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().context("an empty schedstat")?;
        nanos += first.parse::<u64>()?;
    }
    Ok(nanos as f64 / 1e9)
}

/// How often each thread of a process went to sleep, which is how often it woke up; by name.
pub(crate) fn sleeps(process: u32) -> Result<Vec<(String, u64)>> {
    let mut all = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let path = task?.path();
        let (Ok(name), Ok(status)) = (read(&path, "comm"), read(&path, "status")) else {
            continue; // a thread that ended meanwhile
        };
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = count.context("no voluntary_ctxt_switches")?.trim().parse()?;
        all.push((name.trim().to_owned(), count));
    }
    Ok(all)
}

fn read(dir: &Path, name: &str) -> std::io::Result<String> {
    std::fs::read_to_string(dir.join(name))
}

#[allow(clippy::disallowed_methods, reason = "a measurement lasts a time, it waits for nothing")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// A thousand clients have as many sockets, and more.
pub(crate) fn raise_file_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit on open files")
}

/// KiB of RssAnon + RssShmem of this process, once it has settled.
pub(crate) fn own_kib() -> Result<f64> {
    pause(SETTLE);
    Ok(Memory::of(std::process::id().cast_signed())?.mib() * 1024.0)
}

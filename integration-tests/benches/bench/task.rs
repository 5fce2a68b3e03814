//! What the client processes do, and how they are started: the task goes over as an argument, what
//! it measured comes back as a JSON line.

use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::load::Load;
use crate::raw::disk::{self, Synced};
use crate::raw::sink::{self, Requests};
use crate::raw::source;
use crate::tonic_client::{self, Tuning};
use crate::{consume, paced, produce, round_trip};

/// How a client reaches what it talks to, and its settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    /// `KEY=VALUE`, later ones win.
    pub(crate) settings: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    Produce {
        client: Client,
        load: Load,
    },
    /// Reads `partitions`, into which producers sent `loads`.
    Drain {
        client: Client,
        loads: Vec<Load>,
        partitions: Range<i32>,
        owned: bool,
    },
    RoundTrip {
        client: Client,
        load: Load,
        current_runtime: bool,
    },
    PacedProduce {
        client: Client,
        load: Load,
        rate: u64,
    },
    PacedConsume {
        client: Client,
        load: Load,
    },
    /// Unary Produce through tonic's own channel.
    TonicProduce {
        client: Client,
        load: Load,
        requests: Requests,
    },
    /// Fetch through tonic's own channel.
    TonicDrain {
        client: Client,
        load: Load,
        tuning: Tuning,
    },
    /// Appends length-prefixed requests to a file and acknowledges each.
    RawSink {
        file: String,
    },
    /// Sends one request of prebuilt batches after the other.
    RawProduce {
        address: String,
        load: Load,
        requests: Requests,
    },
    /// One small request after the other.
    RawRoundTrip {
        address: String,
        load: Load,
    },
    /// Sends files by `sendfile` to whoever connects.
    RawSource {
        files: Vec<String>,
    },
    /// Reads batches off a socket as the consumer does.
    RawDrain {
        address: String,
        load: Load,
    },
    /// Appends to files below `dir`, with `fdatasync` between.
    RawSynced {
        dir: String,
        load: Load,
        synced: Synced,
    },
    Memcpy {
        load: Load,
    },
}

/// Does the task in this process.
pub(crate) fn perform(text: &str) -> Result<()> {
    let measured = match serde_json::from_str(text).context("--task")? {
        Task::Produce { client, load } => produce::run(&client, load)?,
        Task::Drain { client, loads, partitions, owned } => {
            consume::run(&client, &loads, partitions, owned)?
        }
        Task::RoundTrip { client, load, current_runtime } => {
            round_trip::run(&client, load, current_runtime)?
        }
        Task::PacedProduce { client, load, rate } => paced::produce(&client, load, rate)?,
        Task::PacedConsume { client, load } => paced::consume(&client, load)?,
        Task::TonicProduce { client, load, requests } => {
            tonic_client::produce(&client, load, requests)?
        }
        Task::TonicDrain { client, load, tuning } => tonic_client::drain(&client, load, tuning)?,
        Task::RawSink { file } => sink::serve_appends(&file)?,
        Task::RawProduce { address, load, requests } => sink::produce(&address, load, requests)?,
        Task::RawRoundTrip { address, load } => sink::round_trip(&address, load)?,
        Task::RawSource { files } => source::serve_files(&files)?,
        Task::RawDrain { address, load } => source::drain(&address, load)?,
        Task::RawSynced { dir, load, synced } => disk::append_synced(&dir, load, synced)?,
        Task::Memcpy { load } => disk::memcpy(load),
    };
    println!("{measured}");
    Ok(())
}

/// A client process.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(task: &Task) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--task", &serde_json::to_string(task)?])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a client process")?;
        let lines = BufReader::new(child.stdout.take().context("stdout was piped")?);
        Ok(Self { child, lines })
    }

    /// The next line it prints.
    pub(crate) fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            bail!("a client process ended early, {status}: its error is above");
        }
        serde_json::from_str(&line).with_context(|| format!("a client process printed {line:?}"))
    }

    /// The last line, after which it must end well.
    pub(crate) fn finish(mut self) -> Result<Value> {
        let measured = self.line()?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("a client process ended with {status}: its error is above");
        }
        Ok(measured)
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does `task` in a process of its own and returns what it measured.
pub(crate) fn call(task: &Task) -> Result<Value> {
    Running::start(task)?.finish()
}

/// Does all `tasks` at the same time, each in a process of its own.
pub(crate) fn call_all(tasks: &[Task]) -> Result<Vec<Value>> {
    let running = tasks.iter().map(Running::start).collect::<Result<Vec<_>>>()?;
    running.into_iter().map(Running::finish).collect()
}

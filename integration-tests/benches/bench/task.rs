//! What the client processes do, and how they are started: the task goes over as an argument, what
//! it measured comes back as a JSON line.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::load::Load;
use crate::{consume, paced, produce, raw, round_trip};

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
    Drain {
        client: Client,
        load: Load,
        owned: bool,
    },
    RoundTrip {
        client: Client,
        records: u64,
        current_runtime: bool,
    },
    PacedProduce {
        client: Client,
        rate: u64,
        seconds: u64,
    },
    PacedConsume {
        client: Client,
        records: u64,
    },
    /// Appends length-prefixed requests to a file and acknowledges each.
    RawSink {
        file: String,
    },
    /// Sends one request of prebuilt batches after the other.
    RawProduce {
        address: String,
        load: Load,
        in_flight: u64,
    },
    /// One small request after the other.
    RawRoundTrip {
        address: String,
        records: u64,
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
    Memcpy,
}

/// Does the task in this process.
pub(crate) fn perform(text: &str) -> Result<()> {
    let measured = match serde_json::from_str(text).context("--task")? {
        Task::Produce { client, load } => produce::run(&client, load)?,
        Task::Drain { client, load, owned } => consume::run(&client, load, owned)?,
        Task::RoundTrip { client, records, current_runtime } => {
            round_trip::run(&client, records, current_runtime)?
        }
        Task::PacedProduce { client, rate, seconds } => paced::produce(&client, rate, seconds)?,
        Task::PacedConsume { client, records } => paced::consume(&client, records)?,
        Task::RawSink { file } => raw::sink(&file)?,
        Task::RawProduce { address, load, in_flight } => raw::produce(&address, load, in_flight)?,
        Task::RawRoundTrip { address, records } => raw::round_trip(&address, records)?,
        Task::RawSource { files } => raw::source(&files)?,
        Task::RawDrain { address, load } => raw::drain(&address, load)?,
        Task::Memcpy => raw::memcpy(),
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

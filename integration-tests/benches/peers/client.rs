//! Clients as processes: the task goes over as arguments, what it measured comes back as a line of JSON.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::install::Programs;
use crate::system::System;

/// What a client does, with the words of the Go program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    Create,
    /// As fast as it goes, all acknowledged.
    Produce,
    /// Everything from the beginning, each value compared.
    Drain,
    /// One value in flight.
    Trip,
    /// At a rate, each value with the time of its send.
    Pace,
    /// Reads what `Pace` sends, as it comes; prints a line when it is ready.
    Follow,
}

/// A task and what it is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) task: Task,
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) stream: String,
    /// A file of values, sent in turn.
    pub(crate) values: String,
    pub(crate) count: u64,
    /// Values a second, of `Pace`.
    pub(crate) rate: u64,
}

/// A client process.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(system: System, programs: &Programs, order: &Order) -> Result<Self> {
        let mut command = match system.protocol() {
            None => ours(order)?,
            Some(protocol) => theirs(programs.clients()?, protocol, order)?,
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let lines = BufReader::new(child.stdout.take().context("stdout was piped")?);
        Ok(Self { child, lines })
    }

    /// The next line it prints.
    pub(crate) fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            anyhow::bail!("a client ended early, {status}: its error is above");
        }
        serde_json::from_str(&line).with_context(|| format!("a client printed {line:?}"))
    }

    /// The last line, after which it must end well.
    pub(crate) fn finish(mut self) -> Result<Value> {
        let measured = self.line()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "a client ended with {status}: its error is above");
        Ok(measured)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ours(order: &Order) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--client", &serde_json::to_string(order)?]);
    Ok(command)
}

fn theirs(program: &Path, protocol: &str, order: &Order) -> Result<Command> {
    let Value::String(task) = serde_json::to_value(order.task)? else {
        anyhow::bail!("a task is a word");
    };
    let mut command = Command::new(program);
    command.args([protocol, &task, &order.address, &order.stream, &order.values]);
    command.args([order.count.to_string(), order.rate.to_string()]);
    Ok(command)
}

/// Does it in a process of its own and returns what was measured.
pub(crate) fn call(system: System, programs: &Programs, order: &Order) -> Result<Value> {
    Running::start(system, programs, order)?.finish()
}

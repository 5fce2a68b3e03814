//! The process of one client: started, listened to, waited for.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};

use anyhow::{Context, Result, bail};

use super::library::Library;
use super::line::Line;
use crate::checker::Millis;
use crate::recorder::board::Board;
use crate::recorder::recorder::{BURST, COMMIT_EVERY, Subject, UNDER_WAY_MAX, VALUE_BYTES};

/// Dropping it kills it.
pub(super) struct ClientProcess {
    name: String,
    child: Child,
    log: PathBuf,
}

impl ClientProcess {
    /// Starts a client in a role; it ends when the standard input does.
    pub(super) fn start(
        library: Library,
        subject: &Subject,
        board: &Board,
        name: &str,
        role: &str,
        arguments: &[&str],
    ) -> Result<(Self, ChildStdin)> {
        let log = subject.dir.join(format!("{name}.log"));
        let mut command = library.command(role)?;
        command.args(arguments);
        command.args(["--name", name, "--bootstrap", &subject.kafka]);
        command.args(["--topic", &subject.topic]);
        for (option, value) in [
            ("--partitions", u128::from(subject.partitions.unsigned_abs())),
            ("--session-ms", subject.session.as_millis()),
            ("--commit-every-ms", COMMIT_EVERY.as_millis()),
            ("--burst", BURST as u128),
            ("--value-bytes", VALUE_BYTES as u128),
            ("--under-way-max", UNDER_WAY_MAX as u128),
            ("--began-ms", u128::from(began(board.now())?)),
        ] {
            command.args([option, &value.to_string()]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log)?)
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        let input = child.stdin.take().context("it was piped")?;
        Ok((Self { name: name.to_owned(), child, log }, input))
    }

    /// Hears all that the process says, to its end, which must be a good one.
    pub(super) fn listen(mut self, mut hear: impl FnMut(Line) -> Result<()>) -> Result<()> {
        let output = self.child.stdout.take().context("it was piped")?;
        let mut has_ended = false;
        for text in BufReader::new(output).lines() {
            let text = text.with_context(|| format!("what {} says", self.name))?;
            let line = serde_json::from_str(&text)
                .with_context(|| format!("{} said {text:?}", self.name))?;
            match line {
                Line::Ended => has_ended = true,
                Line::Fatal { at, error } => bail!("{at} ms: {}: {error}", self.name),
                line => hear(line).with_context(|| format!("{} said {text}", self.name))?,
            }
        }
        let status = self.child.wait()?;
        if !has_ended || !status.success() {
            let log = std::fs::read(&self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            bail!("{} ended with {status} before its time; its log ends:\n{tail}", self.name);
        }
        Ok(())
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// When the run began by the clock of the machine's start, in milliseconds: one that all processes share
/// and nobody sets.
fn began(now: Millis) -> Result<u64> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let seconds: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
    Ok((seconds * 1000.0) as u64 - u64::from(now))
}

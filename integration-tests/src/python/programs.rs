//! Runs the programs of `foreign/python` against a broker.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Make;

/// What is needed to run the programs of one make.
#[derive(Debug, Clone)]
pub struct Programs {
    interpreter: PathBuf,
    make: Make,
    bootstrap: String,
    /// Where programs and tests leave records for each other.
    pub directory: PathBuf,
}

impl Programs {
    /// Those of `make` against the brokers at `bootstrap`; `None`, and a line that says so, where no
    /// interpreter was installed.
    pub fn find(make: Make, bootstrap: &str, directory: &Path) -> Result<Option<Self>> {
        let Some(interpreter) = std::env::var_os("OTTLA_PYTHON").map(PathBuf::from) else {
            eprintln!(
                "SKIPPED: no Python with Kafka clients (set OTTLA_PYTHON to what \
                 `integration-tests/foreign-clients install python` prints)"
            );
            return Ok(None);
        };
        ensure!(interpreter.exists(), "OTTLA_PYTHON names {}, no file", interpreter.display());
        let (bootstrap, directory) = (bootstrap.to_owned(), directory.to_owned());
        Ok(Some(Self { interpreter, make, bootstrap, directory }))
    }

    /// The command of the make's program `purpose`, its first argument being the brokers' addresses.
    pub fn command(&self, purpose: &str) -> Command {
        let program = format!("foreign/python/{}_{purpose}.py", self.make.prefix());
        let mut command = Command::new(&self.interpreter);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(program));
        // Nothing is written into the source tree.
        command.arg(&self.bootstrap).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Runs these checks of a program, or all; the first that fails is an error with what it printed.
    pub fn check(&self, purpose: &str, checks: &[&str]) -> Result<()> {
        let mut command = self.command(purpose);
        command.arg(&self.directory).args(checks);
        let output = command.stdin(Stdio::null()).output().context("starting Python")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        println!("{out}");
        ensure!(output.status.success(), "{:?} {purpose}: {}\n{err}", self.make, output.status);
        Ok(())
    }

    /// The records of a topic that a program left, as `consumer --format json` prints them.
    pub fn left(&self, topic: &str) -> Result<Vec<serde_json::Value>> {
        let path = self.directory.join(format!("{topic}.jsonl"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        super::records::parse(&text)
    }

    /// Leaves the records of a topic for a program.
    pub fn leave(&self, topic: &str, records: &str) -> Result<()> {
        #[allow(clippy::disallowed_methods, reason = "a file of a test, not of a broker")]
        std::fs::write(self.directory.join(format!("{topic}.jsonl")), records)?;
        Ok(())
    }
}

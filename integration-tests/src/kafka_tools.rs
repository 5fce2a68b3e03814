//! Apache Kafka's command-line tools and Java clients, run in one JVM: `integration-tests/foreign/java`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

/// A JVM in which tools run one after the other; dropping it ends it.
pub struct KafkaTools {
    jvm: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    bootstrap: String,
}

/// What a tool printed, and its exit code.
#[derive(Debug, Deserialize)]
pub struct Ran {
    /// The exit code.
    pub exit: i32,
    /// Standard output.
    pub out: String,
    /// Standard error, with warnings of the clients that still run.
    pub err: String,
}

impl KafkaTools {
    /// A JVM for tools against the broker at `bootstrap`; `None`, and a line that says so, where
    /// `OTTLA_KAFKA` does not name what `integration-tests/foreign-clients install java` has made.
    pub fn start(bootstrap: &str) -> Result<Option<Self>> {
        let Some(folder) = std::env::var_os("OTTLA_KAFKA").map(PathBuf::from) else {
            eprintln!("SKIPPED: no tools of Apache Kafka (integration-tests/run installs them)");
            return Ok(None);
        };
        let path = |name: &str| folder.join(name).display().to_string();
        let mut jvm = Command::new("java")
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"])
            .args(["--add-opens", "java.base/java.lang=ALL-UNNAMED"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .args(["-cp", &format!("{}:{}", path("jars/*"), path("classes")), "KafkaTools"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting java")?;
        let requests = jvm.stdin.take().context("piped")?;
        let answers = BufReader::new(jvm.stdout.take().context("piped")?);
        Ok(Some(Self { jvm, requests, answers, bootstrap: bootstrap.to_owned() }))
    }

    /// Runs `line`, a tool and its arguments; `@` stands for the bootstrap address.
    pub fn run(&mut self, line: &str, input: &str) -> Result<Ran> {
        let mut words = line.split(' ').map(|word| word.replace('@', &self.bootstrap));
        let tool = words.next().context("a tool")?;
        let asked = json!({ "tool": tool, "args": words.collect::<Vec<_>>(), "input": input });
        writeln!(self.requests, "{asked}").with_context(|| format!("{line}: the JVM ended"))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        serde_json::from_str(&answer).with_context(|| format!("{line}: the JVM ended"))
    }

    /// Standard output of a tool that must succeed.
    pub fn done(&mut self, line: &str) -> Result<String> {
        self.fed(line, "")
    }

    /// The same; `input` is its standard input.
    pub fn fed(&mut self, line: &str, input: &str) -> Result<String> {
        let ran = self.run(line, input)?;
        ensure!(ran.exit == 0, "{line}: exit code {}\n{}{}", ran.exit, ran.out, ran.err);
        Ok(ran.out)
    }

    /// Everything that a tool printed that must fail.
    pub fn refused(&mut self, line: &str) -> Result<String> {
        let ran = self.run(line, "")?;
        ensure!(ran.exit == 1, "{line}: exit code {}\n{}{}", ran.exit, ran.out, ran.err);
        Ok(ran.out + &ran.err)
    }
}

impl Drop for KafkaTools {
    fn drop(&mut self) {
        let _ = self.jvm.kill();
        let _ = self.jvm.wait();
    }
}

/// The lines of a table as their columns, without its heading.
pub fn rows(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|columns| !columns.is_empty()).skip(1).collect()
}

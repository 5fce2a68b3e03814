//! The operator's tool, run to its end against a cluster, judged by its exit code.

use std::process::Output;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;

fn run(cluster: &Cluster, line: &str) -> Result<Output> {
    Ok(cluster.command("coordinator")?.args(line.split(' ')).output()?)
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Standard output of a command that must succeed.
pub fn done(cluster: &Cluster, line: &str) -> Result<String> {
    let output = run(cluster, line)?;
    let (out, err) = text(&output);
    ensure!(output.status.success(), "{line}: {}\n{out}{err}", output.status);
    Ok(out)
}

/// Standard error of a command that must end with `code`.
pub fn refused(cluster: &Cluster, line: &str, code: i32) -> Result<String> {
    let output = run(cluster, line)?;
    let (out, err) = text(&output);
    ensure!(output.status.code() == Some(code), "{line}: {}\n{out}{err}", output.status);
    Ok(err)
}

/// What a command that must succeed prints as JSON.
pub fn json(cluster: &Cluster, line: &str) -> Result<Value> {
    Ok(serde_json::from_str(&done(cluster, &format!("{line} --format json"))?)?)
}

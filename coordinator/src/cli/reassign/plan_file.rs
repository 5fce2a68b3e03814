//! Plans of reassignments in Kafka's JSON: which replicas each partition is to have.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cli::failure::Failure;

/// Largest file read.
const FILE_MAX: u64 = 64 << 20;
/// The only directory that can be asked for.
const ANY: &str = "any";

/// A partition.
pub(crate) type Of = (String, i32);
/// Replicas by partition, preferred leader first.
pub(crate) type Plan = BTreeMap<Of, Vec<i32>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    #[serde(default = "first_version")]
    version: i64,
    partitions: Vec<Planned>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
    #[serde(default)]
    log_dirs: Vec<String>,
}

#[derive(Deserialize)]
struct TopicsFile {
    #[serde(default = "first_version")]
    version: i64,
    topics: Vec<Topic>,
}

#[derive(Deserialize)]
struct Topic {
    topic: String,
}

/// The version of a file that names none.
pub(crate) fn first_version() -> i64 {
    1
}

/// Reads a plan from a file; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Plan, Failure> {
    parse(&bytes(path)?)
}

/// Reads the topics of a file for `--topics-to-move-json-file`.
pub(crate) fn read_topics(path: &Path) -> Result<Vec<String>, Failure> {
    let file: TopicsFile = json_of(&bytes(path)?, "topics to move")?;
    check_version(file.version)?;
    Ok(file.topics.into_iter().map(|topic| topic.topic).collect())
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Plan, Failure> {
    let file: PlanFile = json_of(bytes, "a plan of reassignments")?;
    check_version(file.version)?;
    let mut plan = Plan::new();
    for Planned { topic, partition, replicas, log_dirs } in file.partitions {
        if log_dirs.iter().any(|directory| directory != ANY) {
            return Err(Failure::usage(format!(
                "{topic}-{partition}: brokers choose their directories themselves; leave `log_dirs` \
                 out, or write \"any\""
            )));
        }
        let of = (topic, partition);
        if plan.contains_key(&of) {
            return Err(Failure::usage(format!("{}-{} is in the plan twice", of.0, of.1)));
        }
        plan.insert(of, replicas);
    }
    match plan.is_empty() {
        true => Err(Failure::usage("the plan has no partition")),
        false => Ok(plan),
    }
}

/// A plan as Kafka's tool prints it.
pub(crate) fn to_json(plan: &Plan) -> Value {
    let partitions = plan.iter().map(|((topic, partition), replicas)| {
        let log_dirs = vec![ANY; replicas.len()];
        json!({
            "topic": topic,
            "partition": partition,
            "replicas": replicas,
            "log_dirs": log_dirs,
        })
    });
    json!({ "version": 1, "partitions": partitions.collect::<Vec<_>>() })
}

/// Reads JSON; `what` is for the text of the failure.
pub(crate) fn json_of<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::usage(format!("the file is not JSON for {what}: {error}")))
}

/// Refuses versions that are not known.
pub(crate) fn check_version(version: i64) -> Result<(), Failure> {
    match version {
        1 => Ok(()),
        other => Err(Failure::usage(format!("the file has version {other}; version 1 is read"))),
    }
}

/// Reads a file; `-` is standard input.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_MAX).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) if bytes.len() as u64 >= FILE_MAX => {
            Err(Failure::usage(format!("{} is larger than {FILE_MAX} bytes", path.display())))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_plans_are_read_and_written() {
        let text = r#"{"version":1,"partitions":[
            {"topic":"b","partition":1,"replicas":[2,3],"log_dirs":["any","any"]},
            {"topic":"a","partition":0,"replicas":[1]}]}"#;
        let plan = parse(text.as_bytes()).unwrap();
        let expected = [(("a".to_owned(), 0), vec![1]), (("b".to_owned(), 1), vec![2, 3])];
        assert_eq!(plan, expected.into());
        assert_eq!(
            to_json(&plan).to_string(),
            r#"{"partitions":[{"log_dirs":["any"],"partition":0,"replicas":[1],"topic":"a"},{"log_dirs":["any","any"],"partition":1,"replicas":[2,3],"topic":"b"}],"version":1}"#
        );
        assert_eq!(parse(to_json(&plan).to_string().as_bytes()).unwrap(), plan);
    }

    #[test]
    fn plans_that_make_no_sense_are_wrong_usage() {
        for (wrong, told) in [
            ("[]", "not JSON for a plan"),
            (r#"{"version":2,"partitions":[]}"#, "version 2"),
            (r#"{"partitions":[]}"#, "no partition"),
            (r#"{"partitions":[{"topic":"a","partition":0}]}"#, "replicas"),
            (r#"{"partitions":[{"topic":"a","partition":0,"replica":[1]}]}"#, "replica"),
            (
                r#"{"partitions":[{"topic":"a","partition":0,"replicas":[1]},
                    {"topic":"a","partition":0,"replicas":[2]}]}"#,
                "a-0 is in the plan twice",
            ),
            (
                r#"{"partitions":[{"topic":"a","partition":0,"replicas":[1],"log_dirs":["/d"]}]}"#,
                "log_dirs",
            ),
        ] {
            let failure = parse(wrong.as_bytes()).unwrap_err();
            assert_eq!(failure.code, 2, "{wrong}");
            assert!(failure.text.contains(told), "{wrong}: {}", failure.text);
        }
    }
}

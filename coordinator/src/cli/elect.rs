//! `coordinator elect`: leaders by the operator's word, as Kafka's tool for elections has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use proto::{ErrorCode, v1};
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::{Admin, Client};
use super::args::{Format, Target};
use super::failure::{Failure, with_remedy};
use super::output;
use super::reassign::ask;
use super::reassign::plan_file::{self, Of};

pub(crate) const HELP: &str = "\
Examples:
  coordinator elect --election-type preferred --all-topic-partitions
  coordinator elect --election-type preferred --topic app-logs --partition 0
  coordinator elect --election-type unclean --topic app-logs --partition 0
  coordinator elect --election-type preferred --path-to-json-file partitions.json
where partitions.json is
  {\"partitions\": [{\"topic\": \"app-logs\", \"partition\": 0}]}

preferred: the first replica leads again, where it is live and in sync. unclean: where no replica
that is in sync is live, another one leads; the partition works again, and acknowledged records
that it does not have are lost for good.
Exit codes: 0 all lead as asked, 1 refused for at least one partition, 2 wrong usage, 3 the cluster
cannot be reached.";

#[derive(Debug, Args)]
pub(crate) struct ElectArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Who is to lead
    #[arg(long, value_enum, ignore_case = true)]
    pub(crate) election_type: Election,
    #[command(flatten)]
    pub(crate) of: Elected,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Elected {
    /// Every partition that needs it
    #[arg(long, conflicts_with_all = ["topic", "partition", "path_to_json_file"])]
    pub(crate) all_topic_partitions: bool,
    /// A topic
    #[arg(long, value_name = "TOPIC", conflicts_with = "path_to_json_file")]
    pub(crate) topic: Option<String>,
    /// Partitions of the topic, separated by commas [default: all of it]
    #[arg(long, value_name = "P,...", value_delimiter = ',', requires = "topic")]
    pub(crate) partition: Vec<i32>,
    /// Partitions from a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) path_to_json_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Election {
    /// The preferred leader: the first replica
    Preferred,
    /// Any live replica, where none that is in sync is live; may lose acknowledged records
    Unclean,
}

impl Election {
    fn word(self) -> &'static str {
        match self {
            Self::Preferred => "PREFERRED",
            Self::Unclean => "UNCLEAN",
        }
    }
}

#[derive(Deserialize)]
struct PartitionsFile {
    #[serde(default = "plan_file::first_version")]
    version: i64,
    partitions: Vec<Partition>,
}

#[derive(Deserialize)]
struct Partition {
    topic: String,
    partition: i32,
}

/// Carries out the subcommand.
pub(crate) async fn run(args: ElectArgs) -> Result<(), Failure> {
    let mut admin = Admin::new(&args.target);
    let election = match args.election_type {
        Election::Preferred => v1::ElectionType::Preferred,
        Election::Unclean => v1::ElectionType::Unclean,
    };
    let partitions = named(&args.of)?;
    let request = v1::ElectLeadersRequest { r#type: election.into(), partitions };
    let call = |mut client: Client, request| async move { client.elect_leaders(request).await };
    let response = admin.call(request, call).await?;
    match args.target.format {
        Format::Json => {
            let results: Vec<Value> = response.results.iter().map(result_json).collect();
            output::json(&json!(results))?;
        }
        Format::Text => output::write(text(args.election_type, &response.results).as_bytes())?,
    }
    let refused = response.results.iter().filter_map(|r| Some((r, failed(r)?)));
    let failures = refused.map(|(result, error)| {
        Failure::refused(format!(
            "Error completing leader election ({}) for {}: {}",
            args.election_type.word(),
            concerned(result),
            with_remedy(error)
        ))
    });
    Failure::all(failures.collect())
}

/// The partitions of the request; none: all there are.
fn named(of: &Elected) -> Result<Vec<v1::TopicPartitions>, Failure> {
    let topic =
        |topic: String, partitions| v1::TopicPartitions { topic, partitions, ..Default::default() };
    if let Some(name) = &of.topic {
        return Ok(vec![topic(name.clone(), of.partition.clone())]);
    }
    let Some(path) = &of.path_to_json_file else { return Ok(Vec::new()) };
    let mut by_topic: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let partitions: BTreeSet<Of> = read_partitions(path)?;
    if partitions.is_empty() {
        return Err(Failure::usage("the file names no partition"));
    }
    for (topic, partition) in partitions {
        by_topic.entry(topic).or_default().push(partition);
    }
    Ok(by_topic.into_iter().map(|(name, partitions)| topic(name, partitions)).collect())
}

/// Reads partitions, as the tool for elections takes them.
fn read_partitions(path: &Path) -> Result<BTreeSet<Of>, Failure> {
    let file: PartitionsFile = plan_file::json_of(&plan_file::bytes(path)?, "partitions")?;
    plan_file::check_version(file.version)?;
    Ok(file.partitions.into_iter().map(|p| (p.topic, p.partition)).collect())
}

fn not_needed(result: &v1::ElectionResult) -> bool {
    let code = result.error.as_ref().map(|error| ErrorCode::from_code(error.code));
    code == Some(ErrorCode::ElectionNotNeeded)
}

/// What a result is about; a topic that is not there has no partitions to name.
fn concerned(result: &v1::ElectionResult) -> String {
    match (result.topic.as_str(), result.partition) {
        ("", _) => "all partitions".to_owned(),
        (topic, ..0) => format!("topic {topic}"),
        (topic, partition) => format!("partition: {topic}-{partition}"),
    }
}

/// The error, unless it says that all is well.
fn failed(result: &v1::ElectionResult) -> Option<&v1::Error> {
    result.error.as_ref().filter(|_| !not_needed(result))
}

fn text(election: Election, results: &[v1::ElectionResult]) -> String {
    let of = |r: &v1::ElectionResult| (r.topic.clone(), r.partition);
    let elected: Vec<Of> = results.iter().filter(|r| r.error.is_none()).map(of).collect();
    let valid: Vec<Of> = results.iter().filter(|r| not_needed(r)).map(of).collect();
    let mut text = String::new();
    if !elected.is_empty() {
        let _ = writeln!(
            text,
            "Successfully completed leader election ({}) for partitions {}",
            election.word(),
            ask::names(&elected)
        );
    }
    if !valid.is_empty() {
        let _ =
            writeln!(text, "Valid replica already elected for partitions {}", ask::names(&valid));
    }
    if results.is_empty() {
        text.push_str("No partition needs an election.\n");
    }
    text
}

fn result_json(result: &v1::ElectionResult) -> Value {
    let mut json = json!({
        "topic": result.topic,
        "partition": result.partition,
        "leader": (result.leader >= 0).then_some(result.leader),
        "elected": result.error.is_none(),
    });
    if let Some(error) = &result.error {
        json["error"] = json!({ "code": error.code, "message": with_remedy(error) });
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_told_in_kafkas_words() {
        let result = |partition, code: Option<ErrorCode>| v1::ElectionResult {
            topic: "t".to_owned(),
            partition,
            error: code.map(|code| code.to_message("m", "r")),
            leader: 1,
        };
        let not_there = Some(ErrorCode::PreferredLeaderNotAvailable);
        let not_needed = Some(ErrorCode::ElectionNotNeeded);
        let results =
            [result(0, None), result(1, None), result(2, not_needed), result(3, not_there)];
        assert_eq!(
            text(Election::Preferred, &results),
            "Successfully completed leader election (PREFERRED) for partitions t-0, t-1\n\
             Valid replica already elected for partitions t-2\n"
        );
        assert!(failed(&results[3]).is_some() && failed(&results[2]).is_none());
        assert_eq!(concerned(&results[0]), "partition: t-0");
        assert_eq!(concerned(&result(-1, not_there)), "topic t");
        assert_eq!(text(Election::Unclean, &[]), "No partition needs an election.\n");
    }
}

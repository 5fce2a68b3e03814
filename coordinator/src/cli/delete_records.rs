//! `coordinator topics --delete-records`: asks the leaders of partitions to delete the records before
//! an offset.
//!
//! Topics and leaders come from the controller. A leader that has just changed is asked anew: the
//! request may be made any number of times.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use proto::v1::log_client::LogClient;
use proto::{ErrorCode, Retry, v1};
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::{self, Admin};
use super::args::{DeleteRecords, Format};
use super::failure::{Failure, with_remedy};
use super::{brokers, output};

/// Stands for all records, in requests and files.
const ALL: i64 = -1;
/// How often partitions without an answer, or with one that may change, are asked about.
const ATTEMPTS: usize = 10;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(300);
/// Longest wait for a leader's answer: it forces records and its checkpoint to the disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Largest file of offsets read.
const FILE_MAX: u64 = 64 << 20;

/// A partition.
type Of = (String, i32);

/// Carries out the subcommand.
pub(crate) async fn run(
    admin: &mut Admin,
    format: Format,
    args: &DeleteRecords,
) -> Result<(), Failure> {
    let wanted = wanted(admin, args).await?;
    if wanted.is_empty() {
        return Err(Failure::usage("no partition is named"));
    }
    let mut results: BTreeMap<Of, Result<i64, Failure>> = BTreeMap::new();
    let mut open = wanted.clone();
    for attempt in 1.. {
        let last = attempt == ATTEMPTS;
        let answers = match args.dry_run {
            true => look_up(admin, &open).await?,
            false => ask_all(admin, &open).await?,
        };
        for (of, answer) in answers {
            match answer {
                Err(refused) if refused.may_pass && !last => {}
                answer => {
                    open.remove(&of);
                    results.insert(of, answer.map_err(|refused| refused.failure));
                }
            }
        }
        if open.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    print(format, args.dry_run, &results)?;
    Failure::all(results.into_values().filter_map(Result::err).collect())
}

fn print(
    format: Format,
    dry_run: bool,
    results: &BTreeMap<Of, Result<i64, Failure>>,
) -> Result<(), Failure> {
    let field = if dry_run { "offset" } else { "low_watermark" };
    match format {
        Format::Json => {
            let all = results.iter().map(|((topic, partition), result)| {
                let mut json = json!({ "topic": topic, "partition": partition });
                match result {
                    Ok(offset) => json[field] = json!(offset),
                    Err(failure) => json["error"] = json!(failure.text),
                }
                json
            });
            output::json(&Value::Array(all.collect()))
        }
        Format::Text => {
            let done = results.iter().filter_map(|(of, result)| Some((of, result.as_ref().ok()?)));
            let lines = done.map(|((topic, partition), offset)| match dry_run {
                true => format!("partition: {topic}-{partition}\twould begin at: {offset}\n"),
                false => format!("partition: {topic}-{partition}\tlow_watermark: {offset}\n"),
            });
            output::write(lines.collect::<String>().as_bytes())
        }
    }
}

/// The partitions meant, and up to where each is deleted.
async fn wanted(admin: &mut Admin, args: &DeleteRecords) -> Result<BTreeMap<Of, i64>, Failure> {
    if let Some(path) = &args.offset_json_file {
        return parse_file(&read(path)?);
    }
    let offset = match &args.offset {
        Some(text) => parse_offset(text)?,
        None => {
            return Err(Failure::usage(
                "say up to where: --offset N, --offset latest for all, or --offset-json-file FILE",
            ));
        }
    };
    let names = args.names.all();
    if names.is_empty() {
        return Err(Failure::usage("name a topic, for example with --topic NAME"));
    }
    let mut wanted = BTreeMap::new();
    for topic in describe(admin, names).await? {
        let all = topic.partitions.iter().map(|p| p.partition);
        let named = if args.partition.is_empty() { all.collect() } else { args.partition.clone() };
        wanted.extend(named.into_iter().map(|p| ((topic.name.clone(), p), offset)));
    }
    Ok(wanted)
}

fn parse_offset(text: &str) -> Result<i64, Failure> {
    match text {
        "latest" => Ok(ALL),
        _ => text.parse().ok().filter(|&offset| offset >= ALL).ok_or_else(|| {
            Failure::usage(format!(
                "`--offset {text}` is not an offset: a number, or -1 or `latest` for all records"
            ))
        }),
    }
}

/// Kafka's file of offsets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OffsetsFile {
    partitions: Vec<FilePartition>,
    #[serde(default = "one")]
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePartition {
    topic: String,
    partition: i32,
    offset: i64,
}

fn one() -> u32 {
    1
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().lock().take(FILE_MAX).read_to_end(&mut bytes),
        false => {
            std::fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes))
        }
    };
    read.map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    Ok(bytes)
}

fn parse_file(bytes: &[u8]) -> Result<BTreeMap<Of, i64>, Failure> {
    let file: OffsetsFile = serde_json::from_slice(bytes).map_err(|error| {
        Failure::usage(format!(
            "the file of offsets is not valid: {error}; expected is {{\"partitions\": \
             [{{\"topic\": \"t\", \"partition\": 0, \"offset\": 1200}}], \"version\": 1}}"
        ))
    })?;
    if file.version != 1 {
        let version = file.version;
        return Err(Failure::usage(format!("the file of offsets has version {version}, not 1")));
    }
    let mut wanted = BTreeMap::new();
    for FilePartition { topic, partition, offset } in file.partitions {
        if offset < ALL {
            let text = format!("{topic}-{partition}: {offset} is not an offset; -1 means all");
            return Err(Failure::usage(text));
        }
        if wanted.insert((topic.clone(), partition), offset).is_some() {
            let text = format!("{topic}-{partition} is in the file of offsets twice");
            return Err(Failure::usage(text));
        }
    }
    Ok(wanted)
}

/// Why a partition's records were not deleted.
struct Refused {
    failure: Failure,
    /// It may be another answer a moment later.
    may_pass: bool,
}

type Answers = Vec<(Of, Result<i64, Refused>)>;

/// Where the leader of a partition is, and the request for it.
struct Asked {
    leader: i32,
    request: v1::RecordsToDelete,
}

/// Finds the leaders; partitions that cannot be asked about are answered at once.
async fn find(
    admin: &mut Admin,
    wanted: &BTreeMap<Of, i64>,
) -> Result<(Vec<(Of, Asked)>, Answers), Failure> {
    let names: BTreeSet<&String> = wanted.keys().map(|(topic, _)| topic).collect();
    let described = describe(admin, names.into_iter().cloned().collect()).await?;
    let topics: HashMap<&str, &v1::Topic> =
        described.iter().map(|topic| (topic.name.as_str(), topic)).collect();
    let (mut found, mut answers) = (Vec::new(), Answers::new());
    for ((name, number), &offset) in wanted {
        let of = (name.clone(), *number);
        let topic = topics.get(name.as_str());
        let partition = topic.and_then(|t| t.partitions.iter().find(|p| p.partition == *number));
        let refused =
            |text: String, may_pass| Refused { failure: Failure::refused(text), may_pass };
        match (topic, partition) {
            (Some(topic), Some(partition)) if partition.leader >= 0 => {
                let request = v1::RecordsToDelete {
                    topic: name.clone(),
                    topic_id: topic.topic_id.clone(),
                    partition: *number,
                    leader_epoch: partition.leader_epoch,
                    offset,
                };
                found.push((of, Asked { leader: partition.leader, request }));
            }
            (Some(_), Some(_)) => {
                let text = format!("{name}-{number} has no live leader: start its broker");
                answers.push((of, Err(refused(text, true))));
            }
            _ => {
                let text = format!("topic `{name}` has no partition {number}");
                answers.push((of, Err(refused(text, false))));
            }
        }
    }
    Ok((found, answers))
}

/// What would be asked of whom.
async fn look_up(admin: &mut Admin, wanted: &BTreeMap<Of, i64>) -> Result<Answers, Failure> {
    let (found, mut answers) = find(admin, wanted).await?;
    answers.extend(found.into_iter().map(|(of, asked)| (of, Ok(asked.request.offset))));
    Ok(answers)
}

/// One attempt: asks every leader once.
async fn ask_all(admin: &mut Admin, wanted: &BTreeMap<Of, i64>) -> Result<Answers, Failure> {
    let (found, mut answers) = find(admin, wanted).await?;
    let nodes = brokers::describe_cluster(admin).await?.brokers.into_iter();
    let addresses: HashMap<i32, String> = nodes
        .filter_map(|broker| broker.node)
        .map(|node| (node.id, format!("{}:{}", node.host, node.grpc_port)))
        .collect();
    let mut by_leader: BTreeMap<i32, Vec<(Of, v1::RecordsToDelete)>> = BTreeMap::new();
    for (of, asked) in found {
        by_leader.entry(asked.leader).or_default().push((of, asked.request));
    }
    for (leader, asked) in by_leader {
        let (asked, requests): (Vec<Of>, Vec<_>) = asked.into_iter().unzip();
        match ask(addresses.get(&leader), requests).await {
            Ok(results) => answers.extend(asked.into_iter().zip(results).map(|(of, result)| {
                let answer = match &result.error {
                    None => Ok(result.low_watermark),
                    Some(error) => Err(refused(error)),
                };
                (of, answer)
            })),
            Err(failure) => answers.extend(asked.into_iter().map(|of| {
                let failure = Failure { code: failure.code, text: failure.text.clone() };
                (of, Err(Refused { failure, may_pass: true }))
            })),
        }
    }
    Ok(answers)
}

fn refused(error: &v1::Error) -> Refused {
    let retry = ErrorCode::from_code(error.code).retry();
    let may_pass = matches!(retry, Retry::RefreshMetadata)
        && ErrorCode::from_code(error.code) != ErrorCode::KafkaStorageError;
    Refused { failure: Failure::refused(with_remedy(error)), may_pass }
}

async fn ask(
    address: Option<&String>,
    partitions: Vec<v1::RecordsToDelete>,
) -> Result<Vec<v1::DeletedRecords>, Failure> {
    let address = address.ok_or_else(|| {
        Failure::unreachable("the leader's address is not known: it may just have stopped")
    })?;
    let mut client = LogClient::new(admin::connect(address).await?);
    let asked = partitions.len();
    let request = v1::DeleteRecordsRequest { partitions, timeout_ms: 0 };
    let answer = tokio::time::timeout(ANSWER_WITHIN, client.delete_records(request)).await;
    let failed = |text: &str| Failure::unreachable(format!("broker {address}: {text}"));
    let results = match answer {
        Ok(Ok(response)) => response.into_inner().results,
        Ok(Err(status)) => return Err(failed(status.message())),
        Err(_) => return Err(failed("no answer; the records may or may not be deleted")),
    };
    match results.len() == asked {
        true => Ok(results),
        false => Err(failed("its answer is not about what was asked")),
    }
}

async fn describe(admin: &mut Admin, topics: Vec<String>) -> Result<Vec<v1::Topic>, Failure> {
    let request = v1::DescribeTopicsRequest { topics, ..Default::default() };
    let response = admin
        .call(request, |mut client, request| async move { client.describe_topics(request).await })
        .await?;
    let topics: Vec<v1::Topic> = response.topics.into_iter().filter_map(|d| d.topic).collect();
    let refused = topics.iter().filter_map(|topic| topic.error.as_ref());
    Failure::all(refused.map(Failure::of).collect())?;
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_from_the_command_line_and_from_kafkas_file() {
        assert_eq!(parse_offset("12").unwrap(), 12);
        assert_eq!((parse_offset("-1").unwrap(), parse_offset("latest").unwrap()), (-1, -1));
        assert!(["-2", "x", "", "1.5"].iter().all(|text| parse_offset(text).is_err()));
        let file = br#"{"partitions":[{"topic":"t","partition":1,"offset":5},
            {"topic":"t","partition":0,"offset":-1}],"version":1}"#;
        let wanted = parse_file(file).unwrap();
        let expected = [(("t".to_owned(), 0), -1), (("t".to_owned(), 1), 5)];
        assert_eq!(wanted.into_iter().collect::<Vec<_>>(), expected);
        for wrong in [
            r#"{"partitions":[{"topic":"t","partition":0,"offset":-2}]}"#,
            r#"{"partitions":[{"topic":"t","partition":0}]}"#,
            r#"{"partitions":[],"version":2}"#,
            r#"{"partitions":[{"topic":"t","partition":0,"offset":1},
                {"topic":"t","partition":0,"offset":2}]}"#,
            "[]",
        ] {
            assert_eq!(parse_file(wrong.as_bytes()).unwrap_err().code, 2, "{wrong}");
        }
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let may_pass = |code: ErrorCode| refused(&code.to_message("m", "")).may_pass;
        assert!(may_pass(ErrorCode::NotLeaderOrFollower) && may_pass(ErrorCode::FencedLeaderEpoch));
        assert!(!may_pass(ErrorCode::OffsetOutOfRange) && !may_pass(ErrorCode::PolicyViolation));
        assert!(!may_pass(ErrorCode::KafkaStorageError));
    }
}

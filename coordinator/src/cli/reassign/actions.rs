//! Execute, verify, list, cancel: in Kafka's words where Kafka's tool has words for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proto::v1;
use serde_json::{Value, json};

use super::args::{Cancel, Execute, Pace, ReassignAction, ReassignArgs, Verify};
use super::plan_file::{Of, Plan, to_json};
use super::{ask, generate, plan_file, watch};
use crate::cli::admin::Admin;
use crate::cli::args::Format;
use crate::cli::failure::{Failure, with_remedy};
use crate::cli::output;

/// Carries out the subcommand.
pub(crate) async fn run(args: ReassignArgs) -> Result<(), Failure> {
    let mut admin = Admin::new(&args.target);
    let format = args.target.format;
    match &args.action {
        ReassignAction::Generate(args) => generate::run(&mut admin, format, args).await,
        ReassignAction::Execute(args) => execute(&mut admin, format, args).await,
        ReassignAction::Verify(args) => verify(&mut admin, format, args).await,
        ReassignAction::List => list(&mut admin, format).await,
        ReassignAction::Cancel(args) => cancel(&mut admin, format, args).await,
    }
}

async fn execute(admin: &mut Admin, format: Format, args: &Execute) -> Result<(), Failure> {
    let plan = plan_file::read(&args.reassignment_json_file)?;
    let names: BTreeSet<String> = plan.keys().map(|(topic, _)| topic.clone()).collect();
    let topics = ask::topics(admin, names.into_iter().collect()).await?;
    let under_way = ask::list(admin, false).await?.reassignments;
    let mut before = ask::settled(&topics, &under_way);
    before.retain(|of, _| plan.contains_key(of));
    let moving: BTreeSet<Of> = under_way.iter().map(ask::of).collect();
    let asked = plan.iter().map(|(of, replicas)| (of.clone(), Some(replicas.clone())));
    let results = ask::alter(admin, asked.collect(), args.pace.throttle.unwrap_or(0)).await?;
    let is_there = |of: &Of| !moving.contains(of) && before.get(of) == plan.get(of);
    let (there, started): (Vec<Of>, Vec<Of>) = accepted(&results).into_iter().partition(is_there);
    match format {
        Format::Json if !args.pace.wait => {
            let mut document = json!({ "previous": to_json(&before) });
            document["results"] = results_json(&results);
            output::json(&document)?;
        }
        Format::Json => {}
        Format::Text => {
            output::write(executed(&before, &there, &started, args.pace).as_bytes())?;
        }
    }
    ask::refused(&results)?;
    match args.pace.wait {
        true => wait_and_tell(admin, format, &plan).await,
        false => Ok(()),
    }
}

/// What is told when a plan has been taken: Kafka's words, then what becomes of it.
fn executed(before: &Plan, there: &[Of], started: &[Of], pace: Pace) -> String {
    let mut text = format!(
        "Current partition replica assignment\n\n{}\n\n\
         Save this to use as the --reassignment-json-file option during rollback\n",
        to_json(before)
    );
    if !there.is_empty() {
        let _ = writeln!(text, "Nothing to do for {}: as planned already", ask::names(there));
    }
    if started.is_empty() {
        return text;
    }
    let names = ask::names(started);
    let _ = writeln!(text, "Successfully started partition reassignments for {names}");
    if let Some(rate) = pace.throttle {
        let _ = writeln!(
            text,
            "Brokers that get replicas fetch at most {rate} bytes/s for them until they are done"
        );
    }
    if !pace.wait {
        text.push_str(
            "It goes on by itself: --list shows how far it is, --verify whether it is done\n",
        );
    }
    text
}

/// Waits for a plan, then tells how it went.
async fn wait_and_tell(admin: &mut Admin, format: Format, plan: &Plan) -> Result<(), Failure> {
    watch::wait(admin, &plan.keys().cloned().collect()).await?;
    admin.again();
    tell_status(admin, format, plan).await
}

async fn verify(admin: &mut Admin, format: Format, args: &Verify) -> Result<(), Failure> {
    tell_status(admin, format, &plan_file::read(&args.reassignment_json_file)?).await
}

/// How a partition of a plan stands.
#[derive(Debug, PartialEq, Eq)]
enum Status {
    Completed,
    /// With the target under way, where it is another one.
    InProgress(Option<Vec<i32>>),
    /// It has these replicas.
    Elsewhere(Vec<i32>),
    Unknown,
}

impl Status {
    fn line(&self, (topic, partition): &Of, planned: &[i32]) -> String {
        let of = format!("partition {topic}-{partition}");
        match self {
            Self::Completed => format!("Reassignment of {of} is completed."),
            Self::InProgress(None) => format!("Reassignment of {of} is still in progress."),
            Self::InProgress(Some(other)) => format!(
                "Reassignment of {of} is still in progress, to {} rather than {}.",
                ids(other),
                ids(planned)
            ),
            Self::Elsewhere(replicas) => format!(
                "There is no active reassignment of {of}, but replica set is {} rather than {}.",
                ids(replicas),
                ids(planned)
            ),
            Self::Unknown => format!("There is no {of}."),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::InProgress(_) => "in progress",
            Self::Elsewhere(_) => "not as planned",
            Self::Unknown => "no such partition",
        }
    }
}

/// How a plan stands, by what there is and what is under way.
fn statuses(plan: &Plan, now: &Plan, under_way: &Plan) -> BTreeMap<Of, Status> {
    let status = |(of, planned): (&Of, &Vec<i32>)| {
        let status = match (under_way.get(of), now.get(of)) {
            (Some(target), _) => Status::InProgress((target != planned).then(|| target.clone())),
            (None, Some(replicas)) if replicas == planned => Status::Completed,
            (None, Some(replicas)) => Status::Elsewhere(replicas.clone()),
            (None, None) => Status::Unknown,
        };
        (of.clone(), status)
    };
    plan.iter().map(status).collect()
}

async fn tell_status(admin: &mut Admin, format: Format, plan: &Plan) -> Result<(), Failure> {
    let list = ask::list(admin, false).await?.reassignments;
    let under_way: Plan = list.iter().map(|r| (ask::of(r), r.target.clone())).collect();
    // All topics: one that is gone is a line of the answer, not its end.
    let now = ask::current(&ask::topics(admin, Vec::new()).await?);
    let statuses = statuses(plan, &now, &under_way);
    match format {
        Format::Json => {
            let partitions = statuses.iter().map(|((topic, partition), status)| {
                json!({ "topic": topic, "partition": partition, "status": status.word() })
            });
            output::json(&json!(partitions.collect::<Vec<_>>()))?;
        }
        Format::Text => {
            let mut text = "Status of partition reassignment:\n".to_owned();
            for (of, status) in &statuses {
                let _ = writeln!(text, "{}", status.line(of, &plan[of]));
            }
            output::write(text.as_bytes())?;
        }
    }
    match open(statuses.values()) {
        None => Ok(()),
        Some(text) => Err(Failure::refused(text)),
    }
}

/// What is not as planned, if anything is not.
fn open<'a>(statuses: impl ExactSizeIterator<Item = &'a Status>) -> Option<String> {
    let all = statuses.len();
    let (mut under_way, mut elsewhere) = (0, 0);
    for status in statuses {
        match status {
            Status::Completed => {}
            Status::InProgress(None) => under_way += 1,
            Status::InProgress(Some(_)) | Status::Elsewhere(_) | Status::Unknown => elsewhere += 1,
        }
    }
    match (under_way, elsewhere) {
        (0, 0) => None,
        (n, 0) => Some(format!("{n} of {all} partitions are still in progress")),
        (0, n) => Some(format!("{n} of {all} partitions are not as planned")),
        (n, m) => Some(format!(
            "of {all} partitions {n} are still in progress, and {m} are not as planned"
        )),
    }
}

async fn list(admin: &mut Admin, format: Format) -> Result<(), Failure> {
    let response = ask::list(admin, true).await?;
    match format {
        Format::Json => {
            let all: Vec<Value> = response.reassignments.iter().map(under_way_json).collect();
            output::json(&json!(all))
        }
        Format::Text if response.reassignments.is_empty() => {
            output::write(b"No partition reassignments found.\n")
        }
        Format::Text => {
            let mut text = "Current partition reassignments:\n".to_owned();
            response.reassignments.iter().for_each(|r| text.push_str(&under_way_line(r)));
            for broker in &response.unreachable {
                let _ = writeln!(text, "Broker: {}\tUnreachable: {}", broker.id, broker.why);
            }
            output::write(text.as_bytes())
        }
    }
}

/// Kafka's line, with how far it is behind it.
fn under_way_line(under_way: &v1::OngoingReassignment) -> String {
    let partition = under_way.partition.clone().unwrap_or_default();
    let mut line = format!(
        "{}-{}: replicas: {}.",
        under_way.topic,
        partition.partition,
        ids(&partition.replicas)
    );
    if !partition.adding.is_empty() {
        let _ = write!(line, " adding: {}.", ids(&partition.adding));
    }
    if !partition.removing.is_empty() {
        let _ = write!(line, " removing: {}.", ids(&partition.removing));
    }
    if under_way.target == under_way.original {
        line.push_str(" cancelling.");
    }
    for replica in under_way.progress.iter().filter(|replica| !replica.in_sync) {
        let v1::AddingReplica { broker, offsets_left, bytes_left, bytes_total, .. } = replica;
        let _ = match offsets_left {
            ..0 => write!(line, " broker {broker}: not known."),
            _ => write!(
                line,
                " broker {broker}: {offsets_left} records, {bytes_left} of {bytes_total} bytes left."
            ),
        };
    }
    if under_way.throttle > 0 {
        let _ = write!(line, " throttle: {} bytes/s.", under_way.throttle);
    }
    line + "\n"
}

fn under_way_json(under_way: &v1::OngoingReassignment) -> Value {
    let partition = under_way.partition.clone().unwrap_or_default();
    let known = |number: i64| (number >= 0).then_some(number);
    let progress = under_way.progress.iter().map(|replica| {
        json!({
            "broker": replica.broker,
            "in_sync": replica.in_sync,
            "records_left": known(replica.offsets_left),
            "bytes_left": known(replica.bytes_left),
            "bytes_total": known(replica.bytes_total),
        })
    });
    json!({
        "topic": under_way.topic,
        "partition": partition.partition,
        "replicas": partition.replicas,
        "isr": partition.isr,
        "adding": partition.adding,
        "removing": partition.removing,
        "target": under_way.target,
        "original": under_way.original,
        "cancelling": under_way.target == under_way.original,
        "throttle": (under_way.throttle > 0).then_some(under_way.throttle),
        "progress": progress.collect::<Vec<_>>(),
    })
}

async fn cancel(admin: &mut Admin, format: Format, args: &Cancel) -> Result<(), Failure> {
    let list = ask::list(admin, false).await?.reassignments;
    let chosen: BTreeSet<Of> = match &args.reassignment_json_file {
        Some(path) => plan_file::read(path)?.into_keys().collect(),
        None => {
            let all = list.iter().map(ask::of);
            all.filter(|(topic, _)| args.all || args.topic.contains(topic)).collect()
        }
    };
    take_back(admin, format, &list, chosen, args.wait).await
}

/// Takes back those of the chosen partitions that are under way.
pub(crate) async fn take_back(
    admin: &mut Admin,
    format: Format,
    list: &[v1::OngoingReassignment],
    chosen: BTreeSet<Of>,
    wait: bool,
) -> Result<(), Failure> {
    let original: Plan = list
        .iter()
        .map(|r| (ask::of(r), r.original.clone()))
        .filter(|(of, _)| chosen.contains(of))
        .collect();
    let asked = original.keys().map(|of| (of.clone(), None)).collect();
    let mut results = ask::alter(admin, asked, 0).await?;
    // One that was done meanwhile is none that is active.
    let none = proto::ErrorCode::NoReassignmentInProgress as i32;
    results.retain(|(_, error)| error.as_ref().is_none_or(|error| error.code != none));
    let taken = accepted(&results);
    match format {
        Format::Json if wait => {}
        Format::Json => output::json(&results_json(&results))?,
        Format::Text if taken.is_empty() && results.is_empty() => {
            output::write(b"None of the specified partition reassignments are active.\n")?;
        }
        Format::Text if taken.is_empty() => {}
        Format::Text => {
            let names = ask::names(&taken);
            let line = format!("Successfully cancelled partition reassignments for: {names}\n");
            output::write(line.as_bytes())?;
        }
    }
    ask::refused(&results)?;
    match wait && !original.is_empty() {
        true => wait_and_tell(admin, format, &original).await,
        false => Ok(()),
    }
}

fn accepted(results: &ask::Results) -> Vec<Of> {
    let accepted = results.iter().filter(|(_, error)| error.is_none());
    accepted.map(|(of, _)| of.clone()).collect()
}

fn results_json(results: &ask::Results) -> Value {
    let results = results.iter().map(|((topic, partition), error)| {
        let mut result = json!({ "topic": topic, "partition": partition });
        if let Some(error) = error {
            result["error"] = json!({ "code": error.code, "message": with_remedy(error) });
        }
        result
    });
    json!(results.collect::<Vec<_>>())
}

/// `1,2,3`
fn ids(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! `coordinator brokers --drain ID`: moves every replica off a broker, so that it can be taken away.
//!
//! Each replica goes to the live broker where a new topic would put it: another rack than the other
//! replicas first, then balance. A drain is a mark on the broker, its override `cordoned.log.dirs`, by
//! which it gets nothing new for as long as the mark is there, and an ordinary reassignment of the
//! partitions it concerns. `--undrain` takes away the mark, and back what is not done.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::{BrokerId, TopicId, v1};
use serde_json::json;

use super::admin::{Admin, Client, request_id};
use super::args::{Drain, Format, Undrain};
use super::brokers;
use super::failure::Failure;
use super::output;
use super::reassign::generate::candidates;
use super::reassign::plan_file::{Of, Plan, to_json};
use super::reassign::{self, ask, watch};
use crate::controller::placement::{Candidate, TooFewBrokers, replace};
use crate::registry::configs::{CORDONED_ALL, CORDONED_KEY};

/// So many partitions of a topic may be under way at a time; the rest follow.
const PARTITIONS_MAX: usize = 1_000;

/// Carries out `--drain`.
pub(super) async fn drain(admin: &mut Admin, format: Format, args: &Drain) -> Result<(), Failure> {
    let mut moved = Plan::new();
    let mut marked = false;
    loop {
        admin.again();
        let cluster = brokers::describe_cluster(admin).await?;
        let topics = ask::topics(admin, Vec::new()).await?;
        let list = ask::list(admin, false).await?.reassignments;
        let under_way: BTreeMap<Of, &v1::OngoingReassignment> =
            list.iter().map(|r| (ask::of(r), r)).collect();
        check_known(&cluster, &topics, args.broker)?;
        let next = plan(args.broker, &topics, &under_way, &cluster)?;
        match (cluster.cordoned.contains(&args.broker), marked) {
            (true, _) => {}
            (false, false) => {
                // Whatever was placed on it meanwhile is seen by looking again.
                marked = true;
                set_mark(admin, args.broker, true).await?;
                continue;
            }
            (false, true) => {
                let id = args.broker;
                return Err(Failure::refused(format!(
                    "somebody took back the drain of broker {id}"
                )));
            }
        }
        let going: BTreeSet<Of> =
            list.iter().filter(|r| goes(r, args.broker)).map(ask::of).collect();
        if next.plan.is_empty() && going.is_empty() {
            break;
        }
        start(admin, format, args, &next.plan).await?;
        moved.extend(next.plan.iter().map(|(of, replicas)| (of.clone(), replicas.clone())));
        if !args.pace.wait {
            return tell_started(format, args.broker, &moved, &next, going.len());
        }
        watch::wait(admin, &next.plan.into_keys().chain(going).collect()).await?;
    }
    let text = match moved.is_empty() {
        true => format!(
            "Broker {} has no replicas, and gets none until it is undrained: it can be stopped.\n",
            args.broker
        ),
        false => format!(
            "Broker {} has no replicas any more ({} partitions moved), and gets none until it is \
             undrained: it can be stopped.\n",
            args.broker,
            moved.len()
        ),
    };
    match format {
        Format::Text => output::write(text.as_bytes()),
        Format::Json => output::json(
            &json!({ "broker": args.broker, "drained": true, "plan": to_json(&moved) }),
        ),
    }
}

async fn start(
    admin: &mut Admin,
    format: Format,
    args: &Drain,
    plan: &Plan,
) -> Result<(), Failure> {
    if plan.is_empty() {
        return Ok(());
    }
    if format == Format::Text && args.pace.wait {
        let text = format!("Moving {} partitions off broker {}.\n", plan.len(), args.broker);
        output::write(text.as_bytes())?;
    }
    let asked = plan.iter().map(|(of, replicas)| (of.clone(), Some(replicas.clone())));
    let results = ask::alter(admin, asked.collect(), args.pace.throttle.unwrap_or(0)).await?;
    ask::refused(&results)
}

fn tell_started(
    format: Format,
    id: i32,
    moved: &Plan,
    next: &Next,
    going: usize,
) -> Result<(), Failure> {
    if format == Format::Json {
        let left = next.later;
        return output::json(
            &json!({ "broker": id, "drained": false, "plan": to_json(moved), "later": left }),
        );
    }
    let mut text = format!("Moving {} partitions off broker {id}", moved.len());
    if going > 0 {
        text.push_str(&format!(", and {going} were on their way already"));
    }
    text.push_str(".\n");
    if next.later > 0 {
        let more = next.later;
        text.push_str(&format!("{more} more are left for when these are done: drain again.\n"));
    }
    text.push_str(
        "`reassign --list` shows how far it is; drain again with --wait to wait for it.\n",
    );
    output::write(text.as_bytes())
}

/// Refuses ids that nobody has: most likely a slip.
fn check_known(
    cluster: &v1::DescribeClusterResponse,
    topics: &[v1::Topic],
    id: i32,
) -> Result<(), Failure> {
    let live = cluster.brokers.iter().any(|b| b.node.as_ref().is_some_and(|node| node.id == id));
    let stores = |topic: &v1::Topic| topic.partitions.iter().any(|p| p.replicas.contains(&id));
    match live || cluster.cordoned.contains(&id) || topics.iter().any(stores) {
        true => Ok(()),
        false => Err(Failure::refused(format!(
            "there is no broker {id}: none with this id is live, and no partition has a replica on \
             it; `brokers --list` shows who is live"
        ))),
    }
}

/// Lets a broker take no new replicas any more, or again.
async fn set_mark(admin: &mut Admin, id: i32, mark: bool) -> Result<(), Failure> {
    let mut request = v1::AlterConfigsRequest {
        request_id: request_id(),
        kind: v1::ConfigKind::Broker.into(),
        name: id.to_string(),
        ..Default::default()
    };
    match mark {
        true => drop(request.set.insert(CORDONED_KEY.to_owned(), CORDONED_ALL.to_owned())),
        false => request.remove.push(CORDONED_KEY.to_owned()),
    }
    let call = |mut client: Client, request| async move { client.alter_configs(request).await };
    match admin.call(request, call).await?.error {
        Some(error) => Err(Failure::of(&error)),
        None => Ok(()),
    }
}

/// Carries out `--undrain`.
pub(super) async fn undrain(
    admin: &mut Admin,
    format: Format,
    args: &Undrain,
) -> Result<(), Failure> {
    let cluster = brokers::describe_cluster(admin).await?;
    let was_drained = cluster.cordoned.contains(&args.broker);
    if was_drained {
        set_mark(admin, args.broker, false).await?;
    }
    let list = ask::list(admin, false).await?.reassignments;
    let chosen: BTreeSet<Of> = list.iter().filter(|r| goes(r, args.broker)).map(ask::of).collect();
    let nothing_else = chosen.is_empty();
    match format {
        Format::Json if nothing_else => {
            output::json(&json!({ "broker": args.broker, "was_drained": was_drained }))?;
        }
        Format::Json => {}
        Format::Text => {
            let now = match was_drained {
                true => "takes new replicas again",
                false => "was not drained",
            };
            output::write(format!("Broker {} {now}.\n", args.broker).as_bytes())?;
        }
    }
    match nothing_else {
        true => Ok(()),
        false => reassign::take_back(admin, format, &list, chosen, args.wait).await,
    }
}

/// Whether a reassignment takes a replica away from a broker that it had before.
fn goes(under_way: &v1::OngoingReassignment, id: i32) -> bool {
    under_way.original.contains(&id) && !under_way.target.contains(&id)
}

/// What is moved now, and how many partitions have to wait.
#[derive(Debug, Default)]
struct Next {
    plan: Plan,
    later: usize,
}

/// New replicas for every partition that is to have one on the broker.
fn plan(
    id: i32,
    topics: &[v1::Topic],
    under_way: &BTreeMap<Of, &v1::OngoingReassignment>,
    cluster: &v1::DescribeClusterResponse,
) -> Result<Next, Failure> {
    let topics = as_they_will_be(topics, under_way);
    let mut candidates = candidates(cluster, &topics, &[])?;
    let nodes = cluster.brokers.iter().filter_map(|broker| broker.node.as_ref());
    let racks: HashMap<BrokerId, String> =
        nodes.map(|node| (BrokerId(node.id), node.rack.clone())).collect();
    candidates.retain(|candidate| candidate.id.0 != id);
    let (mut next, mut impossible) = (Next::default(), Vec::new());
    for topic in &topics {
        let partitions: Vec<Vec<BrokerId>> = topic
            .partitions
            .iter()
            .map(|p| p.replicas.iter().copied().map(BrokerId).collect())
            .collect();
        let seed = TopicId::from_slice(&topic.topic_id).map_or(0, |id| id.0.as_u64_pair().0);
        let moved = match replace(&candidates, &racks, &partitions, BrokerId(id), seed) {
            Ok(moved) => moved,
            Err(TooFewBrokers { asked, live }) => {
                impossible.push(format!(
                    "topic `{}` keeps {asked} replicas of a partition, and besides broker {id} \
                     only {live} are live and not drained",
                    topic.name
                ));
                continue;
            }
        };
        let started = under_way.keys().filter(|(name, _)| *name == topic.name).count();
        let room = PARTITIONS_MAX.saturating_sub(started);
        next.later += moved.len().saturating_sub(room);
        for (p, replicas) in moved.into_iter().take(room) {
            count(&mut candidates, &partitions[p], &replicas);
            let replicas = replicas.into_iter().map(|id| id.0).collect();
            next.plan.insert((topic.name.clone(), topic.partitions[p].partition), replicas);
        }
    }
    match impossible.is_empty() {
        true => Ok(next),
        false => Err(Failure::refused(format!(
            "broker {id} cannot be drained: {}; nothing was moved. Start another broker, or give \
             these topics fewer replicas first (`reassign --generate --replication-factor N`)",
            impossible.join("; ")
        ))),
    }
}

/// Keeps the counts of candidates right for the topics that follow.
fn count(candidates: &mut [Candidate], before: &[BrokerId], after: &[BrokerId]) {
    for candidate in candidates {
        let new = after.contains(&candidate.id) && !before.contains(&candidate.id);
        candidate.replicas += usize::from(new);
        let leads = after.first() == Some(&candidate.id) && before.first() != Some(&candidate.id);
        candidate.leaders += usize::from(leads);
    }
}

/// Topics with the replicas that partitions under way will have.
fn as_they_will_be(
    topics: &[v1::Topic],
    under_way: &BTreeMap<Of, &v1::OngoingReassignment>,
) -> Vec<v1::Topic> {
    let mut topics = topics.to_vec();
    for topic in &mut topics {
        for partition in &mut topic.partitions {
            let of = (topic.name.clone(), partition.partition);
            if let Some(under_way) = under_way.get(&of) {
                partition.replicas.clone_from(&under_way.target);
            }
        }
    }
    topics
}

#[cfg(test)]
mod tests;

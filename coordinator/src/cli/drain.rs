//! `coordinator brokers --drain ID`: moves every replica off a broker, so that it can be taken away.
//!
//! Each replica goes to the live broker where a new topic would put it: another rack than the other
//! replicas first, then balance. A drain is an ordinary reassignment of the partitions it concerns;
//! `--undrain` takes back what of it is not done.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::{BrokerId, TopicId, v1};
use serde_json::json;

use super::admin::Admin;
use super::args::{Drain, Format, Undrain};
use super::brokers;
use super::failure::Failure;
use super::output;
use super::reassign::generate::candidates;
use super::reassign::plan_file::{Of, Plan, to_json};
use super::reassign::{self, ask, watch};
use crate::controller::placement::{Candidate, TooFewBrokers, replace};

/// So many partitions of a topic may be under way at a time; the rest follow.
const PARTITIONS_MAX: usize = 1_000;

/// Carries out `--drain`.
pub(super) async fn drain(admin: &mut Admin, format: Format, args: &Drain) -> Result<(), Failure> {
    let mut moved = Plan::new();
    loop {
        admin.again();
        let live = brokers::describe_cluster(admin).await?.brokers;
        let topics = ask::topics(admin, Vec::new()).await?;
        let list = ask::list(admin, false).await?.reassignments;
        let under_way: BTreeMap<Of, &v1::OngoingReassignment> =
            list.iter().map(|r| (ask::of(r), r)).collect();
        let next = plan(args.broker, &topics, &under_way, &live)?;
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
        true => format!("Broker {} has no replicas: nothing to move.\n", args.broker),
        false => format!(
            "Broker {} has no replicas any more ({} partitions moved): it can be stopped.\n",
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

/// Carries out `--undrain`.
pub(super) async fn undrain(
    admin: &mut Admin,
    format: Format,
    args: &Undrain,
) -> Result<(), Failure> {
    let list = ask::list(admin, false).await?.reassignments;
    let chosen = list.iter().filter(|r| goes(r, args.broker)).map(ask::of).collect();
    reassign::take_back(admin, format, &list, chosen, args.wait).await
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
    live: &[v1::DescribedBroker],
) -> Result<Next, Failure> {
    let topics = as_they_will_be(topics, under_way);
    let mut candidates = candidates(live, &topics, &[])?;
    let racks: HashMap<BrokerId, String> =
        candidates.iter().map(|c| (c.id, c.rack.clone())).collect();
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
                     only {live} are live",
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
mod tests {
    use super::*;

    fn broker(id: i32, rack: &str) -> v1::DescribedBroker {
        let node = v1::Node { id, rack: rack.to_owned(), ..Default::default() };
        v1::DescribedBroker { node: Some(node), ..Default::default() }
    }

    fn topic(name: &str, partitions: &[&[i32]]) -> v1::Topic {
        let partitions = (0..).zip(partitions).map(|(partition, replicas)| v1::Partition {
            partition,
            replicas: replicas.to_vec(),
            ..Default::default()
        });
        v1::Topic { name: name.to_owned(), partitions: partitions.collect(), ..Default::default() }
    }

    #[test]
    fn a_drained_broker_is_replaced_where_it_stands_and_nothing_else_moves() {
        let live = [broker(1, "a"), broker(2, "b"), broker(3, "a"), broker(4, "b")];
        let topics = [topic("t", &[&[1, 2], &[2, 3], &[3, 1], &[1, 4]]), topic("u", &[&[1], &[2]])];
        let moved = plan(1, &topics, &BTreeMap::new(), &live).unwrap().plan;
        let of = |name: &str, partition| moved.get(&(name.to_owned(), partition)).cloned();
        // 3 is the one left in rack a.
        assert_eq!(of("t", 0), Some(vec![3, 2]));
        assert_eq!(of("t", 1), None);
        assert_eq!(of("t", 3), Some(vec![3, 4]));
        // Rack b, as 3 is in a.
        assert!(matches!(of("t", 2).as_deref(), Some([3, 2 | 4])), "{moved:?}");
        assert!(of("u", 0).is_some_and(|replicas| replicas.len() == 1 && replicas[0] != 1));
        assert_eq!(of("u", 1), None);
    }

    #[test]
    fn too_few_brokers_are_refused_before_anything_moves() {
        let live = [broker(1, ""), broker(2, ""), broker(3, "")];
        let topics = [topic("few", &[&[1]]), topic("many", &[&[1, 2, 3]])];
        let told = plan(1, &topics, &BTreeMap::new(), &live).unwrap_err().text;
        assert!(
            told.starts_with(
                "broker 1 cannot be drained: topic `many` keeps 3 replicas of a partition, and \
                 besides broker 1 only 2 are live; nothing was moved."
            ),
            "{told}"
        );
        // A broker that is dead can be drained, too.
        let live = [broker(2, ""), broker(3, ""), broker(4, "")];
        let moved = plan(1, &topics, &BTreeMap::new(), &live).unwrap().plan;
        assert_eq!(moved[&("many".to_owned(), 0)], [4, 2, 3]);
    }

    #[test]
    fn what_is_under_way_counts_as_done() {
        let live = [broker(1, ""), broker(2, ""), broker(3, "")];
        let topics = [topic("t", &[&[2, 1], &[3, 1]])];
        let under_way = |target: &[i32], original: &[i32]| v1::OngoingReassignment {
            target: target.to_vec(),
            original: original.to_vec(),
            ..Default::default()
        };
        let (away, to) = (under_way(&[2, 3], &[1]), under_way(&[1], &[3]));
        let list = [(("t".to_owned(), 0), &away), (("t".to_owned(), 1), &to)].into();
        let moved = plan(1, &topics, &list, &live).unwrap().plan;
        // The first leaves broker 1 by itself; the second is stopped from coming.
        assert_eq!(moved.keys().collect::<Vec<_>>(), [&("t".to_owned(), 1)]);
        assert!(goes(&away, 1) && !goes(&to, 1));
    }
}

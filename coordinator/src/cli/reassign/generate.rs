//! `coordinator reassign --generate`: a plan for whole topics, as new topics would be placed.

use std::collections::{BTreeMap, BTreeSet};

use proto::{BrokerId, TopicId, v1};

use super::args::Generate;
use super::ask;
use super::plan_file::{self, Plan, to_json};
use crate::cli::admin::Admin;
use crate::cli::args::Format;
use crate::cli::brokers;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::controller::placement::{Candidate, place};

/// Carries out the action.
pub(super) async fn run(admin: &mut Admin, format: Format, args: &Generate) -> Result<(), Failure> {
    let names: BTreeSet<String> = match &args.topics_to_move_json_file {
        Some(path) => plan_file::read_topics(path)?.into_iter().collect(),
        None => args.topics_to_move.iter().cloned().collect(),
    };
    if names.is_empty() {
        return Err(Failure::usage("no topic is named"));
    }
    let cluster = brokers::describe_cluster(admin).await?;
    let all = ask::topics(admin, Vec::new()).await?;
    let under_way = ask::list(admin, false).await?.reassignments;
    if let Some(name) = names.iter().find(|name| all.iter().all(|topic| topic.name != **name)) {
        return Err(Failure::refused(format!("there is no topic `{name}`")));
    }
    let (moved, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|topic| names.contains(&topic.name));
    let mut candidates = candidates(&cluster, &others, &args.broker_list)?;
    if args.disable_rack_aware {
        candidates.iter_mut().for_each(|candidate| candidate.rack.clear());
    }
    let (current, proposed) = (ask::settled(&moved, &under_way), plan(&moved, candidates, args)?);
    let (current, proposed) = (to_json(&current), to_json(&proposed));
    match format {
        Format::Json => {
            output::json(&serde_json::json!({ "current": current, "proposed": proposed }))
        }
        Format::Text => output::write(
            format!(
                "Current partition replica assignment\n{current}\n\n\
                 Proposed partition reassignment configuration\n{proposed}\n"
            )
            .as_bytes(),
        ),
    }
}

/// The live brokers that take new replicas, with what they carry of these topics; `only`: those alone,
/// if any is named.
pub(crate) fn candidates(
    cluster: &v1::DescribeClusterResponse,
    topics: &[v1::Topic],
    only: &[i32],
) -> Result<Vec<Candidate>, Failure> {
    let mut candidates: BTreeMap<i32, Candidate> = BTreeMap::new();
    if let Some(id) = only.iter().find(|id| cluster.cordoned.contains(id)) {
        return Err(Failure::refused(format!(
            "broker {id} is drained: leave it out, or let it take replicas again first \
             (`brokers --undrain {id}`)"
        )));
    }
    for node in cluster.brokers.iter().filter_map(|broker| broker.node.as_ref()) {
        let named = only.is_empty() || only.contains(&node.id);
        if named && !cluster.cordoned.contains(&node.id) {
            let (id, rack) = (BrokerId(node.id), node.rack.clone());
            candidates.insert(node.id, Candidate { id, rack, replicas: 0, leaders: 0 });
        }
    }
    if let Some(id) = only.iter().find(|id| !candidates.contains_key(id)) {
        return Err(Failure::refused(format!(
            "broker {id} is not live: start it first, or leave it out; `brokers --list` shows who is"
        )));
    }
    for partition in topics.iter().flat_map(|topic| &topic.partitions) {
        for (position, id) in partition.replicas.iter().enumerate() {
            if let Some(candidate) = candidates.get_mut(id) {
                candidate.replicas += 1;
                candidate.leaders += usize::from(position == 0);
            }
        }
    }
    Ok(candidates.into_values().collect())
}

fn plan(
    topics: &[v1::Topic],
    mut candidates: Vec<Candidate>,
    args: &Generate,
) -> Result<Plan, Failure> {
    let mut plan = Plan::new();
    for topic in topics {
        // While replicas are exchanged there are more of them for a time.
        let first = topic.partitions.first();
        let now = first.map_or(1, |p| p.replicas.len().saturating_sub(p.removing.len()));
        let factor = args.replication_factor.unwrap_or(now);
        let seed = TopicId::from_slice(&topic.topic_id).map_or(0, |id| id.0.as_u64_pair().0);
        let placed = place(&candidates, &[], topic.partitions.len(), factor, seed)
            .map_err(|error| Failure::refused(format!("topic `{}`: {error}", topic.name)))?;
        for (partition, replicas) in topic.partitions.iter().zip(placed) {
            for candidate in &mut candidates {
                candidate.replicas += usize::from(replicas.contains(&candidate.id));
                candidate.leaders += usize::from(replicas.first() == Some(&candidate.id));
            }
            let replicas = replicas.into_iter().map(|id| id.0).collect();
            plan.insert((topic.name.clone(), partition.partition), replicas);
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(id: i32, rack: &str) -> v1::DescribedBroker {
        let node = v1::Node { id, rack: rack.to_owned(), ..Default::default() };
        v1::DescribedBroker { node: Some(node), ..Default::default() }
    }

    #[test]
    fn a_plan_is_balanced_over_the_brokers_and_racks_that_are_named() {
        let brokers = vec![broker(1, "a"), broker(2, "a"), broker(3, "b"), broker(4, "b")];
        let mut live = v1::DescribeClusterResponse { brokers, ..Default::default() };
        let partition =
            |partition| v1::Partition { partition, replicas: vec![1, 2], ..Default::default() };
        let topic = v1::Topic {
            name: "t".to_owned(),
            partitions: (0..6).map(partition).collect(),
            ..Default::default()
        };
        let topics = [topic];
        let args = Generate {
            topics_to_move: vec!["t".to_owned()],
            topics_to_move_json_file: None,
            broker_list: vec![1, 3],
            replication_factor: None,
            disable_rack_aware: false,
        };
        let named = candidates(&live, &[], &args.broker_list).unwrap();
        let planned = plan(&topics, named, &args).unwrap();
        assert_eq!(planned.len(), 6);
        for id in [1, 3] {
            assert_eq!(planned.values().filter(|replicas| replicas[0] == id).count(), 3);
            assert!(planned.values().all(|replicas| replicas.contains(&id)));
        }
        let all = candidates(&live, &[], &[]).unwrap();
        let planned = plan(&topics, all, &args).unwrap();
        assert!(planned.values().all(|r| (r[0] <= 2) != (r[1] <= 2)), "{planned:?}");
        let three = Generate { replication_factor: Some(3), ..args };
        let few = candidates(&live, &[], &[1, 3]).unwrap();
        let told = plan(&topics, few, &three).unwrap_err().text;
        assert!(told.contains("needs as many live brokers, and 2 are live"), "{told}");
        let told = candidates(&live, &[], &[9]).unwrap_err().text;
        assert!(told.contains("broker 9 is not live"), "{told}");
        live.cordoned = vec![2, 9];
        let taken = candidates(&live, &[], &[]).unwrap();
        assert_eq!(taken.iter().map(|c| c.id.0).collect::<Vec<_>>(), [1, 3, 4]);
        let told = candidates(&live, &[], &[1, 2]).unwrap_err().text;
        assert!(told.contains("broker 2 is drained"), "{told}");
    }
}

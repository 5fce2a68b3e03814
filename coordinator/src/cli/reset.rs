//! `coordinator groups reset-offsets`: works out the new offsets, shows them, writes them on demand.
//!
//! The log's ends come from the partition leaders; the group's offsets are written by the controller, or
//! the group's coordinator, which refuse while the group has live members.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::v1;
use proto::v1::log_client::LogClient;
use serde_json::{Value, json};

use super::admin::{self, Admin, request_id};
use super::args::{Format, Kind, ResetOffsets, ResetTo};
use super::failure::Failure;
use super::groups::Groups;
use super::{brokers, groups, output};

const EARLIEST: i64 = -2;
pub(crate) const LATEST: i64 = -1;

/// A partition and where its group goes on.
pub(crate) struct Planned {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// Carries out the subcommand.
pub(crate) async fn run(
    admin: &mut Admin,
    format: Format,
    args: &ResetOffsets,
) -> Result<(), Failure> {
    let names = groups::named(args.names.all())?;
    let [group] = &names[..] else {
        return Err(Failure::usage("name one group: offsets are reset one group at a time"));
    };
    let mut groups = Groups::find(admin, args.names.kind).await?;
    let kind = groups.kind_of(admin, group).await?;
    let committed = committed(&mut groups, admin, group, kind).await?;
    let wanted = wanted(admin, args, &committed).await?;
    let planned = plan(admin, &args.to, &wanted, &committed).await?;
    if args.execute {
        match kind {
            Kind::Zookeeper => write_to_registry(admin, group, &planned).await?,
            Kind::Broker => groups.commit(group, &planned).await?,
        }
    } else {
        eprintln!("This was a dry run: add --execute to write the offsets.");
    }
    print(format, group, &planned)
}

fn print(format: Format, group: &str, planned: &[Planned]) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let planned: Vec<Value> = planned
                .iter()
                .map(|p| json!({ "topic": p.topic, "partition": p.partition, "offset": p.offset }))
                .collect();
            output::json(&json!({ "group": group, "offsets": planned }))
        }
        Format::Text => {
            let rows: Vec<Vec<String>> = planned
                .iter()
                .map(|p| {
                    let (partition, offset) = (p.partition.to_string(), p.offset.to_string());
                    vec![group.to_owned(), p.topic.clone(), partition, offset]
                })
                .collect();
            let header = ["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"];
            output::write(output::table(&header, &rows).as_bytes())
        }
    }
}

pub(crate) type Partitions = BTreeSet<(String, i32)>;

async fn write_to_registry(
    admin: &mut Admin,
    group: &str,
    planned: &[Planned],
) -> Result<(), Failure> {
    let offsets = planned.iter().map(|planned| v1::OffsetReset {
        topic: planned.topic.clone(),
        partition: planned.partition,
        offset: planned.offset,
    });
    let request = v1::ResetOffsetsRequest {
        request_id: request_id(),
        group: group.to_owned(),
        offsets: offsets.collect(),
    };
    let response = admin
        .call(request, |mut client, request| async move { client.reset_offsets(request).await })
        .await?;
    response.error.map_or(Ok(()), |error| Err(Failure::of(&error)))
}

/// The group's offsets; a group that is not there has none, and is made by the reset.
async fn committed(
    groups: &mut Groups,
    admin: &mut Admin,
    group: &str,
    kind: Kind,
) -> Result<HashMap<(String, i32), i64>, Failure> {
    let described = groups.look(admin, group, kind).await?.unwrap_or_default();
    let partitions = described.partitions.into_iter().filter(|p| p.committed >= 0);
    Ok(partitions.map(|p| ((p.topic, p.partition), p.committed)).collect())
}

/// The partitions named, with all of a topic where only the topic is.
async fn wanted(
    admin: &mut Admin,
    args: &ResetOffsets,
    committed: &HashMap<(String, i32), i64>,
) -> Result<Partitions, Failure> {
    if args.all_topics {
        return Ok(committed.keys().cloned().collect());
    }
    if args.topics.is_empty() {
        return Err(Failure::usage("say which topics: --topic TOPIC[:P,P], or --all-topics"));
    }
    let mut wanted = Partitions::new();
    for text in &args.topics {
        match parse_topic(text)? {
            (topic, Some(partitions)) => {
                wanted.extend(partitions.into_iter().map(|p| (topic.clone(), p)));
            }
            (topic, None) => {
                let described = describe_topics(admin, vec![topic.clone()]).await?;
                let partitions = described.iter().flat_map(|topic| &topic.partitions);
                wanted.extend(partitions.map(|p| (topic.clone(), p.partition)));
            }
        }
    }
    Ok(wanted)
}

fn parse_topic(text: &str) -> Result<(String, Option<Vec<i32>>), Failure> {
    let Some((topic, partitions)) = text.split_once(':') else {
        return Ok((text.to_owned(), None));
    };
    let partitions: Result<Vec<i32>, Failure> = partitions
        .split(',')
        .map(|p| {
            p.trim().parse().map_err(|_| {
                Failure::usage(format!("`{p}` in --topic {text} is not a partition: TOPIC[:P,P]"))
            })
        })
        .collect();
    Ok((topic.to_owned(), Some(partitions?)))
}

async fn describe_topics(
    admin: &mut Admin,
    topics: Vec<String>,
) -> Result<Vec<v1::Topic>, Failure> {
    let request = v1::DescribeTopicsRequest { topics, with_logs: false };
    let response = admin
        .call(request, |mut client, request| async move { client.describe_topics(request).await })
        .await?;
    let topics: Vec<v1::Topic> = response.topics.into_iter().filter_map(|d| d.topic).collect();
    let refused = topics.iter().filter_map(|topic| topic.error.as_ref());
    Failure::all(refused.map(Failure::of).collect())?;
    Ok(topics)
}

async fn plan(
    admin: &mut Admin,
    to: &ResetTo,
    wanted: &Partitions,
    committed: &HashMap<(String, i32), i64>,
) -> Result<Vec<Planned>, Failure> {
    let mut leaders = Leaders::find(admin, wanted).await?;
    let earliest = leaders.offsets(wanted, EARLIEST).await?;
    let latest = leaders.offsets(wanted, LATEST).await?;
    let at_time = match to.to_timestamp {
        Some(ms) => leaders.offsets(wanted, ms).await?,
        None => HashMap::new(),
    };
    let planned = wanted.iter().map(|of| {
        let get = |offsets: &HashMap<(String, i32), i64>| offsets.get(of).copied().unwrap_or(0);
        let (low, high) = (get(&earliest), get(&latest));
        let ends = Ends { low, high, at_time: at_time.get(of).copied() };
        let offset = new_offset(to, ends, committed.get(of).copied());
        let offset = offset.ok_or_else(|| {
            Failure::refused(format!(
                "group has no offset of partition {} of `{}` to shift from: name it otherwise",
                of.1, of.0
            ))
        })?;
        Ok(Planned { topic: of.0.clone(), partition: of.1, offset })
    });
    planned.collect()
}

/// What a partition has.
#[derive(Debug, Clone, Copy)]
struct Ends {
    low: i64,
    high: i64,
    /// -1 when every message is older.
    at_time: Option<i64>,
}

/// The new offset, within what the partition has; `None` when there is nothing to shift from.
fn new_offset(to: &ResetTo, ends: Ends, committed: Option<i64>) -> Option<i64> {
    let wanted = if to.to_earliest {
        ends.low
    } else if let Some(offset) = to.to_offset {
        offset
    } else if let Some(by) = to.shift_by {
        committed?.saturating_add(by)
    } else {
        match ends.at_time {
            Some(offset) if offset >= 0 => offset,
            _ => ends.high,
        }
    };
    Some(wanted.clamp(ends.low, ends.high.max(ends.low)))
}

/// Who leads the partitions asked about, and where they are.
pub(crate) struct Leaders {
    addresses: HashMap<i32, String>,
    leaders: HashMap<(String, i32), i32>,
    clients: BTreeMap<i32, LogClient<proto::client::Connection>>,
}

impl Leaders {
    pub(crate) async fn find(admin: &mut Admin, wanted: &Partitions) -> Result<Self, Failure> {
        let names: BTreeSet<&String> = wanted.iter().map(|(topic, _)| topic).collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let mut leaders = HashMap::new();
        if !names.is_empty() {
            for topic in describe_topics(admin, names).await? {
                for p in &topic.partitions {
                    leaders.insert((topic.name.clone(), p.partition), p.leader);
                }
            }
        }
        let cluster = brokers::describe_cluster(admin).await?;
        let nodes = cluster.brokers.into_iter().filter_map(|broker| broker.node);
        let addresses = nodes.map(|node| (node.id, format!("{}:{}", node.host, node.grpc_port)));
        Ok(Self { addresses: addresses.collect(), leaders, clients: BTreeMap::new() })
    }

    pub(crate) async fn offsets(
        &mut self,
        wanted: &Partitions,
        timestamp_ms: i64,
    ) -> Result<HashMap<(String, i32), i64>, Failure> {
        let mut by_leader: BTreeMap<i32, Vec<v1::OffsetQuery>> = BTreeMap::new();
        for of in wanted {
            let Some(&leader) = self.leaders.get(of) else {
                let (topic, p) = of;
                return Err(Failure::refused(format!("topic `{topic}` has no partition {p}")));
            };
            by_leader.entry(leader).or_default().push(v1::OffsetQuery {
                topic: of.0.clone(),
                topic_id: bytes::Bytes::new(),
                partition: of.1,
                timestamp_ms,
            });
        }
        let mut offsets = HashMap::new();
        for (leader, queries) in by_leader {
            let asked: Vec<(String, i32)> =
                queries.iter().map(|q| (q.topic.clone(), q.partition)).collect();
            let answers = self.ask(leader, queries).await?;
            for (of, answer) in asked.into_iter().zip(answers) {
                if let Some(error) = &answer.error {
                    return Err(Failure::of(error));
                }
                offsets.insert(of, answer.offset);
            }
        }
        Ok(offsets)
    }

    async fn ask(
        &mut self,
        leader: i32,
        queries: Vec<v1::OffsetQuery>,
    ) -> Result<Vec<v1::OffsetAnswer>, Failure> {
        if !self.clients.contains_key(&leader) {
            let Some(address) = self.addresses.get(&leader) else {
                let partitions = queries.len();
                return Err(Failure::refused(format!(
                    "{partitions} partitions have no live leader, so the ends of their logs are \
                     not known: start the broker that stores them"
                )));
            };
            let connection = admin::connect(address).await?;
            self.clients.insert(leader, LogClient::new(connection));
        }
        let Some(client) = self.clients.get_mut(&leader) else { return Ok(Vec::new()) };
        let response = client.list_offsets(v1::ListOffsetsRequest { queries }).await;
        let response = response.map_err(|status| Failure::refused(status.message()))?;
        Ok(response.into_inner().answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to() -> ResetTo {
        ResetTo {
            to_earliest: false,
            to_latest: false,
            to_offset: None,
            to_timestamp: None,
            shift_by: None,
        }
    }

    #[test]
    fn a_new_offset_stays_within_what_the_partition_has() {
        let ends = Ends { low: 10, high: 20, at_time: None };
        let earliest = ResetTo { to_earliest: true, ..to() };
        assert_eq!(new_offset(&earliest, ends, None), Some(10));
        assert_eq!(new_offset(&ResetTo { to_latest: true, ..to() }, ends, None), Some(20));
        let at = |offset| ResetTo { to_offset: Some(offset), ..to() };
        assert_eq!(new_offset(&at(3), ends, None), Some(10));
        assert_eq!(new_offset(&at(15), ends, None), Some(15));
        assert_eq!(new_offset(&at(99), ends, None), Some(20));
        let by = |n| ResetTo { shift_by: Some(n), ..to() };
        assert_eq!(new_offset(&by(-2), ends, Some(15)), Some(13));
        assert_eq!(new_offset(&by(-2), ends, None), None);
        let time = ResetTo { to_timestamp: Some(5), ..to() };
        assert_eq!(new_offset(&time, Ends { at_time: Some(17), ..ends }, None), Some(17));
        assert_eq!(new_offset(&time, Ends { at_time: Some(-1), ..ends }, None), Some(20));
    }

    #[test]
    fn topics_may_carry_partitions() {
        assert_eq!(parse_topic("logs").unwrap(), ("logs".to_owned(), None));
        assert_eq!(parse_topic("logs:0,3").unwrap(), ("logs".to_owned(), Some(vec![0, 3])));
        assert!(parse_topic("logs:x").is_err());
    }
}

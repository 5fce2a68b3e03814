//! `coordinator groups`: of the registry, asked of the controller, and of the brokers, asked of them.

use proto::v1;
use serde_json::{Value, json};

use super::admin::{Admin, request_id};
use super::args::{DescribeGroups, Format, GroupsAction, GroupsArgs, Kind};
use super::broker_groups::{BROKER, Coordinators};
use super::failure::Failure;
use super::{output, reset};

/// Carries out the subcommand.
pub(crate) async fn run(args: GroupsArgs) -> Result<(), Failure> {
    let mut admin = Admin::new(&args.target);
    let format = args.target.format;
    match args.action {
        GroupsAction::List => {
            let mut groups = Groups::find(&mut admin, None).await?;
            print_list(&groups.list(&mut admin).await?, format)
        }
        GroupsAction::Describe(describe) => describe_groups(&mut admin, format, &describe).await,
        GroupsAction::ResetOffsets(args) => reset::run(&mut admin, format, &args).await,
        GroupsAction::Delete { names } => {
            let mut groups = Groups::find(&mut admin, names.kind).await?;
            delete(&mut admin, &mut groups, format, &named(names.all())?).await
        }
    }
}

/// Groups of both kinds, or of the one that is meant.
pub(crate) struct Groups {
    meant: Option<Kind>,
    coordinators: Coordinators,
}

impl Groups {
    /// Learns who could be asked.
    pub(crate) async fn find(admin: &mut Admin, meant: Option<Kind>) -> Result<Self, Failure> {
        Ok(Self { meant, coordinators: Coordinators::find(admin).await? })
    }

    async fn list(&mut self, admin: &mut Admin) -> Result<Vec<v1::GroupListing>, Failure> {
        let request = v1::ListGroupsRequest {};
        let response = admin
            .call(request, |mut client, request| async move { client.list_groups(request).await })
            .await?;
        let mut groups = response.groups;
        groups.extend(self.coordinators.list().await?);
        groups.sort_by(|a, b| (&a.name, &a.kind).cmp(&(&b.name, &b.kind)));
        Ok(groups)
    }

    /// A group of a kind; `None` where there is none.
    pub(crate) async fn look(
        &mut self,
        admin: &mut Admin,
        name: &str,
        kind: Kind,
    ) -> Result<Option<v1::DescribeGroupResponse>, Failure> {
        match kind {
            Kind::Broker => self.coordinators.describe(admin, name).await,
            Kind::Zookeeper => {
                let response = ask_registry(admin, name).await?;
                Ok(response.error.is_none().then_some(response))
            }
        }
    }

    /// Which kind of group has the name; one that neither has is the registry's, to refuse or to make.
    pub(crate) async fn kind_of(&mut self, admin: &mut Admin, name: &str) -> Result<Kind, Failure> {
        if let Some(kind) = self.meant {
            return Ok(kind);
        }
        let in_registry = self.look(admin, name, Kind::Zookeeper).await?.is_some();
        let at_brokers = self.coordinators.is_there(name).await?;
        one_kind(name, in_registry, at_brokers)
    }

    async fn describe(
        &mut self,
        admin: &mut Admin,
        name: &str,
        kind: Option<Kind>,
    ) -> Result<(Kind, v1::DescribeGroupResponse), Failure> {
        let kind = match kind {
            Some(kind) => kind,
            None => self.kind_of(admin, name).await?,
        };
        if kind == Kind::Zookeeper {
            let response = ask_registry(admin, name).await?;
            return match &response.error {
                Some(error) => Err(Failure::of(error)),
                None => Ok((kind, response)),
            };
        }
        let found = self.coordinators.describe(admin, name).await?;
        let missing = || Failure::refused(format!("there is no group `{name}` at the brokers"));
        Ok((kind, found.ok_or_else(missing)?))
    }

    /// Commits for a group of the brokers.
    pub(crate) async fn commit(
        &mut self,
        name: &str,
        planned: &[reset::Planned],
    ) -> Result<(), Failure> {
        let offsets = planned.iter().map(|planned| v1::OffsetToCommit {
            topic: planned.topic.clone(),
            partition: planned.partition,
            offset: planned.offset,
            leader_epoch: -1,
            ..Default::default()
        });
        self.coordinators.commit(name, offsets.collect()).await
    }
}

fn one_kind(name: &str, in_registry: bool, at_brokers: bool) -> Result<Kind, Failure> {
    match (in_registry, at_brokers) {
        (true, true) => Err(Failure::usage(format!(
            "there are two groups `{name}`, which have nothing in common: say which with --kind \
             zookeeper or --kind broker"
        ))),
        (false, true) => Ok(Kind::Broker),
        (_, false) => Ok(Kind::Zookeeper),
    }
}

async fn ask_registry(admin: &mut Admin, name: &str) -> Result<v1::DescribeGroupResponse, Failure> {
    let request = v1::DescribeGroupRequest { name: name.to_owned() };
    admin
        .call(request, |mut client, request| async move { client.describe_group(request).await })
        .await
}

/// At least one group.
pub(crate) fn named(names: Vec<String>) -> Result<Vec<String>, Failure> {
    match names.is_empty() {
        true => Err(Failure::usage("name a group, for example with --group NAME")),
        false => Ok(names),
    }
}

fn print_list(groups: &[v1::GroupListing], format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let groups: Vec<Value> = groups
                .iter()
                .map(|group| {
                    json!({
                        "group": group.name,
                        "kind": group.kind,
                        "state": group.state,
                        "members": group.members,
                    })
                })
                .collect();
            output::json(&json!(groups))
        }
        Format::Text => {
            let rows: Vec<Vec<String>> = groups
                .iter()
                .map(|group| {
                    let members = group.members.to_string();
                    vec![group.name.clone(), group.kind.clone(), group.state.clone(), members]
                })
                .collect();
            let table = output::table(&["GROUP", "KIND", "STATE", "MEMBERS"], &rows);
            output::write(table.as_bytes())
        }
    }
}

async fn describe_groups(
    admin: &mut Admin,
    format: Format,
    args: &DescribeGroups,
) -> Result<(), Failure> {
    let mut groups = Groups::find(admin, args.names.kind).await?;
    let names: Vec<(String, Option<Kind>)> = match args.all_groups {
        true => {
            let all = groups.list(admin).await?.into_iter();
            let all = all.map(|group| (group.name, kind_named(&group.kind)));
            all.filter(|(_, kind)| args.names.kind.is_none_or(|meant| meant == *kind))
                .map(|(name, kind)| (name, Some(kind)))
                .collect()
        }
        false => named(args.names.all())?.into_iter().map(|name| (name, None)).collect(),
    };
    let (mut failures, mut documents, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for (name, kind) in &names {
        match groups.describe(admin, name, *kind).await {
            Ok((kind, group)) => {
                documents.push(group_json(name, kind, &group));
                texts.push(if args.members {
                    members_table(name, &group)
                } else {
                    partitions_table(name, &group)
                });
            }
            Err(failure) => failures.push(failure),
        }
    }
    match format {
        Format::Json => output::json(&json!(documents))?,
        Format::Text => output::write(texts.join("\n").as_bytes())?,
    }
    Failure::all(failures)
}

fn kind_named(name: &str) -> Kind {
    if name == BROKER { Kind::Broker } else { Kind::Zookeeper }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Broker => BROKER,
        Kind::Zookeeper => "zookeeper",
    }
}

/// What is not read yet; `None` where it is not known.
fn lag(partition: &v1::GroupPartition) -> Option<i64> {
    (partition.committed >= 0 && partition.log_end >= 0)
        .then(|| (partition.log_end - partition.committed).max(0))
}

fn partitions_table(name: &str, group: &v1::DescribeGroupResponse) -> String {
    let or_dash = |number: i64| if number < 0 { "-".to_owned() } else { number.to_string() };
    let rows: Vec<Vec<String>> = group
        .partitions
        .iter()
        .map(|partition| {
            let owner = &partition.owner;
            vec![
                name.to_owned(),
                partition.topic.clone(),
                partition.partition.to_string(),
                or_dash(partition.committed),
                or_dash(partition.log_end),
                or_dash(lag(partition).unwrap_or(-1)),
                if owner.is_empty() { "-".to_owned() } else { owner.clone() },
            ]
        })
        .collect();
    if rows.is_empty() {
        return format!("Group {name} ({}) has no offsets and owns nothing.\n", group.state);
    }
    let header =
        ["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID"];
    output::table(&header, &rows)
}

fn members_table(name: &str, group: &v1::DescribeGroupResponse) -> String {
    let rows: Vec<Vec<String>> = group
        .members
        .iter()
        .map(|member| {
            let mine = format!("{}-", member.id);
            let is_mine = |owner: &str| owner == member.id || owner.starts_with(&mine);
            let owned = group.partitions.iter().filter(|p| is_mine(&p.owner)).count();
            vec![
                name.to_owned(),
                member.id.clone(),
                member.host.clone(),
                member.streams.to_string(),
                owned.to_string(),
                member.subscription.clone(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return format!("Group {name} ({}) has no live members.\n", group.state);
    }
    let header = ["GROUP", "CONSUMER-ID", "HOST", "STREAMS", "#PARTITIONS", "SUBSCRIPTION"];
    output::table(&header, &rows)
}

fn group_json(name: &str, kind: Kind, group: &v1::DescribeGroupResponse) -> Value {
    let known = |number: i64| (number >= 0).then_some(number);
    let partitions: Vec<Value> = group
        .partitions
        .iter()
        .map(|p| {
            json!({
                "topic": p.topic,
                "partition": p.partition,
                "committed": known(p.committed),
                "log_end": known(p.log_end),
                "lag": lag(p),
                "owner": (!p.owner.is_empty()).then_some(&p.owner),
            })
        })
        .collect();
    let members: Vec<Value> = group
        .members
        .iter()
        .map(|m| {
            json!({
                "id": m.id,
                "host": m.host,
                "subscription": m.subscription,
                "streams": m.streams,
            })
        })
        .collect();
    json!({
        "group": name,
        "kind": kind_name(kind),
        "state": group.state,
        "generation": known(group.generation.into()),
        "members": members,
        "partitions": partitions,
    })
}

async fn delete(
    admin: &mut Admin,
    groups: &mut Groups,
    format: Format,
    names: &[String],
) -> Result<(), Failure> {
    let (mut failures, mut deleted) = (Vec::new(), Vec::new());
    for name in names {
        match delete_one(admin, groups, name).await {
            Err(failure) => failures.push(failure),
            Ok(()) => deleted.push(name),
        }
    }
    match format {
        Format::Json => output::json(&json!({ "deleted": deleted }))?,
        Format::Text => {
            let text: String =
                deleted.iter().map(|name| format!("Deleted group {name}.\n")).collect();
            output::write(text.as_bytes())?;
        }
    }
    Failure::all(failures)
}

async fn delete_one(admin: &mut Admin, groups: &mut Groups, name: &str) -> Result<(), Failure> {
    if groups.kind_of(admin, name).await? == Kind::Broker {
        return groups.coordinators.delete(name).await;
    }
    let request = v1::DeleteGroupRequest { request_id: request_id(), name: name.to_owned() };
    let response = admin
        .call(request, |mut client, request| async move { client.delete_group(request).await })
        .await?;
    response.error.map_or(Ok(()), |error| Err(Failure::of(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_both_kinds_have_is_ambiguous() {
        assert_eq!(one_kind("g", true, false).unwrap(), Kind::Zookeeper);
        assert_eq!(one_kind("g", false, true).unwrap(), Kind::Broker);
        assert_eq!(one_kind("g", false, false).unwrap(), Kind::Zookeeper);
        let failure = one_kind("g", true, true).unwrap_err();
        assert!(failure.code == 2 && failure.text.contains("--kind"), "{failure:?}");
    }

    #[test]
    fn lag_is_what_is_left_to_read_where_both_ends_are_known() {
        let partition = |committed, log_end| v1::GroupPartition {
            topic: "t".to_owned(),
            partition: 0,
            committed,
            log_end,
            owner: String::new(),
        };
        assert_eq!(lag(&partition(3, 10)), Some(7));
        assert_eq!(lag(&partition(-1, 10)), None);
        assert_eq!(lag(&partition(3, -1)), None);
        let group = v1::DescribeGroupResponse {
            state: "Empty".to_owned(),
            partitions: vec![partition(3, -1)],
            ..Default::default()
        };
        let printed = partitions_table("g", &group);
        let row: Vec<&str> = printed.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["g", "t", "0", "3", "-", "-", "-"]);
    }
}

//! `coordinator groups`

use proto::v1;
use serde_json::{Value, json};

use super::admin::{Admin, request_id};
use super::args::{DescribeGroups, Format, GroupsAction, GroupsArgs};
use super::failure::Failure;
use super::{output, reset};

/// Carries out the subcommand.
pub(crate) async fn run(args: GroupsArgs) -> Result<(), Failure> {
    let mut admin = Admin::new(&args.target);
    let format = args.target.format;
    match args.action {
        GroupsAction::List => print_list(&list(&mut admin).await?, format),
        GroupsAction::Describe(describe) => describe_groups(&mut admin, format, &describe).await,
        GroupsAction::ResetOffsets(args) => reset::run(&mut admin, format, &args).await,
        GroupsAction::Delete { names } => delete(&mut admin, format, &named(names.all())?).await,
    }
}

/// At least one group.
pub(crate) fn named(names: Vec<String>) -> Result<Vec<String>, Failure> {
    match names.is_empty() {
        true => Err(Failure::usage("name a group, for example with --group NAME")),
        false => Ok(names),
    }
}

async fn list(admin: &mut Admin) -> Result<Vec<v1::GroupListing>, Failure> {
    let request = v1::ListGroupsRequest {};
    let response = admin
        .call(request, |mut client, request| async move { client.list_groups(request).await })
        .await?;
    Ok(response.groups)
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

/// Asks for one group; an error in the answer is a failure.
pub(crate) async fn describe(
    admin: &mut Admin,
    name: &str,
) -> Result<v1::DescribeGroupResponse, Failure> {
    let request = v1::DescribeGroupRequest { name: name.to_owned() };
    let response = admin
        .call(request, |mut client, request| async move { client.describe_group(request).await })
        .await?;
    match &response.error {
        Some(error) => Err(Failure::of(error)),
        None => Ok(response),
    }
}

async fn describe_groups(
    admin: &mut Admin,
    format: Format,
    args: &DescribeGroups,
) -> Result<(), Failure> {
    let names = match args.all_groups {
        true => list(admin).await?.into_iter().map(|group| group.name).collect(),
        false => named(args.names.all())?,
    };
    let (mut failures, mut documents, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for name in &names {
        match describe(admin, name).await {
            Ok(group) => {
                documents.push(group_json(name, &group));
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
            let owned = group.partitions.iter().filter(|p| p.owner.starts_with(&mine)).count();
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

fn group_json(name: &str, group: &v1::DescribeGroupResponse) -> Value {
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
        "state": group.state,
        "generation": group.generation,
        "members": members,
        "partitions": partitions,
    })
}

async fn delete(admin: &mut Admin, format: Format, names: &[String]) -> Result<(), Failure> {
    let (mut failures, mut deleted) = (Vec::new(), Vec::new());
    for name in names {
        let request = v1::DeleteGroupRequest { request_id: request_id(), name: name.clone() };
        let response = admin
            .call(request, |mut client, request| async move { client.delete_group(request).await })
            .await?;
        match &response.error {
            Some(error) => failures.push(Failure::of(error)),
            None => deleted.push(name),
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

#[cfg(test)]
mod tests {
    use super::*;

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

//! Carries out the Admin calls that change consumer groups, for [`Term`].
//!
//! Both are refused while the group has live members. What makes that safe against one that joins
//! meanwhile is the order: offset nodes are read before the members are looked at, and written by
//! version; a member claims a partition by rewriting its offset node, so one of the two loses.

use std::collections::BTreeMap;

use proto::{ErrorCode, LeaderEpoch, Offset, v1};

use super::decision::{Decision, Refusal};
use super::fence::CommitError;
use super::groups::{self, Group};
use super::requests::RequestId;
use super::term::{Term, TermEnd, from_registry, not_written};
use super::{subject, unknown_group, unknown_topic};
use crate::registry::fence::Change;
use crate::zk::payload::{CommittedOffset, Payload};
use crate::zk::{names, paths};

/// So often a group is read anew after a member or a lost answer came between.
const ATTEMPTS: usize = 3;

impl Term {
    pub(super) async fn delete_group(
        &mut self,
        id: &RequestId,
        request: &v1::DeleteGroupRequest,
    ) -> Result<v1::DeleteGroupResponse, TermEnd> {
        let name = &request.name;
        let decide = |group: Option<&Group>, _: &Term| deletion(name, group);
        let result = self.change_group(id, name, subject::delete_group(name), decide).await?;
        Ok(v1::DeleteGroupResponse { error: result.err().map(|Refusal(error)| error) })
    }

    pub(super) async fn reset_offsets(
        &mut self,
        id: &RequestId,
        request: &v1::ResetOffsetsRequest,
    ) -> Result<v1::ResetOffsetsResponse, TermEnd> {
        let name = &request.group;
        let decide =
            |group: Option<&Group>, term: &Term| reset(name, group, &request.offsets, term);
        let result = self.change_group(id, name, subject::reset(name), decide).await?;
        Ok(v1::ResetOffsetsResponse { error: result.err().map(|Refusal(error)| error) })
    }

    async fn change_group(
        &mut self,
        id: &RequestId,
        name: &str,
        subject: String,
        decide: impl Fn(Option<&Group>, &Self) -> Result<Decision, Refusal>,
    ) -> Result<Result<(), Refusal>, TermEnd> {
        if let Err(error) = names::check_group(name) {
            let remedy = "list groups to see what is there";
            return Ok(Err(Refusal::new(ErrorCode::InvalidRequest, error.to_string(), remedy)));
        }
        for _ in 0..ATTEMPTS {
            if self.cluster.finished.has(id, &subject) {
                return Ok(Ok(()));
            }
            let written = match groups::read(&self.writer.live().client, name).await {
                Ok(group) => match decide(group.as_ref(), self) {
                    Ok(mut decision) => {
                        decision.done.push(subject.clone());
                        self.commit(id, decision).await
                    }
                    Err(refusal) => return Ok(Err(refusal)),
                },
                Err(error) => Err(from_registry(error)),
            };
            match written {
                Ok(()) => return Ok(Ok(())),
                Err(CommitError::Deposed) => return Err(TermEnd::Deposed),
                Err(CommitError::TermOver) => return Err(TermEnd::LeaseOver),
                Err(error) => {
                    tracing::warn!(group = name, %error, "group changed meanwhile; reading anew");
                    self.read_everything().await?;
                }
            }
        }
        Ok(Err(not_written()))
    }
}

fn refuse_live(name: &str, group: &Group) -> Result<(), Refusal> {
    let remedy = "stop its members, or wait until their sessions have expired";
    if !group.members.is_empty() {
        let message = format!("group `{name}` has {} live members", group.members.len());
        return Err(Refusal::new(ErrorCode::NonEmptyGroup, message, remedy));
    }
    let owned: usize = group.owners.values().map(BTreeMap::len).sum();
    if owned > 0 {
        let message = format!("{owned} partitions of group `{name}` are still owned by a session");
        return Err(Refusal::new(ErrorCode::NonEmptyGroup, message, remedy));
    }
    Ok(())
}

fn deletion(name: &str, group: Option<&Group>) -> Result<Decision, Refusal> {
    let Some(group) = group else { return Err(unknown_group(name)) };
    refuse_live(name, group)?;
    let mut writes = Vec::new();
    let mut delete = |path, version| writes.push(Change::Delete { path, version });
    for (topic, offsets) in &group.offsets {
        for (p, offset) in offsets {
            delete(paths::offset(name, topic, *p), Some(offset.version));
        }
        delete(paths::topic_offsets(name, topic), None);
    }
    for topic in group.owners.keys() {
        delete(paths::topic_owners(name, topic), None);
    }
    let parents = [
        (paths::offsets(name), group.parents.offsets),
        (paths::owners(name), group.parents.owners),
        (paths::plan(name), group.parents.plan),
        (paths::members(name), group.parents.members),
        (paths::group(name), true),
    ];
    for (path, _) in parents.into_iter().filter(|(_, there)| *there) {
        delete(path, None);
    }
    Ok(Decision { writes, ..Decision::default() })
}

fn reset(
    name: &str,
    group: Option<&Group>,
    resets: &[v1::OffsetReset],
    term: &Term,
) -> Result<Decision, Refusal> {
    let empty = Group::default();
    let mut writes = Vec::new();
    let mut create = |path| writes.push(Change::create(path, Vec::new()));
    if group.is_none() {
        create(paths::group(name));
    }
    let group = group.unwrap_or(&empty);
    refuse_live(name, group)?;
    if !group.parents.offsets {
        create(paths::offsets(name));
    }
    let mut asked: BTreeMap<&str, BTreeMap<i32, i64>> = BTreeMap::new();
    for reset in resets {
        asked.entry(&reset.topic).or_default().insert(reset.partition, reset.offset);
    }
    for (topic, offsets) in asked {
        let Some(state) = term.cluster.topics.get(topic) else {
            return Err(unknown_topic(&term.cluster, topic));
        };
        let there = group.offsets.get(topic);
        if there.is_none() {
            writes.push(Change::create(paths::topic_offsets(name, topic), Vec::new()));
        }
        for (p, offset) in offsets {
            if offset < 0 || usize::try_from(p).is_ok_and(|p| p >= state.partitions.len()) || p < 0
            {
                let partitions = state.partitions.len();
                return Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    format!("offset {offset} of partition {p} cannot be set"),
                    format!("offsets are 0 or more, and `{topic}` has {partitions} partitions"),
                ));
            }
            let value = CommittedOffset {
                offset: Some(Offset(offset)),
                topic_id: state.id,
                leader_epoch: LeaderEpoch::UNKNOWN,
                metadata: String::new(),
                by: "admin".to_owned(),
            };
            let (path, bytes) = (paths::offset(name, topic, p), value.encode()?);
            writes.push(match there.and_then(|offsets| offsets.get(&p)) {
                Some(old) => Change::Set { path, bytes, version: Some(old.version) },
                None => Change::create(path, bytes),
            });
        }
    }
    Ok(Decision { writes, ..Decision::default() })
}

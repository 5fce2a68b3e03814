//! Describing, listing and deleting groups, on the coordinator's thread.

use std::sync::Arc;

use proto::TopicPartition;

use super::GroupError;
use super::classic::{Group, Member, State};
use super::command::{Description, Listing, MemberDescription, Reply};
use super::coordinator::{Coordinator, tell};
use super::shard::Stage;

impl Coordinator {
    /// A group; `None`: there is none of the name.
    pub(super) fn describe(&mut self, group: &Arc<str>) -> Result<Option<Description>, GroupError> {
        let (_, shard) = self.shard_of(group)?;
        Ok(shard.groups.get(group).map(|entry| description(&entry.group)))
    }

    /// Every group that this broker coordinates; refused while some of them are not known yet.
    pub(super) fn list(&mut self) -> Result<Vec<Listing>, GroupError> {
        self.look_at_roles();
        let mut listed = Vec::new();
        for slot in self.slots.values() {
            let Stage::Active(shard) = &slot.stage else {
                return Err(GroupError::CoordinatorLoadInProgress);
            };
            listed.extend(shard.groups.iter().map(|(id, entry)| Listing {
                group: Arc::clone(id),
                protocol_type: kind(&entry.group),
                state: entry.group.state().name(),
                members: entry.group.size(),
            }));
        }
        Ok(listed)
    }

    /// Deletes a group without members, and its offsets.
    pub(super) fn delete(&mut self, group: &Arc<str>, reply: Reply<Result<(), GroupError>>) {
        let (number, shard) = match self.shard_of(group) {
            Ok(found) => found,
            Err(error) => return tell(reply, Err(error)),
        };
        let Some(entry) = shard.groups.get(group) else {
            return tell(reply, Err(GroupError::GroupIdNotFound));
        };
        if entry.group.state() != State::Empty {
            return tell(reply, Err(GroupError::NonEmptyGroup));
        }
        let names: Vec<TopicPartition> = entry.offsets.keys().cloned().collect();
        let generation = entry.group.generation();
        self.counters.deletions += names.len() as u64;
        self.forget(number, group, &names, Some(generation), Some(reply));
    }
}

fn kind(group: &Group) -> Arc<str> {
    group.protocol_type().cloned().unwrap_or_else(|| "".into())
}

/// As Kafka tells it: what members said only once they agree on what they say it for.
fn description(group: &Group) -> Description {
    let agreed = group.protocol().filter(|_| group.state() == State::Stable);
    let member = |member: &Member| MemberDescription {
        id: Arc::clone(member.id()),
        instance: member.instance().cloned(),
        client_id: Arc::clone(member.client_id()),
        client_host: Arc::clone(member.client_host()),
        metadata: agreed.map(|protocol| member.metadata(protocol)).unwrap_or_default(),
        assignment: agreed.map(|_| member.assignment().clone()).unwrap_or_default(),
    };
    Description {
        state: group.state().name(),
        protocol_type: kind(group),
        protocol: agreed.cloned().unwrap_or_else(|| "".into()),
        members: group.members().map(member).collect(),
    }
}

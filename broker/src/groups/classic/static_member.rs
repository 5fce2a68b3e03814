//! Static members: who comes back under the same instance id takes the old one's place.

use std::sync::Arc;

use super::{Effect, Effects, Group, Join, Moment, Protocol, State, subscribed_topics};
use crate::groups::GroupError;

/// The kind of group whose members' metadata the broker can read.
const CONSUMER: &str = "consumer";

/// A static member whose new id is being stored.
#[derive(Debug)]
pub(super) struct Replaced {
    id: Arc<str>,
    /// Who it is told that leads, where that is not to be itself.
    told_leader: Option<Arc<str>>,
    skips_assignment: bool,
}

impl Group {
    /// An instance is here again, without an id. The old id is fenced from now on.
    pub(super) fn replace_static(
        &mut self,
        old: &Arc<str>,
        request: Join,
        now: Moment,
        out: &mut Effects,
    ) {
        let was_leader = self.leader.as_ref() == Some(old);
        let skips_assignment = was_leader && request.skips_assignment;
        let told_leader = (was_leader && !skips_assignment).then(|| Arc::clone(old));
        let says_the_same = self.says_the_same(old, &request.protocols);
        let new = Arc::clone(&request.fresh_member_id);
        self.rename(old, &new, out);
        self.update(&new, request, now, out);
        let agrees = self.protocol.is_some() && self.elect_protocol() == self.protocol;
        if self.state == State::Stable && says_the_same && agrees {
            self.keep_generation(Replaced { id: new, told_leader, skips_assignment }, out);
        } else {
            self.rebalance_or_go_on(now, out);
        }
    }

    /// Whether it reads what it read before. What else consumers say (what they own) changes with
    /// each start, and is no reason to rebalance.
    fn says_the_same(&self, id: &Arc<str>, protocols: &[Protocol]) -> bool {
        let (Some(member), Some(name)) = (self.members.get(id), &self.protocol) else {
            return false;
        };
        let Some(now) = protocols.iter().find(|protocol| protocol.name == *name) else {
            return false;
        };
        let before = member.metadata(name);
        if before == now.metadata {
            return true;
        }
        let is_consumer = self.protocol_type.as_deref() == Some(CONSUMER);
        match (subscribed_topics(&before), subscribed_topics(&now.metadata)) {
            (Some(before), Some(now)) => is_consumer && before == now,
            _ => false,
        }
    }

    fn rename(&mut self, old: &Arc<str>, new: &Arc<str>, out: &mut Effects) {
        self.refuse_waiting(old, GroupError::FencedInstanceId, out);
        let Some(mut member) = self.members.remove(old) else { return };
        self.bytes -= member.bytes();
        member.id = Arc::clone(new);
        self.bytes += member.bytes();
        if let Some(instance) = &member.instance {
            self.instances.insert(Arc::clone(instance), Arc::clone(new));
        }
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(Arc::clone(new));
        }
        self.members.insert(Arc::clone(new), member);
    }

    /// Nothing changes but the id: it is told when that is stored, since the next coordinator would
    /// fence it otherwise.
    fn keep_generation(&mut self, replaced: Replaced, out: &mut Effects) {
        let ticket = self.new_ticket();
        self.replacing.insert(ticket, replaced);
        out.push(Effect::Store(Some(ticket), self.to_stored(&self.assignments())));
    }

    /// The new id is stored, or is not.
    pub(super) fn replacement_stored(
        &mut self,
        replaced: &Replaced,
        outcome: Result<(), GroupError>,
        now: Moment,
        out: &mut Effects,
    ) {
        let Replaced { id, told_leader, skips_assignment } = replaced;
        self.is_alive(id, now);
        if let Err(error) = outcome {
            self.refuse_waiting(id, error, out);
            return;
        }
        let Some(mut joined) = self.joined(id, *skips_assignment) else { return };
        if let Some(leader) = told_leader {
            // It does not know of leaders that are not to assign: it is told that it is none.
            joined.leader = Arc::clone(leader);
            joined.members.clear();
        }
        self.tell_joined(id, joined, out);
    }
}

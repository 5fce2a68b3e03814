//! A group as it is stored, and a group from what was stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Group, Limits, Member, Moment, Protocol, State};

/// A group as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// What kind of group; empty: nobody ever joined.
    pub protocol_type: Arc<str>,
    /// Counts its rebalances.
    pub generation: i32,
    /// What its members agreed on.
    pub protocol: Option<Arc<str>>,
    /// Who assigns.
    pub leader: Option<Arc<str>>,
    /// When it came into its state, in milliseconds since the epoch; -1: not known.
    pub since_ms: i64,
    /// Its members; none: it is empty.
    pub members: Vec<MemberMetadata>,
}

/// A member as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberMetadata {
    /// Its id.
    pub id: Arc<str>,
    /// Its instance, if it is static.
    pub instance: Option<Arc<str>>,
    /// Named by the client.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// How long it may take to join again.
    pub rebalance_timeout: Duration,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// What it said for the group's protocol.
    pub subscription: Bytes,
    /// What it was given.
    pub assignment: Bytes,
}

impl Group {
    /// As it is to be stored, with these assignments.
    pub(super) fn to_stored(&self, assignments: &BTreeMap<Arc<str>, Bytes>) -> GroupMetadata {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |member: &Member| MemberMetadata {
            id: Arc::clone(&member.id),
            instance: member.instance.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            rebalance_timeout: member.rebalance_timeout,
            session_timeout: member.session_timeout,
            subscription: member.metadata(protocol),
            assignment: assignments.get(&member.id).cloned().unwrap_or_default(),
        };
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since_ms: self.since_ms,
            members: self.members.values().map(member).collect(),
        }
    }

    /// A group from what was stored. Its members have a session's time to be heard of.
    pub fn from_stored(stored: GroupMetadata, limits: Arc<Limits>, now: Moment) -> Self {
        let mut group = Self::new(limits, now);
        group.generation = stored.generation;
        group.protocol_type = (!stored.protocol_type.is_empty()).then_some(stored.protocol_type);
        if stored.since_ms >= 0 {
            group.since_ms = stored.since_ms;
        }
        let Some(protocol) = stored.protocol else { return group };
        for stored in stored.members {
            let protocols =
                vec![Protocol { name: Arc::clone(&protocol), metadata: stored.subscription }];
            group.insert(Member {
                id: stored.id,
                instance: stored.instance,
                client_id: stored.client_id,
                client_host: stored.client_host,
                session_timeout: stored.session_timeout,
                rebalance_timeout: stored.rebalance_timeout,
                protocols,
                assignment: stored.assignment,
                expires_at: now.at + stored.session_timeout,
                is_new: false,
                join: None,
                sync: None,
                has_synced: true,
            });
        }
        if !group.members.is_empty() {
            group.state = State::Stable;
            group.protocol = Some(protocol);
            let known = |id: &Arc<str>| group.members.contains_key(id);
            if let Some(leader) = stored.leader.filter(known) {
                group.leader = Some(leader);
            }
        }
        group
    }
}

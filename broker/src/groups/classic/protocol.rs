//! What members can do, and what they agree on.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Group, Member};

/// A way to assign (an assignor), and what the member has to say for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// Its name.
    pub name: Arc<str>,
    /// For the leader; the group does not look into it.
    pub metadata: Bytes,
}

impl Protocol {
    /// Bytes it takes, about.
    pub fn bytes(&self) -> usize {
        const AROUND: usize = 64;
        AROUND + self.name.len() + self.metadata.len()
    }
}

/// How many members can do each protocol.
#[derive(Debug, Default)]
pub(super) struct Supported(HashMap<Arc<str>, usize>);

impl Supported {
    /// One more member can do these. Names are unique in a member's list.
    pub(super) fn add(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            *self.0.entry(Arc::clone(&protocol.name)).or_default() += 1;
        }
    }

    /// One member fewer can do these.
    pub(super) fn remove(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.0.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&protocol.name);
                }
            }
        }
    }

    fn by_all(&self, name: &str, members: usize) -> bool {
        self.0.get(name) == Some(&members)
    }
}

/// Whether no protocol comes twice.
pub(super) fn are_distinct(protocols: &[Protocol]) -> bool {
    let names: std::collections::HashSet<&str> =
        protocols.iter().map(|protocol| &*protocol.name).collect();
    names.len() == protocols.len()
}

impl Group {
    /// Whether somebody of this kind, who can do these, fits the members there are.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let by_all = |one: &Protocol| self.supported.by_all(&one.name, self.members.len());
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(by_all)
    }

    /// What all can do and most prefer; level votes go to what the leader prefers.
    pub(super) fn elect_protocol(&self) -> Option<Arc<str>> {
        let by_all = |name: &str| self.supported.by_all(name, self.members.len());
        let mut votes: HashMap<&str, usize> = HashMap::new();
        for member in self.members.values() {
            let preferred = member.protocols.iter().find(|protocol| by_all(&protocol.name));
            *votes.entry(preferred.map(|protocol| &*protocol.name)?).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        let order = leader.or_else(|| self.members.values().next()).map(Member::protocols)?;
        let won = |protocol: &&Protocol| votes.get(&*protocol.name) == Some(&most);
        order.iter().find(won).map(|protocol| Arc::clone(&protocol.name))
    }
}

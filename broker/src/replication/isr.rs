//! The in-sync replicas as their leader sees them: what the registry has, and a change of it that is
//! under way. Pure. Who may leave and join is decided in [`super::leader_state`]; what a change does
//! to the registry's state, by `coordinator::registry::in_sync`.
//!
//! The answer to a write may be lost or late, and the next leader comes from whichever ISR the
//! registry has then. So while a change is under way both count: nothing is committed before
//! everybody in the *maximal* ISR has it.
//!
//! | event | committed | under way | maximal |
//! |---|---|---|---|
//! | [`Isr::begin_change`] | as it was | the wish | committed and wish |
//! | [`Isr::settled`], newer version | what the registry has | none | committed |
//! | [`Isr::settled`], version known | as it was | none | committed |
//! | [`Isr::adopt`] (told by the controller), newer version | what the registry has | as it was | committed and wish |
//! | [`Isr::adopt`], version known or older | as it was | as it was | as it was |
//!
//! [`Isr::adopt`] leaves a change under way: the wish was written on a version that may be the one
//! told, or one after it.

use proto::BrokerId;

/// Committed ISR and change under way, of one leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Isr {
    version: i32,
    committed: Vec<BrokerId>,
    wish: Option<Vec<BrokerId>>,
}

impl Isr {
    /// As the registry has it at a version of the state's node.
    pub(super) fn new(version: i32, committed: Vec<BrokerId>) -> Self {
        Self { version, committed, wish: None }
    }

    /// What the registry has, as far as is known.
    pub(super) fn committed(&self) -> &[BrokerId] {
        &self.committed
    }

    /// Version of the state's node that [`Isr::committed`] is of.
    pub(super) fn version(&self) -> i32 {
        self.version
    }

    /// A change whose outcome is not known yet.
    pub(super) fn is_changing(&self) -> bool {
        self.wish.is_some()
    }

    /// Whether a replica must have a record before it counts as committed.
    pub(super) fn is_maximal_member(&self, id: BrokerId) -> bool {
        self.committed.contains(&id) || self.wish.as_ref().is_some_and(|wish| wish.contains(&id))
    }

    /// A change is about to be written. One at a time.
    pub(super) fn begin_change(&mut self, wish: Vec<BrokerId>) {
        debug_assert!(self.wish.is_none(), "one change of the ISR at a time");
        self.wish = Some(wish);
    }

    /// The change under way has an end: the registry had this at this version afterwards, whoever
    /// wrote it. True when that is news.
    pub(super) fn settled(&mut self, version: i32, committed: &[BrokerId]) -> bool {
        self.wish = None;
        self.adopt(version, committed)
    }

    /// The registry had this at this version. True when that is news.
    pub(super) fn adopt(&mut self, version: i32, committed: &[BrokerId]) -> bool {
        if version <= self.version {
            return false;
        }
        self.version = version;
        self.committed = committed.to_vec();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    fn maximal(isr: &Isr) -> Vec<i32> {
        (1..10).filter(|&id| isr.is_maximal_member(BrokerId(id))).collect()
    }

    #[test]
    fn while_a_change_is_under_way_old_and_new_members_count() {
        let mut isr = Isr::new(4, ids(&[1, 2, 3]));
        isr.begin_change(ids(&[1, 4]));
        assert_eq!(maximal(&isr), [1, 2, 3, 4]);
        assert!(isr.settled(5, &ids(&[1, 4])));
        assert_eq!((maximal(&isr), isr.version(), isr.is_changing()), (vec![1, 4], 5, false));
    }

    #[test]
    fn a_refused_change_ends_with_what_was_read_back() {
        let mut isr = Isr::new(4, ids(&[1, 2]));
        isr.begin_change(ids(&[1]));
        assert!(!isr.settled(4, &ids(&[1, 2])));
        assert_eq!((maximal(&isr), isr.is_changing()), (vec![1, 2], false));
        isr.begin_change(ids(&[1]));
        assert!(isr.settled(9, &ids(&[1, 2, 3])));
        assert_eq!((maximal(&isr), isr.version()), (vec![1, 2, 3], 9));
    }

    #[test]
    fn what_the_controller_tells_counts_when_newer_and_ends_no_change() {
        let mut isr = Isr::new(4, ids(&[1, 2, 3]));
        isr.begin_change(ids(&[1, 2]));
        assert!(!isr.adopt(4, &ids(&[1])) && !isr.adopt(3, &ids(&[1])));
        assert!(isr.adopt(5, &ids(&[1, 3])));
        assert_eq!(maximal(&isr), [1, 2, 3], "the wish may yet be written");
        // Its own answer comes late, after newer news: those stay.
        assert!(!isr.settled(5, &ids(&[1, 2])));
        assert_eq!(maximal(&isr), [1, 3]);
    }
}

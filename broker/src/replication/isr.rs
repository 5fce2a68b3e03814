//! The in-sync replicas as their leader sees them: what the registry has, and a change of it that is
//! under way. Pure. Who may leave and join is decided in [`super::leader_state`]; what a change does
//! to the registry's state, by `coordinator::registry::in_sync`.
//!
//! The answer to a write may be lost or late, and the next leader comes from whichever state the
//! registry has then: from its ISR, or from its electable members (KIP-966). So nothing is committed
//! before everybody has it who is in the ISR, or electable, or will be if the change is written.
//!
//! | event | ISR, electable | under way |
//! |---|---|---|
//! | [`Isr::begin_change`] | as they were | the wish |
//! | [`Isr::settled`], newer version | what the registry has | none |
//! | [`Isr::settled`], version known | as they were | none |
//! | [`Isr::adopt`] (told by the controller), newer version | what the registry has | as it was |
//! | [`Isr::adopt`], version known or older | as they were | as it was |
//!
//! [`Isr::adopt`] leaves a change under way: the wish was written on a version that may be the one
//! told, or one after it. Who a change makes electable was in the ISR, and so counts all along.

use proto::BrokerId;

/// ISR, electable members and the change under way, of one leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Isr {
    version: i32,
    committed: Vec<BrokerId>,
    electable: Vec<BrokerId>,
    wish: Option<Vec<BrokerId>>,
}

impl Isr {
    /// As the registry has it at a version of the state's node.
    pub(super) fn new(version: i32, committed: &[BrokerId], electable: &[BrokerId]) -> Self {
        let (committed, electable) = (committed.to_vec(), electable.to_vec());
        Self { version, committed, electable, wish: None }
    }

    /// The ISR that the registry has, as far as is known.
    pub(super) fn committed(&self) -> &[BrokerId] {
        &self.committed
    }

    /// Who fell out of it and may lead all the same.
    pub(super) fn electable(&self) -> &[BrokerId] {
        &self.electable
    }

    /// Version of the state's node that both are of.
    pub(super) fn version(&self) -> i32 {
        self.version
    }

    /// A change whose outcome is not known yet.
    pub(super) fn is_changing(&self) -> bool {
        self.wish.is_some()
    }

    /// In the ISR, or perhaps by now.
    pub(super) fn is_member(&self, id: BrokerId) -> bool {
        self.committed.contains(&id) || self.wish.as_ref().is_some_and(|wish| wish.contains(&id))
    }

    /// Whether a replica must have a record before it counts as committed: it may be elected.
    pub(super) fn counts(&self, id: BrokerId) -> bool {
        self.is_member(id) || self.electable.contains(&id)
    }

    /// A change is about to be written. One at a time.
    pub(super) fn begin_change(&mut self, wish: Vec<BrokerId>) {
        debug_assert!(self.wish.is_none(), "one change of the ISR at a time");
        self.wish = Some(wish);
    }

    /// The change under way has an end: the registry had this at this version afterwards, whoever
    /// wrote it. True when that is news.
    pub(super) fn settled(
        &mut self,
        version: i32,
        committed: &[BrokerId],
        electable: &[BrokerId],
    ) -> bool {
        self.wish = None;
        self.adopt(version, committed, electable)
    }

    /// The registry had this at this version. True when that is news.
    pub(super) fn adopt(
        &mut self,
        version: i32,
        committed: &[BrokerId],
        electable: &[BrokerId],
    ) -> bool {
        if version <= self.version {
            return false;
        }
        *self = Self { wish: self.wish.take(), ..Self::new(version, committed, electable) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    fn counting(isr: &Isr) -> Vec<i32> {
        (1..10).filter(|&id| isr.counts(BrokerId(id))).collect()
    }

    #[test]
    fn while_a_change_is_under_way_old_and_new_members_count() {
        let mut isr = Isr::new(4, &ids(&[1, 2, 3]), &[]);
        isr.begin_change(ids(&[1, 4]));
        assert_eq!(counting(&isr), [1, 2, 3, 4]);
        assert!(isr.settled(5, &ids(&[1, 4]), &[]));
        assert_eq!((counting(&isr), isr.version(), isr.is_changing()), (vec![1, 4], 5, false));
    }

    #[test]
    fn who_is_electable_counts_and_is_no_member() {
        let mut isr = Isr::new(4, &ids(&[1]), &ids(&[2]));
        assert_eq!(counting(&isr), [1, 2]);
        assert!(!isr.is_member(BrokerId(2)));
        isr.begin_change(ids(&[1, 3]));
        assert_eq!(counting(&isr), [1, 2, 3]);
        isr.settled(5, &ids(&[1, 3]), &[]);
        assert_eq!(counting(&isr), [1, 3]);
    }

    #[test]
    fn a_refused_change_ends_with_what_was_read_back() {
        let mut isr = Isr::new(4, &ids(&[1, 2]), &[]);
        isr.begin_change(ids(&[1]));
        assert!(!isr.settled(4, &ids(&[1, 2]), &[]));
        assert_eq!((counting(&isr), isr.is_changing()), (vec![1, 2], false));
        isr.begin_change(ids(&[1]));
        assert!(isr.settled(9, &ids(&[1, 2, 3]), &[]));
        assert_eq!((counting(&isr), isr.version()), (vec![1, 2, 3], 9));
    }

    #[test]
    fn what_the_controller_tells_counts_when_newer_and_ends_no_change() {
        let mut isr = Isr::new(4, &ids(&[1, 2, 3]), &[]);
        isr.begin_change(ids(&[1, 2]));
        assert!(!isr.adopt(4, &ids(&[1]), &[]) && !isr.adopt(3, &ids(&[1]), &[]));
        assert!(isr.adopt(5, &ids(&[1, 3]), &[]));
        assert_eq!(counting(&isr), [1, 2, 3], "the wish may yet be written");
        // Its own answer comes late, after newer news: those stay.
        assert!(!isr.settled(5, &ids(&[1, 2]), &[]));
        assert_eq!(counting(&isr), [1, 3]);
    }
}

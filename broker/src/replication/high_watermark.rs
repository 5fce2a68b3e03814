//! The high watermark of a led partition: below it everything is on every replica that may become
//! leader. Pure.
//!
//! | committed ISR | ends of those who count | high watermark |
//! |---|---|---|
//! | below `min.insync.replicas` | any | stands still: members that were dropped stay electable (KIP-966) |
//! | enough | one is not known in this leadership | stands still |
//! | enough | all known | the lowest, but never back |
//!
//! Who counts: the leader itself, whoever may be elected ([`super::isr`]), and who is about to join:
//! else a busy leader, alone in its ISR, would run ahead of replicas for ever. So it does not hang on
//! who believes in which `min.insync.replicas`. An end is a flushed one where the topic flushes before
//! acknowledging.

use proto::Offset;

/// The high watermark after `current`. `in_sync` and `minimum` are sizes of the committed ISR: what
/// it is, and what it must be. `own_end` is the leader's; `others` are the ends of the others that
/// count.
pub(super) fn advance(
    current: Offset,
    in_sync: usize,
    minimum: usize,
    own_end: Offset,
    others: impl IntoIterator<Item = Option<Offset>>,
) -> Offset {
    if in_sync < minimum {
        return current;
    }
    let lowest = others
        .into_iter()
        .try_fold(own_end, |lowest, end| end.map(|end| lowest.min(end)))
        .unwrap_or(current);
    lowest.max(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advanced(current: i64, in_sync: usize, own: i64, others: &[Option<i64>]) -> i64 {
        let others = others.iter().map(|end| end.map(Offset));
        advance(Offset(current), in_sync, 2, Offset(own), others).0
    }

    #[test]
    fn it_is_the_lowest_end_and_never_goes_back() {
        assert_eq!(advanced(5, 3, 20, &[Some(10), Some(15)]), 10);
        assert_eq!(advanced(5, 3, 9, &[Some(10), Some(15)]), 9);
        assert_eq!(advanced(5, 2, 20, &[Some(3)]), 5);
        assert_eq!(advance(Offset(5), 1, 1, Offset(8), []), Offset(8));
    }

    #[test]
    fn it_stands_still_below_the_minimum_and_while_an_end_is_unknown() {
        assert_eq!(advanced(5, 1, 20, &[]), 5);
        assert_eq!(advanced(5, 1, 20, &[Some(20)]), 5, "who is about to join does not make two");
        assert_eq!(advanced(5, 3, 20, &[Some(10), None]), 5);
    }
}

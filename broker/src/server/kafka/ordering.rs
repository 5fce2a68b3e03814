//! Which request may begin while others are unanswered.
//!
//! Answers go out in the order of their requests, whatever is begun when. Kafka begins a request when
//! the one before is answered; so do we, but for one thing: produce requests that follow each other are
//! all queued at their partitions as they come, and wait for their acknowledgements together. A
//! client that pipelines them gets one write and one flush for many.
//!
//! | before it, unanswered | a produce request | any other request |
//! |---|---|---|
//! | nothing | begins | begins |
//! | produce requests only, fewer than the bound | begins | waits |
//! | as many as the bound, or any other request | waits | waits |

/// Produce requests of one connection that wait for their acknowledgements.
pub(super) const IN_FLIGHT_MAX: usize = 64;

/// What is unanswered on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unanswered {
    pub(super) produce: usize,
    pub(super) others: usize,
}

impl Unanswered {
    /// Whether a request may begin.
    pub(super) fn admits(self, is_produce: bool) -> bool {
        match (self.produce, self.others) {
            (0, 0) => true,
            (produce, 0) => is_produce && produce < IN_FLIGHT_MAX,
            _ => false,
        }
    }

    /// It has begun.
    pub(super) fn begun(&mut self, is_produce: bool) {
        *self.of(is_produce) += 1;
    }

    /// It was answered.
    pub(super) fn answered(&mut self, is_produce: bool) {
        *self.of(is_produce) -= 1;
    }

    fn of(&mut self, is_produce: bool) -> &mut usize {
        if is_produce { &mut self.produce } else { &mut self.others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        let at = |produce, others| Unanswered { produce, others };
        assert!(at(0, 0).admits(true) && at(0, 0).admits(false));
        assert!(at(1, 0).admits(true) && at(IN_FLIGHT_MAX - 1, 0).admits(true));
        assert!(!at(1, 0).admits(false) && !at(IN_FLIGHT_MAX, 0).admits(true));
        for is_produce in [true, false] {
            assert!(!at(0, 1).admits(is_produce) && !at(3, 1).admits(is_produce));
        }
    }
}

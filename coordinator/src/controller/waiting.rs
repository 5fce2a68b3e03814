//! Callers that wait for their deletions to be finished.
//!
//! A deletion that is marked cannot fail any more, only take longer than a caller waits: then the
//! caller is told that it is accepted, and it goes on.

use std::time::{Duration, Instant};

use proto::v1;

use super::event::Reply;
use super::state::Cluster;

/// How long a caller waits.
const WAIT_MAX: Duration = Duration::from_millis(3_500);

/// The callers, bounded by the queue of calls that are open.
#[derive(Default)]
pub(crate) struct WaitingDeletions {
    callers: Vec<Caller>,
}

struct Caller {
    results: v1::TopicResults,
    until: Instant,
    reply: Reply<v1::TopicResults>,
}

impl WaitingDeletions {
    /// Adds a caller, who gets `results` when the topics in them are gone, or in due time.
    pub(crate) fn add(
        &mut self,
        results: v1::TopicResults,
        now: Instant,
        reply: Reply<v1::TopicResults>,
    ) {
        self.callers.push(Caller { results, until: now + WAIT_MAX, reply });
    }

    /// When the next caller has to be answered.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.callers.iter().map(|caller| caller.until).min()
    }

    /// Answers those whose topics are gone, whose time is over, or who hung up.
    pub(crate) fn answer(&mut self, cluster: &Cluster, now: Instant) {
        let mut still = Vec::new();
        for caller in self.callers.drain(..) {
            let asked = caller.results.results.iter().filter(|result| result.error.is_none());
            let mut waiting = asked.filter(|result| cluster.deletions.contains_key(&result.name));
            let done = waiting.next().is_none() || now >= caller.until;
            if done {
                // Nobody may be there to hear it.
                let _ = caller.reply.send(caller.results);
            } else if !caller.reply.is_closed() {
                still.push(caller);
            }
        }
        self.callers = still;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::state::Deletion;

    #[test]
    fn a_caller_is_answered_when_the_topic_is_gone_or_the_time_is_over() {
        let mut cluster = Cluster::default();
        let deletion = Deletion { id: proto::TopicId::random(), waiting_for: Vec::new() };
        cluster.deletions.insert("a".to_owned(), deletion);
        let results = v1::TopicResults {
            results: vec![v1::TopicResult { name: "a".to_owned(), ..Default::default() }],
        };
        let (now, mut waiting) = (Instant::now(), WaitingDeletions::default());
        let (early, mut early_answer) = tokio::sync::oneshot::channel();
        waiting.add(results.clone(), now - WAIT_MAX, early);
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        waiting.add(results, now, reply);
        waiting.answer(&cluster, now);
        assert!(early_answer.try_recv().is_ok());
        assert!(answer.try_recv().is_err());
        cluster.deletions.clear();
        waiting.answer(&cluster, now);
        assert!(answer.try_recv().is_ok());
        assert_eq!(waiting.next_deadline(), None);
    }
}

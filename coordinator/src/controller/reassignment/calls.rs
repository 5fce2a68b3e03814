//! Carries out reassignments for [`Term`]: the call that asks for them, and the steps that follow.
//!
//! Steps are looked for in the picture after every event, which costs no more than the partitions
//! under way. Before a step is written the states are read anew, for leaders write them too. Every
//! [`LOOK_EVERY`] the states of all that is under way are read even without an event: a leader that
//! died right after it had counted a replica in tells nobody.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use proto::{ErrorCode, Partition, v1};

use super::{request, topic};
use crate::controller::decision::{Decision, Refusal};
use crate::controller::fence::CommitError;
use crate::controller::outbox::{Delta, topic_message};
use crate::controller::picture;
use crate::controller::requests::RequestId;
use crate::controller::state::Step;
use crate::controller::subject;
use crate::controller::term::{Item, Term, TermEnd, from_registry};

/// So often the states of what is under way are read without an event.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// So many transactions, or attempts, for one topic in a row; then other events have their turn.
const ROUNDS_MAX: usize = 16;

/// When the next look is due.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    next: Option<Instant>,
}

impl Looks {
    /// The moment; none while nothing is under way.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    fn plan(&mut self, under_way: bool, now: Instant) {
        self.next = match under_way {
            true => self.next.filter(|at| *at > now).or(Some(now + LOOK_EVERY)),
            false => None,
        };
    }
}

impl Term {
    pub(in crate::controller) async fn alter_reassignments(
        &mut self,
        id: &RequestId,
        request: &v1::AlterPartitionReassignmentsRequest,
    ) -> Result<v1::AlterPartitionReassignmentsResponse, TermEnd> {
        let controller_epoch = self.writer.epoch();
        let mut errors: Vec<Option<v1::Error>> = vec![None; request.partitions.len()];
        let mut by_topic: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut named = HashSet::new();
        for (i, asked) in request.partitions.iter().enumerate() {
            // Each is judged by itself, so that a bad one does not stand in the way of the others.
            let judged = match named.insert((asked.topic.as_str(), asked.partition)) {
                true => request::check(&self.cluster, asked),
                false => Err(named_twice(asked)),
            };
            match judged {
                Ok(()) => by_topic.entry(&asked.topic).or_default().push(i),
                Err(refusal) if self.took_back(id, asked, &refusal) => {}
                Err(Refusal(error)) => errors[i] = Some(error),
            }
        }
        let items: Vec<Item<'_>> = by_topic
            .iter()
            .map(|(&name, asked)| {
                let asked: Vec<_> = asked.iter().map(|&i| &request.partitions[i]).collect();
                let rate = request.throttle;
                Item {
                    subject: subject::reassign(name),
                    decide: Box::new(move |cluster| {
                        request::reassign(cluster, name, &asked, rate, controller_epoch)
                    }),
                }
            })
            .collect();
        let results = self.carry_out(id, &items).await?;
        for (asked, result) in by_topic.values().zip(results) {
            let Err(Refusal(error)) = result else { continue };
            asked.iter().for_each(|&i| errors[i] = Some(error.clone()));
        }
        let results = request.partitions.iter().zip(errors).map(|(asked, error)| {
            let (topic, partition) = (asked.topic.clone(), asked.partition);
            v1::PartitionReassignmentResult { topic, partition, error }
        });
        Ok(v1::AlterPartitionReassignmentsResponse { results: results.collect() })
    }

    /// Whether the refusal is due to this very request having been carried out before.
    fn took_back(
        &self,
        id: &RequestId,
        asked: &v1::PartitionReassignment,
        refusal: &Refusal,
    ) -> bool {
        let nothing = ErrorCode::from_code(refusal.0.code) == ErrorCode::NoReassignmentInProgress;
        nothing && self.cluster.finished.has(id, &subject::reassign(&asked.topic))
    }

    /// Does what can be done now for the partitions under way.
    pub(in crate::controller) async fn advance_reassignments(&mut self) -> Result<(), TermEnd> {
        for name in self.reassigned_topics() {
            for _ in 0..ROUNDS_MAX {
                let due = topic::due(&self.cluster, &name);
                if due.is_empty() {
                    break;
                }
                self.advance_topic(&name, &due).await?;
            }
        }
        let under_way = !self.reassigned_topics().is_empty();
        self.looks.plan(under_way, Instant::now());
        Ok(())
    }

    /// Reads the states of all that is under way, then does what can be done.
    pub(in crate::controller) async fn look_at_reassignments(&mut self) -> Result<(), TermEnd> {
        for name in self.reassigned_topics() {
            let Some(topic) = self.cluster.topics.get(&name) else { continue };
            let under_way: Vec<Partition> = topic.reassigning.partitions.keys().copied().collect();
            let read = self.read_states(&name, &under_way).await;
            if let Err(error) = read {
                tracing::warn!(topic = name, %error, "states not read; trying again");
            }
        }
        self.advance_reassignments().await
    }

    fn reassigned_topics(&self) -> Vec<String> {
        let topics = self.cluster.topics.iter();
        let under_way = topics.filter(|(_, topic)| !topic.reassigning.partitions.is_empty());
        under_way.map(|(name, _)| name.clone()).collect()
    }

    async fn advance_topic(&mut self, name: &str, due: &[Partition]) -> Result<(), TermEnd> {
        match self.try_advance(name, due).await {
            Ok(()) => Ok(()),
            Err(CommitError::Deposed) => Err(TermEnd::Deposed),
            Err(CommitError::TermOver) => Err(TermEnd::LeaseOver),
            // A leader was quicker, or somebody's hand: seen by reading.
            Err(error) => {
                tracing::info!(topic = name, %error, "reassignment not advanced; reading anew");
                self.read_everything().await
            }
        }
    }

    async fn try_advance(&mut self, name: &str, due: &[Partition]) -> Result<(), CommitError> {
        self.read_states(name, due).await?;
        let Some(topic) = self.cluster.topics.get(name) else { return Ok(()) };
        let (scope, epoch) = (topic::Scope::All, self.writer.epoch());
        let decision = topic::advance(&self.cluster, name, topic, scope, epoch)
            .map_err(|Refusal(error)| CommitError::Conflict(error.message))?;
        let Some(Decision { writes, steps, delta, done: _ }) = decision else { return Ok(()) };
        self.writer.commit(&writes).await?;
        steps.into_iter().for_each(|step| self.cluster.apply(step));
        self.links.tell(&delta);
        let left = self.cluster.topics.get(name).map_or(0, |t| t.reassigning.partitions.len());
        tracing::info!(topic = name, changes = writes.len(), left, "reassignment advanced");
        Ok(())
    }

    /// Brings the picture of some partitions up to date, and tells the brokers what was new.
    async fn read_states(&mut self, name: &str, of: &[Partition]) -> Result<(), CommitError> {
        let Some(topic) = self.cluster.topics.get(name) else { return Ok(()) };
        let mut topic = topic.clone();
        let client = &self.writer.live().client;
        let found = picture::some_states(client, name, of).await.map_err(from_registry)?;
        let mut newer = false;
        for (&partition, found) in of.iter().zip(found) {
            let Some(state) = topic.partition_mut(partition) else { continue };
            let now = picture::partition_state(found, state.replicas.clone());
            newer |= now != *state;
            *state = now;
        }
        if newer {
            let told = [(name.to_owned(), topic_message(name, &topic))].into();
            self.cluster.apply(Step::Topic(name.to_owned(), topic));
            self.links.tell(&Delta { topics: told, ..Delta::default() });
        }
        Ok(())
    }
}

fn named_twice(asked: &v1::PartitionReassignment) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        format!("{}-{} is named twice in one request", asked.topic, asked.partition),
        "name each partition once",
    )
}

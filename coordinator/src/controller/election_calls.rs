//! Carries out looks at partitions for [`Term`]: reads, decides, writes, tells.
//!
//! What asks for looks: the live brokers changed, the term began, a broker wrote states, a broker is
//! about to stop, somebody asked for elections, leadership is out of balance, a topic's rules changed.
//! Decisions are in [`super::elections`]. An `ElectLeaders` that a fail-over interrupts is not gone on
//! with by the next controller (nothing stands in `/admin/elect`): it repairs what needs repair by
//! itself, and for the rest the caller asks again, which does no harm.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proto::{BrokerId, ErrorCode, Partition, TopicId, v1};
use uuid::Uuid;

use super::balance;
use super::due::{Chunk, Looked, Place, by_topic};
use super::elections::{Answer, Decided, Hosts, Rules, Wish, decide};
use super::event::Reply;
use super::fence::CommitError;
use super::outbox::{Delta, topic_message};
use super::state::{Brokers, Step};
use super::term::{Term, TermEnd, from_registry};
use super::unknown_topic;
use crate::registry::fence::Change;
use crate::registry::partitions;
use crate::zk::paths;
use crate::zk::payload::{PartitionState, Payload};

/// Before partitions are looked at again whose outcome is not known.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Reading one chunk may take so long.
const READ_TIMEOUT: Duration = Duration::from_secs(4);

/// What follows when the partitions of a job have been looked at.
pub(super) enum Then {
    /// Nothing.
    Rest,
    /// An answer; `all`: the whole cluster was asked for.
    AnswerElection { reply: Reply<v1::ElectLeadersResponse>, all: bool },
    /// An answer with what the broker still leads.
    AnswerShutdown { broker: BrokerId, reply: Reply<v1::ControlledShutdownResponse> },
}

/// What a chunk came to.
struct Outcome {
    looked: Vec<Looked>,
    again: Vec<Place>,
}

/// A partition whose state is to be written.
struct Pending {
    index: usize,
    state: PartitionState,
    answer: Answer,
}

impl Term {
    /// After reading everything: what needs a look by the picture alone.
    pub(super) fn survey(&mut self) {
        let hosts = Hosts::of(&self.cluster);
        let epoch = self.writer.epoch();
        for (topic, partition, state) in self.cluster.partitions() {
            let rules = Rules::of(&self.cluster, &self.defaults, topic);
            let seen = state.payload(epoch);
            let decided = decide(&seen, &state.replicas, &hosts, rules, Wish::Repair);
            if let Some(next) = decided.write {
                self.due.add((topic.to_owned(), partition), next.leader != seen.leader);
            }
        }
    }

    /// Brokers came, left or started anew: their partitions are looked at. Leaders write states,
    /// too, so the picture does not tell which of them need it.
    pub(super) fn look_after(&mut self, before: &Brokers) {
        let now = &self.cluster.brokers;
        let ids: BTreeSet<BrokerId> = before.keys().chain(now.keys()).copied().collect();
        let incarnation =
            |brokers: &Brokers, id: &BrokerId| brokers.get(id).map(|broker| broker.incarnation);
        let changed = ids.into_iter().filter(|id| incarnation(before, id) != incarnation(now, id));
        let changed: BTreeSet<BrokerId> = changed.collect();
        for (topic, partition, state) in self.cluster.partitions() {
            if state.replicas.iter().any(|id| changed.contains(id)) {
                let led = state.leader.is_some_and(|leader| now.contains_key(&leader));
                self.due.add((topic.to_owned(), partition), !led);
            }
        }
    }

    /// The rules of a topic changed.
    pub(super) fn look_at_topic(&mut self, name: &str) {
        for (topic, partition, _) in self.cluster.partitions().filter(|(topic, ..)| *topic == name)
        {
            self.due.add((topic.to_owned(), partition), false);
        }
    }

    /// Brokers wrote these states.
    pub(super) fn states_changed(
        &mut self,
        request: v1::StatesChangedRequest,
        reply: Reply<v1::StatesChangedResponse>,
    ) {
        for topic in request.changed {
            let id = TopicId::from_slice(&topic.topic_id);
            let known = self.cluster.topics.get(&topic.topic);
            if known.is_none_or(|known| id.is_some_and(|id| id != known.id)) {
                continue;
            }
            for partition in topic.partitions {
                if self.cluster.partition(&topic.topic, partition).is_some() {
                    // It may be that its leader gave it up.
                    self.due.add((topic.topic.clone(), partition), true);
                }
            }
        }
        // Nobody may be there to hear it.
        let _ = reply.send(v1::StatesChangedResponse { error: None });
    }

    /// A broker is about to stop.
    pub(super) fn controlled_shutdown(
        &mut self,
        request: &v1::ControlledShutdownRequest,
        reply: Reply<v1::ControlledShutdownResponse>,
    ) {
        let broker = BrokerId(request.broker_id);
        let incarnation = Uuid::from_slice(&request.incarnation).ok();
        let refused = |error: v1::Error| v1::ControlledShutdownResponse {
            error: Some(error),
            remaining: Vec::new(),
        };
        let registered = self.cluster.brokers.get(&broker).map(|broker| broker.incarnation);
        let (Some(incarnation), true) =
            (incarnation, registered.is_some() && registered == incarnation)
        else {
            let _ = reply.send(refused(ErrorCode::StaleBrokerEpoch.to_message(
                format!("this run of broker {broker} is not registered, as far as is known here"),
                "stop: nothing is led by a run that is not registered; or ask again in a moment",
            )));
            return;
        };
        if self.cluster.leaving.get(&broker) != Some(&incarnation) {
            tracing::info!(%broker, "broker is about to stop");
            self.cluster.apply(Step::Leaving(broker, incarnation));
        }
        let hosted = self.cluster.partitions().filter(|(_, _, s)| s.replicas.contains(&broker));
        let places = hosted.map(|(topic, partition, _)| (topic.to_owned(), partition)).collect();
        let then = Then::AnswerShutdown { broker, reply };
        if let Err(Then::AnswerShutdown { reply, .. }) =
            self.due.ask(Wish::Leave(broker), places, then)
        {
            let _ = reply.send(refused(too_many()));
        }
    }

    /// Somebody asked for elections.
    pub(super) fn elect_leaders(
        &mut self,
        request: &v1::ElectLeadersRequest,
        reply: Reply<v1::ElectLeadersResponse>,
    ) {
        let wish = match request.r#type() {
            v1::ElectionType::Preferred => Wish::Preferred,
            v1::ElectionType::Unclean => Wish::Unclean,
        };
        let all = request.partitions.is_empty();
        let places = match all {
            true => self.cluster.partitions().map(|(t, p, _)| (t.to_owned(), p)).collect(),
            false => request.partitions.iter().flat_map(|asked| self.asked_for(asked)).collect(),
        };
        let then = Then::AnswerElection { reply, all };
        if let Err(Then::AnswerElection { reply, .. }) = self.due.ask(wish, places, then) {
            let error = Some(too_many());
            let refused =
                v1::ElectionResult { partition: -1, leader: -1, error, ..Default::default() };
            let _ = reply.send(v1::ElectLeadersResponse { results: vec![refused] });
        }
    }

    /// The partitions meant, also those that are not there: they get an answer, too.
    fn asked_for(&self, asked: &v1::TopicPartitions) -> Vec<Place> {
        let known = self.cluster.topics.get(&asked.topic);
        let id = TopicId::from_slice(&asked.topic_id);
        let other = known.is_some_and(|known| id.is_some_and(|id| id != known.id));
        let count = known.filter(|_| !other).map_or(0, |known| known.partitions.len());
        let mut partitions = asked.partitions.clone();
        if other || count == 0 {
            partitions = vec![-1];
        } else if partitions.is_empty() {
            partitions = (0..).take(count).collect();
        }
        partitions.into_iter().map(|partition| (asked.topic.clone(), partition)).collect()
    }

    /// Leadership goes back where it is out of balance.
    pub(super) fn balance(&mut self) {
        let Some(balance) = self.balance else { return };
        self.next_balance = Some(Instant::now() + balance.interval);
        let places = balance::imbalanced(&self.cluster, balance.percentage);
        if places.is_empty() {
            return;
        }
        tracing::info!(partitions = places.len(), "leadership goes back to preferred leaders");
        // Where too many requests wait it is for the next time.
        let _ = self.due.ask(Wish::Preferred, places, Then::Rest);
    }

    /// Looks at the next chunk.
    pub(super) async fn hold_elections(&mut self) -> Result<(), TermEnd> {
        let Some(chunk) = self.due.take() else { return Ok(()) };
        match self.look_at(&chunk).await {
            Ok(Outcome { looked, again }) => {
                if let Some((then, looked)) = self.due.looked(&chunk, looked, again) {
                    self.done(then, looked);
                }
                // A replica that came into an ISR may be what a reassignment waits for.
                self.advance_reassignments().await
            }
            Err(CommitError::Deposed) => Err(TermEnd::Deposed),
            Err(CommitError::TermOver) => Err(TermEnd::LeaseOver),
            Err(error) => {
                tracing::warn!(%error, partitions = chunk.places.len(), "elections not known to have happened; looking again");
                self.due.put_back(chunk, Instant::now(), RETRY_PAUSE);
                Ok(())
            }
        }
    }

    async fn look_at(&mut self, chunk: &Chunk) -> Result<Outcome, CommitError> {
        let reading = partitions::read_each(&self.writer.live().client, &chunk.places);
        let states = match tokio::time::timeout(READ_TIMEOUT, reading).await {
            Ok(states) => states.map_err(from_registry)?,
            Err(_) => {
                return Err(CommitError::OutcomeUnknown(format!("no answer in {READ_TIMEOUT:?}")));
            }
        };
        let hosts = Hosts::of(&self.cluster);
        let mut outcome = Outcome { looked: Vec::new(), again: Vec::new() };
        let (mut steps, mut pending, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (place, state)) in chunk.places.iter().zip(states).enumerate() {
            let (topic, partition) = place;
            let known = self.cluster.partition(topic, *partition);
            let (Some(known), Some(state)) = (known, state) else {
                outcome.looked.push(looked(place, Answer::Unknown, None));
                continue;
            };
            let rules = Rules::of(&self.cluster, &self.defaults, topic);
            let decided = decide(&state.value, &known.replicas, &hosts, rules, chunk.wish);
            note_unclean(place, &decided);
            let Some(mut next) = decided.write else {
                outcome.looked.push(looked(place, decided.answer, state.value.leader));
                if state.version > known.version {
                    steps.push(Step::State(topic.clone(), *partition, state.value, state.version));
                }
                continue;
            };
            next.controller_epoch = self.writer.epoch();
            writes.push(Change::Set {
                path: paths::partition_state(topic, *partition),
                bytes: next.encode().map_err(|error| CommitError::Conflict(error.to_string()))?,
                version: Some(state.version),
            });
            pending.push(Pending { index, state: next, answer: decided.answer });
        }
        let written = self.writer.commit_apart(&writes).await?;
        for (Pending { index, state, answer }, version) in pending.into_iter().zip(written) {
            let place = &chunk.places[index];
            let Some(version) = version else {
                outcome.again.push(place.clone());
                continue;
            };
            outcome.looked.push(looked(place, answer, state.leader));
            steps.push(Step::State(place.0.clone(), place.1, state, version));
        }
        self.take_states(steps);
        Ok(outcome)
    }

    /// Changes the picture and tells every broker.
    fn take_states(&mut self, steps: Vec<Step>) {
        let mut changed = BTreeSet::new();
        for step in steps {
            if let Step::State(topic, ..) = &step {
                changed.insert(topic.clone());
            }
            self.cluster.apply(step);
        }
        let topics = changed.into_iter().filter_map(|name| {
            let message = topic_message(&name, self.cluster.topics.get(&name)?);
            Some((name, message))
        });
        let delta = Delta { topics: topics.collect(), ..Delta::default() };
        self.tell(&delta);
    }

    /// A job is done.
    fn done(&mut self, then: Then, looked: Vec<Looked>) {
        match then {
            Then::Rest => {}
            Then::AnswerElection { reply, all } => {
                let needed = |one: &Looked| !all || one.answer != Answer::NotNeeded;
                let mut looked: Vec<Looked> = looked.into_iter().filter(needed).collect();
                looked.sort_by(|a, b| a.place.cmp(&b.place));
                let results = looked.into_iter().map(|one| self.election_result(one)).collect();
                self.answer_when_heard(reply, v1::ElectLeadersResponse { results });
            }
            Then::AnswerShutdown { broker, reply } => {
                let led = looked.into_iter().filter(|one| one.leader == Some(broker));
                let remaining = by_topic(led.map(|one| one.place)).into_iter();
                let remaining = remaining.map(|(topic, partitions)| v1::TopicPartitions {
                    topic_id: self.topic_id(&topic),
                    topic,
                    partitions,
                });
                let remaining = remaining.collect();
                let response = v1::ControlledShutdownResponse { error: None, remaining };
                self.answer_when_heard(reply, response);
            }
        }
    }

    fn topic_id(&self, topic: &str) -> bytes::Bytes {
        self.cluster.topics.get(topic).map(|topic| topic.id.to_bytes()).unwrap_or_default()
    }

    fn election_result(&self, looked: Looked) -> v1::ElectionResult {
        let (topic, partition) = looked.place;
        let error = looked.answer.error().map(|code| match code {
            ErrorCode::UnknownTopicOrPartition => match self.cluster.topics.contains_key(&topic) {
                true => code.to_message(
                    format!("topic `{topic}` has no partition {partition} that can be read"),
                    "describe the topic to see its partitions",
                ),
                false => unknown_topic(&self.cluster, &topic).0,
            },
            _ => code.to_message(code.text(), remedy(code)),
        });
        let leader = looked.leader.map_or(-1, |id| id.0);
        v1::ElectionResult { topic, partition, error, leader }
    }
}

fn remedy(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::PreferredLeaderNotAvailable => {
            "start the first replica's broker, and wait until it has caught up"
        }
        ErrorCode::EligibleLeadersNotAvailable => {
            "start the broker of a replica that was in sync; where its data is lost for good, elect \
             an unclean leader, which may lose acknowledged records"
        }
        _ => "",
    }
}

fn looked(place: &(String, Partition), answer: Answer, leader: Option<BrokerId>) -> Looked {
    Looked { place: place.clone(), answer, leader }
}

fn too_many() -> v1::Error {
    ErrorCode::ThrottlingQuotaExceeded.to_message(
        "too many requests wait for elections",
        "try again when those before it are done",
    )
}

fn note_unclean((topic, partition): &Place, decided: &Decided) {
    if decided.unclean && decided.write.is_some() {
        tracing::warn!(
            topic,
            partition,
            "unclean election: the new leader may lack acknowledged records"
        );
    }
}

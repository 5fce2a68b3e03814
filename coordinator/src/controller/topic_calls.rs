//! Carries out the Admin calls that change topics and overrides, for [`Term`].
//!
//! The decisions are in [`super::commands`] and [`super::deletion`]; here they are put together
//! with ids and time, written, and turned into answers.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proto::{ErrorCode, TopicId, v1};

use super::commands::{self, NewTopic};
use super::decision::Refusal;
use super::event::Reply;
use super::requests::RequestId;
use super::term::{Item, Term, TermEnd};
use super::{deletion, subject};
use crate::registry::configs::Kind;

impl Term {
    pub(super) async fn create_topics(
        &mut self,
        id: &RequestId,
        request: &v1::CreateTopicsRequest,
    ) -> Result<v1::TopicResults, TermEnd> {
        let (defaults, controller_epoch) = (self.defaults, self.writer.epoch());
        let items: Vec<Item<'_>> = request
            .topics
            .iter()
            .map(|asked| {
                let new = NewTopic { asked, id: TopicId::random(), controller_epoch };
                Item {
                    subject: subject::create(&asked.name),
                    decide: Box::new(move |cluster| commands::create_topic(cluster, defaults, new)),
                }
            })
            .collect();
        let names = request.topics.iter().map(|topic| topic.name.as_str());
        if request.validate_only {
            return Ok(self.validated(names, &items));
        }
        let mut results = self.carry_out(id, &items).await?;
        if request.if_not_exists {
            for (result, asked) in results.iter_mut().zip(&request.topics) {
                let there = self.cluster.topics.contains_key(&asked.name)
                    && !self.cluster.deletions.contains_key(&asked.name);
                if there && is_already_there(result) {
                    *result = Ok(());
                }
            }
        }
        Ok(self.topic_results(names, results))
    }

    /// What a change would give, with nothing written.
    fn validated<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        items: &[Item<'_>],
    ) -> v1::TopicResults {
        let mut ahead = self.cluster.clone();
        let results = items.iter().zip(names).map(|(item, name)| match (item.decide)(&ahead) {
            Ok(decision) => {
                decision.steps.into_iter().for_each(|step| ahead.apply(step));
                let (partitions, replication_factor) = shape(&ahead, name);
                let name = name.to_owned();
                v1::TopicResult { name, partitions, replication_factor, ..Default::default() }
            }
            Err(Refusal(error)) => {
                v1::TopicResult { name: name.to_owned(), error: Some(error), ..Default::default() }
            }
        });
        v1::TopicResults { results: results.collect() }
    }

    pub(super) async fn create_partitions(
        &mut self,
        id: &RequestId,
        request: &v1::CreatePartitionsRequest,
    ) -> Result<v1::TopicResults, TermEnd> {
        let controller_epoch = self.writer.epoch();
        let items: Vec<Item<'_>> = request
            .topics
            .iter()
            .map(|asked| Item {
                subject: subject::grow(&asked.name),
                decide: Box::new(move |cluster| {
                    commands::create_partitions(cluster, asked, controller_epoch)
                }),
            })
            .collect();
        if request.validate_only {
            let names = request.topics.iter().map(|topic| topic.name.as_str());
            return Ok(self.validated(names, &items));
        }
        let results = self.carry_out(id, &items).await?;
        Ok(self.topic_results(request.topics.iter().map(|topic| topic.name.as_str()), results))
    }

    pub(super) async fn delete_topics(
        &mut self,
        id: &RequestId,
        request: v1::DeleteTopicsRequest,
        reply: Reply<v1::TopicResults>,
    ) -> Result<(), TermEnd> {
        let now_ms = now_ms();
        let items: Vec<Item<'_>> = request
            .topics
            .iter()
            .map(|name| Item {
                subject: subject::delete(name),
                decide: Box::new(move |cluster| deletion::mark(cluster, name, now_ms)),
            })
            .collect();
        let results = self.carry_out(id, &items).await?;
        let results = request.topics.iter().zip(results).map(|(name, result)| {
            let absent = |refusal: &Refusal| is(refusal, ErrorCode::UnknownTopicOrPartition);
            let error = match result {
                Err(refusal) if request.if_exists && absent(&refusal) => None,
                Err(Refusal(error)) => Some(error),
                Ok(()) => None,
            };
            v1::TopicResult { name: name.clone(), error, ..Default::default() }
        });
        let results = v1::TopicResults { results: results.collect() };
        // Answered by `finish_deletions`, which follows each event.
        self.waiting.add(results, Instant::now(), reply);
        Ok(())
    }

    pub(super) async fn alter_configs(
        &mut self,
        id: &RequestId,
        kind: Kind,
        request: &v1::AlterConfigsRequest,
    ) -> Result<v1::AlterConfigsResponse, TermEnd> {
        let item = Item {
            subject: subject::alter(kind.plural(), &request.name),
            decide: Box::new(|cluster| {
                let (set, remove) = (&request.set, &request.remove);
                commands::alter_configs(cluster, kind, &request.name, set, remove)
            }),
        };
        let results = self.carry_out(id, &[item]).await?;
        let error = results.into_iter().find_map(Result::err).map(|Refusal(error)| error);
        Ok(v1::AlterConfigsResponse { error })
    }

    fn topic_results<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        results: Vec<Result<(), Refusal>>,
    ) -> v1::TopicResults {
        let results = names.zip(results).map(|(name, result)| {
            let topic = self.cluster.topics.get(name).filter(|_| result.is_ok());
            let (partitions, replication_factor) = match topic {
                Some(_) => shape(&self.cluster, name),
                None => (0, 0),
            };
            v1::TopicResult {
                name: name.to_owned(),
                error: result.err().map(|Refusal(error)| error),
                topic_id: topic.map(|topic| topic.id.to_bytes()).unwrap_or_default(),
                partitions,
                replication_factor,
            }
        });
        v1::TopicResults { results: results.collect() }
    }
}

/// Partitions and replication factor of a topic.
fn shape(cluster: &super::state::Cluster, name: &str) -> (i32, i32) {
    let Some(topic) = cluster.topics.get(name) else { return (0, 0) };
    let factor = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    let count = |n| i32::try_from(n).unwrap_or(i32::MAX);
    (count(topic.partitions.len()), count(factor))
}

fn is(refusal: &Refusal, code: ErrorCode) -> bool {
    ErrorCode::from_code(refusal.0.code) == code
}

fn is_already_there(result: &Result<(), Refusal>) -> bool {
    result.as_ref().is_err_and(|refusal| is(refusal, ErrorCode::TopicAlreadyExists))
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

//! The rounds of one fetch stream, without the stream: which handles the broker holds, what the
//! next request changes, and what an answer belongs to. Pure.
//!
//! - A handle is one position of one partition for the life of the stream: a seek, a pause or a
//!   full queue forgets it, and going on adds another. Answers of a handle that was forgotten
//!   meanwhile are taken while the forgetting request has not ended.
//! - At most [`ROUNDS_MAX`] rounds are under way. The second is sent when the first brings data,
//!   so it never waits behind a long poll, or when it adds a partition: the broker ends a long
//!   poll that another request waits behind.
//! - While a partition lags by more than the next round will bring, the second is sent as soon as there
//!   are fewer: the broker writes one round while the other is read, and neither waits for the
//!   other. Where the guess was wrong, one round ends empty, as above.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use proto::{Offset, TopicPartition, v1};

use crate::config::ConsumerConfig;
use crate::positions::Positions;
use crate::shared::{Answer, Want, Wants};

/// Rounds under way on a stream.
const ROUNDS_MAX: usize = 2;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// By number. Forgotten ones stay until the request that forgot them ended.
    handles: HashMap<u32, Handle>,
    /// The handle that the broker holds for a partition.
    held: HashMap<TopicPartition, u32>,
    under_way: VecDeque<Round>,
    /// See [`Round::lags`], of the one that ended last.
    lags: bool,
    last_handle: u32,
    last_request: u64,
}

#[derive(Debug)]
struct Handle {
    positions: Arc<Positions>,
    next: Offset,
}

#[derive(Debug)]
struct Round {
    id: u64,
    has_data: bool,
    /// It left more of a partition behind than it brought.
    lags: bool,
    added: Vec<Arc<Positions>>,
    forgotten: Vec<u32>,
}

/// What a message of the broker means.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Records of a partition.
    Answer(Answer),
    /// A partition could not be read; the broker has forgotten its handle.
    Failed {
        positions: Arc<Positions>,
        wanted: Offset,
        error: v1::Error,
        /// The offset after what cannot be read, where that is why.
        damage_ends: Option<Offset>,
    },
    /// The leader's log has another history before the position; the broker has forgotten its handle.
    Diverged { positions: Arc<Positions>, wanted: Offset, end: v1::EpochEnd },
    /// A round ended; these partitions were new in it and are well.
    Ended { added: Vec<Arc<Positions>> },
    /// Of a handle that is not known: nothing to do.
    Ignored,
    /// The broker broke the protocol.
    Violation(String),
}

impl Rounds {
    /// Whether another request may be sent now; `adds`: it would add a partition.
    pub(crate) fn may_send(&self, adds: bool) -> bool {
        match self.under_way.len() {
            0 => true,
            n if n >= ROUNDS_MAX => false,
            _ => adds || self.lags || self.under_way.back().is_some_and(|r| r.has_data),
        }
    }

    /// Whether a round is under way.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether as many rounds are under way as may be.
    pub(crate) fn has_two(&self) -> bool {
        self.under_way.len() >= ROUNDS_MAX
    }

    /// Whether the wants name a partition that the broker does not hold as wanted.
    pub(crate) fn lacks(&self, wants: &Wants) -> bool {
        wants.list.iter().any(|want| self.held_as(want).is_none())
    }

    fn held_as(&self, want: &Want) -> Option<u32> {
        let number = *self.held.get(&want.positions.partition)?;
        let handle = self.handles.get(&number)?;
        let same = Arc::ptr_eq(&handle.positions, &want.positions) && handle.next == want.offset;
        same.then_some(number)
    }

    /// The next request; `None` where nothing is wanted.
    pub(crate) fn request(
        &mut self,
        wants: &Wants,
        config: &ConsumerConfig,
    ) -> Option<v1::FetchRequest> {
        if wants.list.is_empty() {
            return None;
        }
        let mut add = Vec::new();
        let mut added = Vec::new();
        let mut held = HashMap::with_capacity(wants.list.len());
        for want in &wants.list {
            let number = match self.held_as(want) {
                Some(number) => number,
                None => {
                    self.last_handle += 1;
                    let positions = Arc::clone(&want.positions);
                    added.push(Arc::clone(&positions));
                    add.push(fetch_partition(self.last_handle, want, config));
                    self.handles.insert(self.last_handle, Handle { positions, next: want.offset });
                    self.last_handle
                }
            };
            held.insert(want.positions.partition.clone(), number);
        }
        let before = std::mem::replace(&mut self.held, held);
        let forgotten: Vec<u32> = before
            .into_iter()
            .filter(|(partition, number)| self.held.get(partition) != Some(number))
            .map(|(_, number)| number)
            .collect();
        let forget = forgotten.clone();
        let mut request = self.begin(wants.round_bytes, config, added, forgotten);
        request.add = add;
        request.forget = forget;
        Some(request)
    }

    /// The same as before; `None` where nothing is held.
    pub(crate) fn again(
        &mut self,
        round_bytes: u64,
        config: &ConsumerConfig,
    ) -> Option<v1::FetchRequest> {
        (!self.held.is_empty()).then(|| self.begin(round_bytes, config, Vec::new(), Vec::new()))
    }

    fn begin(
        &mut self,
        round_bytes: u64,
        config: &ConsumerConfig,
        added: Vec<Arc<Positions>>,
        forgotten: Vec<u32>,
    ) -> v1::FetchRequest {
        self.last_request += 1;
        let id = self.last_request;
        self.under_way.push_back(Round { id, has_data: false, lags: false, added, forgotten });
        v1::FetchRequest {
            request_id: id,
            max_wait_ms: config.fetch_max_wait.as_millis() as u32,
            min_bytes: config.fetch_min_bytes,
            max_bytes: round_bytes,
            ..Default::default()
        }
    }

    /// Takes a message of the broker.
    pub(crate) fn message(&mut self, response: v1::FetchResponse, records: Vec<Bytes>) -> Outcome {
        let Some(round) = self.under_way.front_mut() else {
            return Outcome::Violation("an answer without a request".to_owned());
        };
        if round.id != response.request_id {
            let (id, expected) = (response.request_id, round.id);
            return Outcome::Violation(format!("an answer of round {id} during round {expected}"));
        }
        if response.end {
            let Some(round) = self.under_way.pop_front() else { return Outcome::Ignored };
            self.lags = round.lags;
            for number in round.forgotten {
                self.handles.remove(&number);
            }
            return Outcome::Ended { added: round.added };
        }
        round.has_data = true;
        let Some(handle) = self.handles.get_mut(&response.handle) else { return Outcome::Ignored };
        let positions = Arc::clone(&handle.positions);
        let from = handle.next;
        if response.error.is_some() || response.diverging.is_some() {
            round.added.retain(|added| !Arc::ptr_eq(added, &positions));
            self.handles.remove(&response.handle);
            if self.held.get(&positions.partition) == Some(&response.handle) {
                self.held.remove(&positions.partition);
            }
            let Some(error) = response.error else {
                let end = response.diverging.unwrap_or_default();
                return Outcome::Diverged { positions, wanted: from, end };
            };
            let damage_ends = response.damaged.map(|damaged| Offset(damaged.to_offset));
            return Outcome::Failed { positions, wanted: from, error, damage_ends };
        }
        let next_offset = Offset(response.next_offset);
        if next_offset < from {
            let partition = &positions.partition;
            return Outcome::Violation(format!(
                "{partition} went back from {from} to {next_offset}"
            ));
        }
        handle.next = next_offset;
        let brought = next_offset.0.saturating_sub(from.0);
        round.lags |= response.high_watermark.saturating_sub(next_offset.0) > brought;
        Outcome::Answer(Answer {
            positions,
            from,
            next_offset,
            chunks: records,
            high_watermark: Offset(response.high_watermark),
            log_start: Offset(response.log_start_offset),
        })
    }
}

fn fetch_partition(handle: u32, want: &Want, config: &ConsumerConfig) -> v1::FetchPartition {
    v1::FetchPartition {
        handle,
        topic: want.positions.partition.topic.to_string(),
        topic_id: want.topic_id.to_bytes(),
        partition: want.positions.partition.partition,
        offset: want.offset.0,
        leader_epoch: want.epoch.0,
        max_bytes: config.max_partition_fetch_bytes,
        verify: want.verify,
        last_fetched_epoch: want.last_epoch.map(|epoch| epoch.0),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{LeaderEpoch, TopicId};

    fn config() -> ConsumerConfig {
        ConsumerConfig::new(["localhost:1"])
    }

    fn wants(partitions: i32) -> Wants {
        let want = |partition| {
            let positions = Arc::new(Positions::new(TopicPartition::new("t", partition)));
            Want {
                positions,
                topic_id: TopicId::random(),
                offset: Offset(0),
                epoch: LeaderEpoch(0),
                last_epoch: None,
                verify: false,
            }
        };
        Wants { list: (0..partitions).map(want).collect(), round_bytes: 1 << 20 }
    }

    fn answer(
        rounds: &mut Rounds,
        request_id: u64,
        handle: u32,
        (next_offset, high_watermark): (i64, i64),
    ) {
        let response = v1::FetchResponse {
            request_id,
            handle,
            next_offset,
            high_watermark,
            ..Default::default()
        };
        assert!(matches!(rounds.message(response, Vec::new()), Outcome::Answer(_)));
    }

    fn end(rounds: &mut Rounds, request_id: u64) {
        let response = v1::FetchResponse { request_id, end: true, ..Default::default() };
        assert!(matches!(rounds.message(response, Vec::new()), Outcome::Ended { .. }));
    }

    /// The number of the next request, where one may be sent.
    fn send(rounds: &mut Rounds) -> Option<u64> {
        if !rounds.may_send(false) {
            return None;
        }
        rounds.again(1 << 20, &config()).map(|request| request.request_id)
    }

    #[test]
    fn a_second_round_goes_out_at_once_while_more_is_left_than_one_brings() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.request(&wants(1), &config()).map(|r| r.request_id), Some(1));
        assert_eq!(send(&mut rounds), None, "nothing is known yet: the first may be a long poll");
        answer(&mut rounds, 1, 1, (100, 1_000));
        assert_eq!(send(&mut rounds), Some(2), "the first brings data");
        assert_eq!(send(&mut rounds), None, "two are under way");
        end(&mut rounds, 1);
        assert_eq!(
            send(&mut rounds),
            Some(3),
            "it lags: the second need not have brought anything"
        );
        answer(&mut rounds, 2, 1, (550, 1_000));
        end(&mut rounds, 2);
        assert_eq!(send(&mut rounds), None, "what is left, the round under way brings");
        answer(&mut rounds, 3, 1, (1_000, 1_000));
        assert_eq!(send(&mut rounds), Some(4));
        end(&mut rounds, 3);
        assert_eq!(send(&mut rounds), None, "a long poll stays alone");
        end(&mut rounds, 4);
        assert_eq!(send(&mut rounds), Some(5));
        assert_eq!(send(&mut rounds), None, "an empty round tells of no lag");
    }

    #[test]
    fn one_partition_that_lags_is_enough() {
        let mut rounds = Rounds::default();
        rounds.request(&wants(2), &config()).unwrap();
        answer(&mut rounds, 1, 1, (100, 1_000));
        answer(&mut rounds, 1, 2, (100, 100));
        assert_eq!(send(&mut rounds), Some(2));
        end(&mut rounds, 1);
        assert_eq!(send(&mut rounds), Some(3));
        end(&mut rounds, 2);
        assert_eq!(send(&mut rounds), None, "the last round brought nothing");
    }
}

//! What was read of partitions, in Kafka's words. Long records stay where they are on disk.

use proto::TopicId;
use proto::kafka::messages::{
    EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use proto::kafka::{Records, Str};

use super::Context;
use super::handlers::code;
use super::leader_hints::LeaderHints;
use super::round::State;
use super::session::{PartitionKey, Shown, TopicKey};
use crate::api::{Fetched, FileRange, Refusal};

/// Shorter ranges go out of memory: that costs less than a call of their own.
const FILE_FROM: usize = 16 << 10;

/// An answer as it comes together.
pub(in crate::server::kafka) struct FetchAnswer<'a> {
    context: &'a Context,
    /// A list of aborted transactions is wanted.
    read_committed: bool,
    topics: Vec<(TopicKey, FetchableTopicResponse)>,
    files: Vec<FileRange>,
    hints: LeaderHints,
}

impl<'a> FetchAnswer<'a> {
    pub(in crate::server::kafka) fn new(context: &'a Context, read_committed: bool) -> Self {
        let (topics, files, hints) = (Vec::new(), Vec::new(), LeaderHints::default());
        Self { context, read_committed, topics, files, hints }
    }

    /// Adds a partition.
    pub(in crate::server::kafka) fn push(
        &mut self,
        key: &PartitionKey,
        shown: Shown,
        state: State,
    ) {
        let mut data = self.partition_data(key, shown, state);
        data.aborted_transactions = self.read_committed.then(Vec::new);
        if let Some((topic, response)) = self.topics.last_mut()
            && *topic == key.0
        {
            response.partitions.push(data);
            return;
        }
        let mut response =
            FetchableTopicResponse { partitions: vec![data], ..FetchableTopicResponse::default() };
        match &key.0 {
            TopicKey::Name(name) => response.topic = Str::clone(name),
            TopicKey::Id(id) => response.topic_id = *id,
        }
        self.topics.push((key.0.clone(), response));
    }

    /// The answer, and the files that the records which are elsewhere come from.
    pub(in crate::server::kafka) fn finish(
        self,
        session_id: i32,
    ) -> (FetchResponse, Vec<FileRange>) {
        let response = FetchResponse {
            session_id,
            responses: self.topics.into_iter().map(|(_, response)| response).collect(),
            node_endpoints: self.hints.endpoints(self.context),
            ..FetchResponse::default()
        };
        (response, self.files)
    }

    fn partition_data(&mut self, key: &PartitionKey, shown: Shown, state: State) -> PartitionData {
        let metrics = &self.context.services.metrics;
        let data = PartitionData {
            partition_index: key.1,
            high_watermark: shown.high_watermark,
            last_stable_offset: shown.high_watermark,
            log_start_offset: shown.log_start,
            ..PartitionData::default()
        };
        match state {
            State::Empty(_) => data,
            State::Read(_, fetched) => {
                metrics.fetch_bytes.add(fetched.bytes() as u64);
                PartitionData { records: records(fetched, &mut self.files), ..data }
            }
            State::Diverging(_, epoch, end) => {
                let diverging_epoch = EpochEndOffset { epoch: epoch.0, end_offset: end.0 };
                PartitionData { diverging_epoch, ..data }
            }
            State::Refused(refusal) => {
                metrics.fetch_errors.one();
                let error_code = code(&refusal);
                PartitionData { error_code, current_leader: self.hint(key, &refusal), ..data }
            }
        }
    }

    fn hint(&mut self, (topic, partition): &PartitionKey, refusal: &Refusal) -> LeaderIdAndEpoch {
        let name = match topic {
            TopicKey::Name(name) => Some(Str::clone(name)),
            TopicKey::Id(id) => self.context.services.api.topic_name_of(TopicId(*id)).ok(),
        };
        let hint = name.map(|name| self.hints.of(self.context, refusal.code, &name, *partition));
        hint.unwrap_or_default()
    }
}

/// What an answer shows of a partition.
pub(in crate::server::kafka) fn shown(state: &State) -> Shown {
    let ((high_watermark, log_start), has_more) = match state {
        State::Empty(reader) => (reader.bounds(), false),
        State::Read(_, fetched) => ((fetched.high_watermark, fetched.log_start), true),
        State::Diverging(reader, ..) => (reader.bounds(), true),
        State::Refused(_) => {
            return Shown { high_watermark: -1, log_start: -1, has_more: false, is_error: true };
        }
    };
    let (high_watermark, log_start) = (high_watermark.0, log_start.0);
    Shown { high_watermark, log_start, has_more, is_error: false }
}

/// Long records stay where they are.
fn records(fetched: Fetched, files: &mut Vec<FileRange>) -> Records {
    let len = fetched.bytes();
    let file = if len >= FILE_FROM { fetched.file_range() } else { None };
    match file {
        Some(file) => {
            files.push(file);
            Records::Elsewhere(len)
        }
        None => Records::Here(fetched.records),
    }
}

//! Produce: batches to append, one a partition.

use bytes::Bytes;

use super::fetch::{LeaderIdAndEpoch, NodeEndpoint};
use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Appends. With `acks` 0 there is no answer at all.
    ProduceRequest {
        transactional_id: Option<Str>, 3..;
        /// 0: none, 1: the leader, -1: all in sync.
        acks: i16, 0..;
        timeout_ms: i32, 0..;
        topic_data: Vec<TopicProduceData>, 0..;
    }

    /// Of one topic.
    TopicProduceData {
        name: Str, 0..;
        partition_data: Vec<PartitionProduceData>, 0..;
    }

    /// Of one partition.
    PartitionProduceData {
        index: i32, 0..;
        /// One record batch; a slice of the frame.
        records: Option<Bytes>, 0..;
    }

    /// What became of it.
    ProduceResponse {
        responses: Vec<TopicProduceResponse>, 0..;
        throttle_time_ms: i32, 1..;
    } tagged {
        0 node_endpoints: Vec<NodeEndpoint>, 10..;
    }

    /// Of one topic.
    TopicProduceResponse {
        name: Str, 0..;
        partition_responses: Vec<PartitionProduceResponse>, 0..;
    }

    /// Of one partition.
    PartitionProduceResponse {
        index: i32, 0..;
        error_code: i16, 0..;
        base_offset: i64, 0..;
        /// -1 where the topic has the producer's stamps.
        log_append_time_ms: i64 = -1, 2..;
        log_start_offset: i64 = -1, 5..;
        record_errors: Vec<BatchIndexAndErrorMessage>, 8..;
        error_message: Option<Str>, 8..;
    } tagged {
        0 current_leader: LeaderIdAndEpoch, 10..;
    }

    /// Which record is at fault.
    BatchIndexAndErrorMessage {
        batch_index: i32, 8..;
        batch_index_error_message: Option<Str>, 8..;
    }
}

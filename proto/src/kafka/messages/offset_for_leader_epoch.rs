//! OffsetForLeaderEpoch: where an epoch's records end (KIP-101, KIP-320).

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    OffsetForLeaderEpochRequest {
        replica_id: i32 = -2, 3..;
        topics: Vec<OffsetForLeaderTopic>, 0..;
    }

    /// Of one topic.
    OffsetForLeaderTopic {
        topic: Str, 0..;
        partitions: Vec<OffsetForLeaderPartition>, 0..;
    }

    /// Of one partition.
    OffsetForLeaderPartition {
        partition: i32, 0..;
        current_leader_epoch: i32 = -1, 2..;
        /// Whose end is asked for.
        leader_epoch: i32, 0..;
    }

    /// Answers.
    OffsetForLeaderEpochResponse {
        throttle_time_ms: i32, 2..;
        topics: Vec<OffsetForLeaderTopicResult>, 0..;
    }

    /// Of one topic.
    OffsetForLeaderTopicResult {
        topic: Str, 0..;
        partitions: Vec<OffsetForLeaderPartitionResult>, 0..;
    }

    /// Of one partition.
    OffsetForLeaderPartitionResult {
        error_code: i16, 0..;
        partition: i32, 0..;
        leader_epoch: i32 = -1, 1..;
        end_offset: i64 = -1, 0..;
    }
}

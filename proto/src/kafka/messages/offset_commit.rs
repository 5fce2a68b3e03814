//! OffsetCommit: how far a group has come.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    OffsetCommitRequest {
        group_id: Str, 0..;
        generation_id_or_member_epoch: i32 = -1, 1..;
        member_id: Str, 1..;
        group_instance_id: Option<Str>, 7..;
        retention_time_ms: i64 = -1, 2..=4;
        topics: Vec<OffsetCommitRequestTopic>, 0..;
    }

    /// Of one topic.
    OffsetCommitRequestTopic {
        name: Str, 0..;
        partitions: Vec<OffsetCommitRequestPartition>, 0..;
    }

    /// Of one partition.
    OffsetCommitRequestPartition {
        partition_index: i32, 0..;
        committed_offset: i64, 0..;
        committed_leader_epoch: i32 = -1, 6..;
        committed_metadata: Option<Str>, 0..;
    }

    /// Answers.
    OffsetCommitResponse {
        throttle_time_ms: i32, 3..;
        topics: Vec<OffsetCommitResponseTopic>, 0..;
    }

    /// Of one topic.
    OffsetCommitResponseTopic {
        name: Str, 0..;
        partitions: Vec<OffsetCommitResponsePartition>, 0..;
    }

    /// Of one partition.
    OffsetCommitResponsePartition {
        partition_index: i32, 0..;
        error_code: i16, 0..;
    }
}

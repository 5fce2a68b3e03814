//! DeleteRecords: all before an offset.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic>, 0..;
        timeout_ms: i32, 0..;
    }

    /// Of one topic.
    DeleteRecordsTopic {
        name: Str, 0..;
        partitions: Vec<DeleteRecordsPartition>, 0..;
    }

    /// Of one partition.
    DeleteRecordsPartition {
        partition_index: i32, 0..;
        /// -1: all that are committed.
        offset: i64, 0..;
    }

    /// Answers.
    DeleteRecordsResponse {
        throttle_time_ms: i32, 0..;
        topics: Vec<DeleteRecordsTopicResult>, 0..;
    }

    /// Of one topic.
    DeleteRecordsTopicResult {
        name: Str, 0..;
        partitions: Vec<DeleteRecordsPartitionResult>, 0..;
    }

    /// Of one partition.
    DeleteRecordsPartitionResult {
        partition_index: i32, 0..;
        low_watermark: i64, 0..;
        error_code: i16, 0..;
    }
}

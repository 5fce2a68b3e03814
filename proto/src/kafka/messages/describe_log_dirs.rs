//! DescribeLogDirs: what is on a broker's disks.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    DescribeLogDirsRequest {
        /// Null: all.
        topics: Option<Vec<DescribableLogDirTopic>>, 0..;
    }

    /// Of one topic.
    DescribableLogDirTopic {
        topic: Str, 0..;
        partitions: Vec<i32>, 0..;
    }

    /// Answers.
    DescribeLogDirsResponse {
        throttle_time_ms: i32, 0..;
        error_code: i16, 3..;
        results: Vec<DescribeLogDirsResult>, 0..;
    }

    /// One directory.
    DescribeLogDirsResult {
        error_code: i16, 0..;
        log_dir: Str, 0..;
        topics: Vec<DescribeLogDirsTopic>, 0..;
        /// Of its file system.
        total_bytes: i64 = -1, 4..;
        /// Of its file system.
        usable_bytes: i64 = -1, 4..;
    }

    /// Of one topic.
    DescribeLogDirsTopic {
        name: Str, 0..;
        partitions: Vec<DescribeLogDirsPartition>, 0..;
    }

    /// Of one partition.
    DescribeLogDirsPartition {
        partition_index: i32, 0..;
        partition_size: i64, 0..;
        offset_lag: i64, 0..;
        is_future_key: bool, 0..;
    }
}

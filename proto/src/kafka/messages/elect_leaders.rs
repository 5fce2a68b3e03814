//! ElectLeaders: the preferred one, or one that is not in sync.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    ElectLeadersRequest {
        /// 0: preferred, 1: unclean.
        election_type: i8, 1..;
        /// Null: all.
        topic_partitions: Option<Vec<ElectLeadersTopicPartitions>>, 0..;
        timeout_ms: i32 = 60_000, 0..;
    }

    /// Of one topic.
    ElectLeadersTopicPartitions {
        topic: Str, 0..;
        partitions: Vec<i32>, 0..;
    }

    /// Answers.
    ElectLeadersResponse {
        throttle_time_ms: i32, 0..;
        error_code: i16, 1..;
        replica_election_results: Vec<ReplicaElectionResult>, 0..;
    }

    /// Of one topic.
    ReplicaElectionResult {
        topic: Str, 0..;
        partition_result: Vec<PartitionResult>, 0..;
    }

    /// Of one partition.
    PartitionResult {
        partition_id: i32, 0..;
        error_code: i16, 0..;
        error_message: Option<Str>, 0..;
    }
}

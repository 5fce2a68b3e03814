//! Fetch: record batches from offsets on.

use uuid::Uuid;

use crate::kafka::message::messages;
use crate::kafka::{Records, Str};

messages! {
    /// Reads. With a session only what has changed is named.
    FetchRequest {
        replica_id: i32 = -1, 0..=14;
        max_wait_ms: i32, 0..;
        min_bytes: i32, 0..;
        max_bytes: i32 = 0x7fff_ffff, 3..;
        /// 1: committed transactions only.
        isolation_level: i8, 4..;
        session_id: i32, 7..;
        session_epoch: i32 = -1, 7..;
        topics: Vec<FetchTopic>, 0..;
        forgotten_topics_data: Vec<ForgottenTopic>, 7..;
        rack_id: Str, 11..;
    } tagged {
        0 cluster_id: Option<Str>, 12..;
        1 replica_state: ReplicaState, 15..;
    }

    /// Which follower asks.
    ReplicaState {
        replica_id: i32 = -1, 15..;
        replica_epoch: i64 = -1, 15..;
    }

    /// Of one topic.
    FetchTopic {
        topic: Str, 0..=12;
        topic_id: Uuid, 13..;
        partitions: Vec<FetchPartition>, 0..;
    }

    /// A position.
    FetchPartition {
        partition: i32, 0..;
        current_leader_epoch: i32 = -1, 9..;
        fetch_offset: i64, 0..;
        last_fetched_epoch: i32 = -1, 12..;
        log_start_offset: i64 = -1, 5..;
        partition_max_bytes: i32, 0..;
    } tagged {
        0 replica_directory_id: Uuid, 17..;
    }

    /// What leaves the session.
    ForgottenTopic {
        topic: Str, 7..=12;
        topic_id: Uuid, 13..;
        partitions: Vec<i32>, 7..;
    }

    /// What was read.
    FetchResponse {
        throttle_time_ms: i32, 1..;
        error_code: i16, 7..;
        session_id: i32, 7..;
        responses: Vec<FetchableTopicResponse>, 0..;
    } tagged {
        0 node_endpoints: Vec<NodeEndpoint>, 16..;
    }

    /// Of one topic.
    FetchableTopicResponse {
        topic: Str, 0..=12;
        topic_id: Uuid, 13..;
        partitions: Vec<PartitionData>, 0..;
    }

    /// Of one partition.
    PartitionData {
        partition_index: i32, 0..;
        error_code: i16, 0..;
        high_watermark: i64, 0..;
        last_stable_offset: i64 = -1, 4..;
        log_start_offset: i64 = -1, 5..;
        /// Null for who reads what is not committed too.
        aborted_transactions: Option<Vec<AbortedTransaction>>, 4..;
        preferred_read_replica: i32 = -1, 11..;
        /// Never null.
        records: Records, 0..;
    } tagged {
        0 diverging_epoch: EpochEndOffset, 12..;
        1 current_leader: LeaderIdAndEpoch, 12..;
        2 snapshot_id: SnapshotId, 12..;
    }

    /// Records of it in the answer are to be dropped.
    AbortedTransaction {
        producer_id: i64, 4..;
        first_offset: i64, 4..;
    }

    /// Where logs part.
    EpochEndOffset {
        epoch: i32 = -1, 12..;
        end_offset: i64 = -1, 12..;
    }

    /// Whom to ask instead.
    LeaderIdAndEpoch {
        leader_id: i32 = -1, 0..;
        leader_epoch: i32 = -1, 0..;
    }

    /// What to load instead.
    SnapshotId {
        end_offset: i64 = -1, 0..;
        epoch: i32 = -1, 0..;
    }

    /// Where a broker is.
    NodeEndpoint {
        node_id: i32, 0..;
        host: Str, 0..;
        port: i32, 0..;
        rack: Option<Str>, 0..;
    }
}

//! The closed set of errors a broker answers with, numbered as Kafka numbers them.
//!
//! One number serves both listeners. What a client does about an error is data here ([`Retry`]), not
//! a match in each client.

/// What a client does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The request can never succeed as it is.
    Never,
    /// The same request to the same broker, after a backoff.
    Backoff,
    /// Fetch metadata, then the same request to whoever leads now.
    RefreshMetadata,
}

macro_rules! error_codes {
    ($( $name:ident = $code:literal, $retry:ident, $text:literal; )*) => {
        /// An error number of the Kafka protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $( #[doc = $text] $name = $code, )*
        }

        impl ErrorCode {
            /// Every code, ascending.
            pub const ALL: &[Self] = &[ $( Self::$name, )* ];

            /// The code of a number; an unknown one is [`ErrorCode::UnknownServerError`].
            pub fn from_code(code: i32) -> Self {
                match code {
                    $( $code => Self::$name, )*
                    _ => Self::UnknownServerError,
                }
            }

            /// What a client does about it.
            pub fn retry(self) -> Retry {
                match self { $( Self::$name => Retry::$retry, )* }
            }

            /// What it means, in lower case and without a full stop.
            pub fn text(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1, Never, "the broker met an error it has no name for";
    OffsetOutOfRange = 1, Never, "the offset is below the log start or above the high watermark";
    CorruptMessage = 2, Backoff, "a batch is malformed or its checksum does not match";
    UnknownTopicOrPartition = 3, RefreshMetadata, "this broker does not host the partition";
    LeaderNotAvailable = 5, RefreshMetadata, "the partition has no leader now";
    NotLeaderOrFollower = 6, RefreshMetadata, "this broker does not lead the partition";
    RequestTimedOut = 7, Backoff, "the request was not done within its time";
    ReplicaNotAvailable = 9, RefreshMetadata, "the broker is no replica of the partition";
    MessageTooLarge = 10, Never, "a batch is larger than the topic's max.message.bytes";
    OffsetMetadataTooLarge = 12, Never, "the metadata of a commit is longer than offset.metadata.max.bytes";
    CoordinatorLoadInProgress = 14, Backoff, "the coordinator of the group is reading its state";
    CoordinatorNotAvailable = 15, Backoff, "no coordinator is active";
    NotCoordinator = 16, RefreshMetadata, "this process is not the coordinator";
    InvalidTopicException = 17, Never, "the topic name or its layout is not valid";
    NotEnoughReplicas = 19, Backoff, "fewer replicas are in sync than min.insync.replicas";
    NotEnoughReplicasAfterAppend = 20, Backoff, "appended, but fewer replicas are in sync than min.insync.replicas";
    InvalidRequiredAcks = 21, Never, "acks is not one of 0, 1, all";
    IllegalGeneration = 22, Never, "the group is in another generation";
    InconsistentGroupProtocol = 23, Never, "the member has no protocol in common with its group";
    InvalidGroupId = 24, Never, "the name is not valid for a group";
    UnknownMemberId = 25, Never, "the group does not know the member";
    InvalidSessionTimeout = 26, Never, "the session timeout is outside the broker's bounds";
    RebalanceInProgress = 27, Backoff, "the group is rebalancing";
    InvalidCommitOffsetSize = 28, Never, "the offsets of a commit do not fit a batch of __consumer_offsets";
    InvalidTimestamp = 32, Never, "a record's timestamp is outside the topic's bounds";
    UnsupportedVersion = 35, Never, "the version of the request is not supported";
    TopicAlreadyExists = 36, Never, "a topic of this name exists";
    InvalidPartitions = 37, Never, "the number of partitions is not valid";
    InvalidReplicationFactor = 38, Never, "the replication factor is not valid for the live brokers";
    InvalidReplicaAssignment = 39, Never, "the replica assignment is not valid";
    InvalidConfig = 40, Never, "a configuration value is not valid";
    NotController = 41, RefreshMetadata, "this process is not the active controller";
    InvalidRequest = 42, Never, "the request contradicts itself or misses a field";
    PolicyViolation = 44, Never, "the request breaks a limit of this cluster";
    OutOfOrderSequenceNumber = 45, Backoff, "a batch of the producer before this one is missing";
    DuplicateSequenceNumber = 46, Never, "the batch was appended before, outside the remembered window";
    InvalidProducerEpoch = 47, Never, "a newer instance of the producer has taken over";
    KafkaStorageError = 56, RefreshMetadata, "the disk of the partition failed or is full";
    UnknownProducerId = 59, Never, "the broker does not remember the producer";
    NonEmptyGroup = 68, Never, "the group has live members";
    GroupIdNotFound = 69, Never, "no group of this name";
    FetchSessionIdNotFound = 70, Backoff, "the fetch handle is not known on this stream";
    InvalidFetchSessionEpoch = 71, Backoff, "the request is not the one that its fetch session awaits";
    FencedLeaderEpoch = 74, RefreshMetadata, "the leader epoch of the request is older than the broker's";
    UnknownLeaderEpoch = 75, RefreshMetadata, "the leader epoch of the request is newer than the broker's";
    UnsupportedCompressionType = 76, Never, "the batch's compression is not supported";
    StaleBrokerEpoch = 77, Backoff, "another run of the broker is registered, or none";
    OffsetNotAvailable = 78, Backoff, "the new leader does not know the high watermark yet";
    MemberIdRequired = 79, Never, "the member is to join again with the id it was given";
    PreferredLeaderNotAvailable = 80, Never, "the preferred leader is not live, or not in sync";
    GroupMaxSizeReached = 81, Never, "the group has as many members as it may have";
    FencedInstanceId = 82, Never, "another member has taken the place of this one";
    EligibleLeadersNotAvailable = 83, Never, "no live replica may lead the partition";
    ElectionNotNeeded = 84, Never, "the partition has the leader that was asked for";
    NoReassignmentInProgress = 85, Never, "the replicas of the partition are not being changed";
    GroupSubscribedToTopic = 86, Never, "members of the group read the topic";
    InvalidRecord = 87, Never, "a record of the batch is not valid";
    ThrottlingQuotaExceeded = 89, Backoff, "a limit of the broker is reached";
    UnknownTopicId = 100, RefreshMetadata, "the topic was deleted, or deleted and created again";
    InconsistentTopicId = 103, RefreshMetadata, "the topic id is not the one registered for this name";
    FetchSessionTopicIdError = 106, Backoff, "the fetch session names topics the other way";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl ErrorCode {
    /// The error as messages carry it.
    pub fn to_message(
        self,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> crate::v1::Error {
        crate::v1::Error {
            code: i32::from(self as i16),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_ascending_and_survive_a_round_trip() {
        let numbers: Vec<i16> = ErrorCode::ALL.iter().map(|&code| code as i16).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(i32::from(code as i16)), code);
        }
        assert_eq!(ErrorCode::from_code(12345), ErrorCode::UnknownServerError);
    }
}

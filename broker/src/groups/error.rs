//! Why a coordinator does not do what was asked.

use proto::ErrorCode;

/// Why a coordinator does not do what was asked. One variant for each thing a client can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GroupError {
    /// The group was deleted under the request, or no offsets partition exists yet.
    #[error("the coordinator of the group is not available; retry after a moment")]
    CoordinatorNotAvailable,
    /// The offsets topic cannot be created yet.
    #[error(
        "__consumer_offsets is created once offsets.topic.replication.factor brokers are live; \
         start them, or set it lower where there are to be fewer"
    )]
    TooFewBrokers,
    /// Another broker leads the group's offsets partition.
    #[error("this broker does not coordinate the group; ask for its coordinator again")]
    NotCoordinator,
    /// The group's offsets partition is being read.
    #[error("the coordinator of the group is reading its state; retry after a moment")]
    CoordinatorLoadInProgress,
    /// The name of the group.
    #[error("the group has no name; set group.id")]
    InvalidGroupId,
    /// Outside `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
    #[error("the session timeout is outside the broker's bounds (group.min.session.timeout.ms)")]
    InvalidSessionTimeout,
    /// No protocol is common to all members.
    #[error("the member has no assignor or no kind of group in common with the others")]
    InconsistentGroupProtocol,
    /// No such member.
    #[error("the group does not know the member: it was silent for too long, or it left")]
    UnknownMemberId,
    /// Another generation.
    #[error("the group is in another generation; join again")]
    IllegalGeneration,
    /// Join again with the id given.
    #[error("join again with the member id given")]
    MemberIdRequired,
    /// A rebalance is on.
    #[error("the group is rebalancing; join again")]
    RebalanceInProgress,
    /// `group.max.size`.
    #[error("the group has as many members as it may have (group.max.size)")]
    GroupMaxSizeReached,
    /// Another process came with the same instance id.
    #[error("another member with the same group.instance.id has taken the place of this one")]
    FencedInstanceId,
    /// `offset.metadata.max.bytes`.
    #[error("the commit's metadata is longer than offset.metadata.max.bytes")]
    OffsetMetadataTooLarge,
    /// No such topic or partition to commit for.
    #[error("the topic or partition does not exist, as far as this broker knows")]
    UnknownTopicOrPartition,
    /// The topic of that name is another one by now.
    #[error("the topic was deleted, or deleted and created again, as far as this broker knows")]
    UnknownTopicId,
    /// A group with members is not deleted.
    #[error("the group has members; stop them first")]
    NonEmptyGroup,
    /// No such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// Members read the topic.
    #[error("members of the group read the topic; stop them first")]
    GroupSubscribedToTopic,
    /// A field contradicts another, or is too long.
    #[error("the request contradicts itself, or names too much at once")]
    InvalidRequest,
    /// A commit does not fit a record batch of the offsets topic.
    #[error(
        "the commit is too large to be stored; look at max.message.bytes of __consumer_offsets"
    )]
    CommitTooLarge,
    /// What is to be stored does not fit a record batch of the offsets topic.
    #[error("the group is too large to be stored; look at max.message.bytes of __consumer_offsets")]
    TooLarge,
}

impl GroupError {
    /// As Kafka numbers it.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::CoordinatorNotAvailable | Self::TooFewBrokers => {
                ErrorCode::CoordinatorNotAvailable
            }
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            Self::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::UnknownMemberId => ErrorCode::UnknownMemberId,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::MemberIdRequired => ErrorCode::MemberIdRequired,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            Self::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
            Self::FencedInstanceId => ErrorCode::FencedInstanceId,
            Self::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
            Self::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId => ErrorCode::UnknownTopicId,
            Self::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            Self::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            Self::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
            Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::CommitTooLarge => ErrorCode::InvalidCommitOffsetSize,
            Self::TooLarge => ErrorCode::UnknownServerError,
        }
    }
}

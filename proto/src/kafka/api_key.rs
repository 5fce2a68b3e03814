//! The table of APIs: number, versions that are defined here, first flexible version, messages.

use std::ops::RangeInclusive;

use super::messages::*;
use super::wire::Request;

macro_rules! apis {
    ($(
        $name:ident = $code:literal, $versions:expr, flexible $flexible:literal,
        $request:ident => $response:ident;
    )*) => {
        /// An API of the Kafka protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $( #[doc = concat!("Versions `", stringify!($versions), "` are defined.")] $name = $code, )*
        }

        impl ApiKey {
            /// Every API that is defined here, ascending.
            pub const ALL: &[Self] = &[ $( Self::$name, )* ];

            /// The API of a number.
            pub fn from_code(code: i16) -> Option<Self> {
                match code {
                    $( $code => Some(Self::$name), )*
                    _ => None,
                }
            }

            /// Versions whose messages are defined; a broker may answer fewer.
            pub fn versions(self) -> RangeInclusive<i16> {
                match self { $( Self::$name => $versions, )* }
            }

            /// The first version with compact lengths and tagged fields.
            fn flexible_from(self) -> i16 {
                match self { $( Self::$name => $flexible, )* }
            }
        }

        $(
            impl Request for $request {
                const KEY: ApiKey = ApiKey::$name;
                type Response = $response;
            }
        )*

        /// Calls `$visit!` with every request.
        #[cfg(test)]
        macro_rules! for_every_request {
            ($visit:ident) => { $( $visit!($name, $request, $response); )* };
        }
        #[cfg(test)]
        pub(crate) use for_every_request;
    };
}

/// No version is flexible.
const NEVER: i16 = i16::MAX;

apis! {
    Produce = 0, 3..=12, flexible 9, ProduceRequest => ProduceResponse;
    Fetch = 1, 4..=17, flexible 12, FetchRequest => FetchResponse;
    ListOffsets = 2, 1..=10, flexible 6, ListOffsetsRequest => ListOffsetsResponse;
    Metadata = 3, 0..=13, flexible 9, MetadataRequest => MetadataResponse;
    OffsetCommit = 8, 2..=9, flexible 8, OffsetCommitRequest => OffsetCommitResponse;
    OffsetFetch = 9, 1..=9, flexible 6, OffsetFetchRequest => OffsetFetchResponse;
    FindCoordinator = 10, 0..=6, flexible 3, FindCoordinatorRequest => FindCoordinatorResponse;
    JoinGroup = 11, 0..=9, flexible 6, JoinGroupRequest => JoinGroupResponse;
    Heartbeat = 12, 0..=4, flexible 4, HeartbeatRequest => HeartbeatResponse;
    LeaveGroup = 13, 0..=5, flexible 4, LeaveGroupRequest => LeaveGroupResponse;
    SyncGroup = 14, 0..=5, flexible 4, SyncGroupRequest => SyncGroupResponse;
    DescribeGroups = 15, 0..=6, flexible 5, DescribeGroupsRequest => DescribeGroupsResponse;
    ListGroups = 16, 0..=5, flexible 3, ListGroupsRequest => ListGroupsResponse;
    ApiVersions = 18, 0..=4, flexible 3, ApiVersionsRequest => ApiVersionsResponse;
    CreateTopics = 19, 2..=7, flexible 5, CreateTopicsRequest => CreateTopicsResponse;
    DeleteTopics = 20, 1..=6, flexible 4, DeleteTopicsRequest => DeleteTopicsResponse;
    DeleteRecords = 21, 0..=2, flexible 2, DeleteRecordsRequest => DeleteRecordsResponse;
    InitProducerId = 22, 0..=5, flexible 2, InitProducerIdRequest => InitProducerIdResponse;
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4, OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse;
    DescribeConfigs = 32, 1..=4, flexible 4, DescribeConfigsRequest => DescribeConfigsResponse;
    AlterConfigs = 33, 0..=2, flexible 2, AlterConfigsRequest => AlterConfigsResponse;
    DescribeLogDirs = 35, 1..=4, flexible 2, DescribeLogDirsRequest => DescribeLogDirsResponse;
    CreatePartitions = 37, 0..=3, flexible 2, CreatePartitionsRequest => CreatePartitionsResponse;
    DeleteGroups = 42, 0..=2, flexible 2, DeleteGroupsRequest => DeleteGroupsResponse;
    ElectLeaders = 43, 0..=2, flexible 2, ElectLeadersRequest => ElectLeadersResponse;
    IncrementalAlterConfigs = 44, 0..=1, flexible 1,
        IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse;
    AlterPartitionReassignments = 45, 0..=0, flexible 0,
        AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse;
    ListPartitionReassignments = 46, 0..=0, flexible 0,
        ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse;
    OffsetDelete = 47, 0..=0, flexible 32767, OffsetDeleteRequest => OffsetDeleteResponse;
    DescribeCluster = 60, 0..=2, flexible 0, DescribeClusterRequest => DescribeClusterResponse;
}

impl ApiKey {
    /// The number on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// Whether a version has compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        self.flexible_from() != NEVER && version >= self.flexible_from()
    }
}

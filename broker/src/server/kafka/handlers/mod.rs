//! One file an API: a message of `proto::kafka` in, calls of `api`, a message out.
//!
//! An error of one item goes into that item's answer; its words go to the log at debug level, since
//! most answers have no room for them.

mod admin;
pub(super) mod alter_configs;
pub(super) mod api_versions;
pub(super) mod create_partitions;
pub(super) mod create_topics;
pub(super) mod delete_groups;
pub(super) mod delete_records;
pub(super) mod delete_topics;
pub(super) mod describe_cluster;
pub(super) mod describe_configs;
pub(super) mod describe_groups;
pub(super) mod describe_log_dirs;
pub(super) mod elect_leaders;
pub(super) mod fetch;
pub(super) mod find_coordinator;
pub(super) mod heartbeat;
pub(super) mod init_producer_id;
pub(super) mod join_group;
pub(super) mod leave_group;
pub(super) mod list_groups;
pub(super) mod list_offsets;
pub(super) mod metadata;
pub(super) mod offset_commit;
pub(super) mod offset_delete;
pub(super) mod offset_fetch;
pub(super) mod offset_for_leader_epoch;
pub(super) mod produce;
pub(super) mod reassignments;
pub(super) mod sync_group;

use proto::ErrorCode;

use super::context::Context;
use super::dispatch::{ADVERTISED, Answer, Work};
use super::fetching;
use super::leader_hints::LeaderHints;
use super::outgoing::Outgoing;
use crate::api::Refusal;
use crate::api::groups::GroupError;

/// No error.
const NONE: i16 = 0;

/// The number of an error, which is told to the log in full.
pub(super) fn code(refusal: &Refusal) -> i16 {
    tracing::debug!(code = ?refusal.code, cause = %refusal.message, "refused");
    refusal.code as i16
}

/// What a client that knows topics by their names only is told where the topic here is not the one that
/// its name stands for: there is none.
pub(super) fn by_name(refusal: Refusal) -> Refusal {
    match refusal.code {
        ErrorCode::UnknownTopicId => {
            Refusal { code: ErrorCode::UnknownTopicOrPartition, ..refusal }
        }
        _ => refusal,
    }
}

/// The number of what a coordinator refuses with.
fn group_code(error: GroupError) -> i16 {
    tracing::debug!(code = ?error.code(), %error, "refused");
    error.code() as i16
}

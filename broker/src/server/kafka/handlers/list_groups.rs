//! ListGroups: the groups that this broker coordinates.

use proto::kafka::Str;
use proto::kafka::messages::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::{Context, group_code};
use crate::api::groups::Listing;

/// The type of all groups here: members assign partitions among themselves.
const CLASSIC: &str = "classic";

pub(in super::super) async fn list_groups(
    context: Context,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let outcome = match context.services.api.groups() {
        Ok(groups) => groups.list().await,
        Err(error) => Err(error),
    };
    let listed = match outcome {
        Ok(listed) => listed,
        Err(error) => {
            return ListGroupsResponse { error_code: group_code(error), ..Default::default() };
        }
    };
    let admits = |filter: &[Str], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let is_wanted = |one: &Listing| {
        admits(&request.states_filter, one.state) && admits(&request.types_filter, CLASSIC)
    };
    let group = |one: Listing| ListedGroup {
        group_id: one.group,
        protocol_type: one.protocol_type,
        group_state: one.state.into(),
        group_type: CLASSIC.into(),
    };
    let groups = listed.into_iter().filter(is_wanted).map(group).collect();
    ListGroupsResponse { groups, ..Default::default() }
}

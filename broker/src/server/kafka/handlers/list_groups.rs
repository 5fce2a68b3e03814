//! ListGroups: the groups that this broker coordinates.

use proto::kafka::messages::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::{Context, group_code};
use crate::api::groups::Listing;

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
    let states = &request.states_filter;
    let is_wanted = |one: &Listing| {
        states.is_empty() || states.iter().any(|state| state.eq_ignore_ascii_case(one.state))
    };
    let group = |one: Listing| ListedGroup {
        group_id: one.group,
        protocol_type: one.protocol_type,
        group_state: one.state.into(),
    };
    let groups = listed.into_iter().filter(is_wanted).map(group).collect();
    ListGroupsResponse { groups, ..Default::default() }
}

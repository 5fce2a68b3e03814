//! DeleteGroups: groups without members go, with their offsets.

use std::sync::Arc;

use proto::kafka::messages::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};

use super::{Context, NONE, group_code};

pub(in super::super) async fn delete_groups(
    context: Context,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut answer = DeleteGroupsResponse::default();
    for group_id in request.groups_names {
        let outcome = match context.services.api.groups() {
            Ok(groups) => groups.delete(Arc::clone(&group_id)).await,
            Err(error) => Err(error),
        };
        let error_code = outcome.map_or_else(group_code, |()| NONE);
        answer.results.push(DeletableGroupResult { group_id, error_code });
    }
    answer
}

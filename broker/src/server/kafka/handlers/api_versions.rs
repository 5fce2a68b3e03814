//! ApiVersions: what is in the dispatcher's table.
//!
//! No features are told: clients that see `transaction.version` would use what is not there.

use proto::ErrorCode;
use proto::kafka::ApiKey;
use proto::kafka::messages::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};

use super::{ADVERTISED, Context};

pub(in super::super) async fn api_versions(
    context: Context,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    if context.version >= 3 {
        tracing::debug!(
            peer = %context.peer.address,
            client_id = context.client_id(),
            software = &*request.client_software_name,
            version = &*request.client_software_version,
            "a client introduces itself"
        );
    }
    ApiVersionsResponse { api_keys: ranges(|_| true), ..ApiVersionsResponse::default() }
}

/// The answer, in version 0, to a version that is not known: the client asks again with one that is.
pub(in super::super) fn too_new() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion as i16,
        api_keys: ranges(|api| api == ApiKey::ApiVersions),
        ..ApiVersionsResponse::default()
    }
}

fn ranges(wanted: impl Fn(ApiKey) -> bool) -> Vec<ApiVersion> {
    let mut ranges: Vec<ApiVersion> = ADVERTISED
        .iter()
        .filter(|(api, _)| wanted(*api))
        .map(|(api, versions)| ApiVersion {
            api_key: api.code(),
            min_version: *versions.start(),
            max_version: *versions.end(),
        })
        .collect();
    ranges.sort_by_key(|range| range.api_key);
    ranges
}

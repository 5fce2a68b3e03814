//! ApiVersions: which versions of which APIs a broker answers.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    ApiVersionsRequest {
        client_software_name: Str, 3..;
        client_software_version: Str, 3..;
    }

    /// Answers.
    ApiVersionsResponse {
        error_code: i16, 0..;
        api_keys: Vec<ApiVersion>, 0..;
        throttle_time_ms: i32, 1..;
    } tagged {
        0 supported_features: Vec<SupportedFeatureKey>, 3..;
        1 finalized_features_epoch: i64 = -1, 3..;
        2 finalized_features: Vec<FinalizedFeatureKey>, 3..;
        3 zk_migration_ready: bool, 3..;
    }

    /// Of one API.
    ApiVersion {
        api_key: i16, 0..;
        min_version: i16, 0..;
        max_version: i16, 0..;
    }

    /// A feature the broker could have.
    SupportedFeatureKey {
        name: Str, 3..;
        min_version: i16, 3..;
        max_version: i16, 3..;
    }

    /// A feature the cluster has.
    FinalizedFeatureKey {
        name: Str, 3..;
        max_version_level: i16, 3..;
        min_version_level: i16, 3..;
    }
}

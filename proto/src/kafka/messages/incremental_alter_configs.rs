//! IncrementalAlterConfigs: single settings of a resource.

use super::alter_configs::AlterConfigsResourceResponse;
use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    IncrementalAlterConfigsRequest {
        resources: Vec<IncrementalAlterConfigsResource>, 0..;
        validate_only: bool, 0..;
    }

    /// A topic (2) or a broker (4).
    IncrementalAlterConfigsResource {
        resource_type: i8, 0..;
        resource_name: Str, 0..;
        configs: Vec<IncrementalAlterableConfig>, 0..;
    }

    /// One setting.
    IncrementalAlterableConfig {
        name: Str, 0..;
        /// 0: set, 1: delete, 2: append to a list, 3: take from a list.
        config_operation: i8, 0..;
        value: Option<Str>, 0..;
    }

    /// Answers.
    IncrementalAlterConfigsResponse {
        throttle_time_ms: i32, 0..;
        responses: Vec<AlterConfigsResourceResponse>, 0..;
    }
}

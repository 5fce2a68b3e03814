//! AlterConfigs: all settings of a resource at once.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    AlterConfigsRequest {
        resources: Vec<AlterConfigsResource>, 0..;
        validate_only: bool, 0..;
    }

    /// A topic (2) or a broker (4): what is not named goes back to its default.
    AlterConfigsResource {
        resource_type: i8, 0..;
        resource_name: Str, 0..;
        configs: Vec<AlterableConfig>, 0..;
    }

    /// One setting.
    AlterableConfig {
        name: Str, 0..;
        value: Option<Str>, 0..;
    }

    /// Answers.
    AlterConfigsResponse {
        throttle_time_ms: i32, 0..;
        responses: Vec<AlterConfigsResourceResponse>, 0..;
    }

    /// Of one resource.
    AlterConfigsResourceResponse {
        error_code: i16, 0..;
        error_message: Option<Str>, 0..;
        resource_type: i8, 0..;
        resource_name: Str, 0..;
    }
}

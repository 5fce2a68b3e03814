//! DescribeConfigs: settings of topics and brokers, and where they come from.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>, 0..;
        include_synonyms: bool, 1..;
        include_documentation: bool, 3..;
    }

    /// A topic (2) or a broker (4).
    DescribeConfigsResource {
        resource_type: i8, 0..;
        resource_name: Str, 0..;
        /// Null: all.
        configuration_keys: Option<Vec<Str>>, 0..;
    }

    /// Answers.
    DescribeConfigsResponse {
        throttle_time_ms: i32, 0..;
        results: Vec<DescribeConfigsResult>, 0..;
    }

    /// Of one resource.
    DescribeConfigsResult {
        error_code: i16, 0..;
        error_message: Option<Str>, 0..;
        resource_type: i8, 0..;
        resource_name: Str, 0..;
        configs: Vec<DescribeConfigsResourceResult>, 0..;
    }

    /// One setting.
    DescribeConfigsResourceResult {
        name: Str, 0..;
        value: Option<Str>, 0..;
        read_only: bool, 0..;
        config_source: i8 = -1, 1..;
        is_sensitive: bool, 0..;
        synonyms: Vec<DescribeConfigsSynonym>, 1..;
        config_type: i8, 3..;
        documentation: Option<Str>, 3..;
    }

    /// Where else the value could come from.
    DescribeConfigsSynonym {
        name: Str, 1..;
        value: Option<Str>, 1..;
        source: i8, 1..;
    }
}

//! DeleteTopics.

use uuid::Uuid;

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks: by name, from version 6 on by name or id.
    DeleteTopicsRequest {
        topics: Vec<DeleteTopicState>, 6..;
        topic_names: Vec<Str>, 0..=5;
        timeout_ms: i32, 0..;
    }

    /// One topic.
    DeleteTopicState {
        name: Option<Str>, 6..;
        topic_id: Uuid, 6..;
    }

    /// Answers.
    DeleteTopicsResponse {
        throttle_time_ms: i32, 1..;
        responses: Vec<DeletableTopicResult>, 0..;
    }

    /// Of one topic.
    DeletableTopicResult {
        name: Option<Str>, 0.., null 6..;
        topic_id: Uuid, 6..;
        error_code: i16, 0..;
        error_message: Option<Str>, 5..;
    }
}

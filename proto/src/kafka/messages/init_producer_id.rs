//! InitProducerId: a number for an idempotent producer.

use crate::kafka::Str;
use crate::kafka::message::messages;

messages! {
    /// Asks.
    InitProducerIdRequest {
        /// Null: idempotent only.
        transactional_id: Option<Str>, 0..;
        transaction_timeout_ms: i32, 0..;
        producer_id: i64 = -1, 3..;
        producer_epoch: i16 = -1, 3..;
    }

    /// Answers.
    InitProducerIdResponse {
        throttle_time_ms: i32, 0..;
        error_code: i16, 0..;
        producer_id: i64 = -1, 0..;
        producer_epoch: i16, 0..;
    }
}

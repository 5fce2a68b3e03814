//! InitProducerId: a fresh id for an idempotent producer. Transactions are not served.

use proto::ErrorCode;
use proto::kafka::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Context, code};

pub(in super::super) async fn init_producer_id(
    context: Context,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused = |error_code| InitProducerIdResponse {
        error_code,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    if request.transactional_id.is_some() {
        return refused(ErrorCode::InvalidRequest as i16);
    }
    // An id of its own in the request is a producer's that begins anew: it gets another one.
    match context.services.api.init_producer_id(context.client_id()).await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, ..Default::default() },
        Err(refusal) => refused(code(&refusal)),
    }
}

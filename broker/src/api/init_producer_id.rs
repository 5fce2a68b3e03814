//! InitProducerId: a number no other producer has.

use proto::{ErrorCode, ProducerId};

use super::{Api, Refusal};

impl Api {
    /// A new producer id, from this broker's block.
    pub async fn init_producer_id(&self, client_id: &str) -> Result<ProducerId, Refusal> {
        let id = self.producer_ids.next().await.map_err(|error| {
            Refusal::new(
                ErrorCode::CoordinatorNotAvailable,
                format!("no producer id can be given out: {error}"),
                "retry after a moment; if it repeats, look at ZooKeeper",
            )
        })?;
        tracing::debug!(client_id, producer_id = id, "producer id given out");
        Ok(id)
    }
}

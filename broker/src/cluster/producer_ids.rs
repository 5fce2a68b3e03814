//! Blocks of producer ids, taken from the registry. While the registry is away the rest of the
//! present block is given out.

use std::ops::Range;
use std::time::Duration;

use coordinator::registry::{RegistryError, producer_ids};
use coordinator::zk::{Closed, Session};
use proto::ProducerId;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

/// How long a client waits for a new block.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no id.
#[derive(Debug, thiserror::Error)]
pub enum ProducerIdError {
    /// No answer in time.
    #[error("the registry (ZooKeeper) did not answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// This broker is stopping.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Gives out producer ids.
pub struct ProducerIds {
    block: Mutex<Range<ProducerId>>,
    source: Source,
}

enum Source {
    /// The registry, asked on the control thread.
    Registry(Session, Handle),
    /// A fixed supply (tests).
    #[cfg(test)]
    Fixed,
}

impl ProducerIds {
    /// Ids from the registry; `control` is the runtime that the session lives on.
    pub fn new(session: Session, control: Handle) -> Self {
        Self { block: Mutex::new(0..0), source: Source::Registry(session, control) }
    }

    /// Ids from 0 on, without a registry.
    #[cfg(test)]
    pub(crate) fn fixed() -> Self {
        Self { block: Mutex::new(0..ProducerId::MAX), source: Source::Fixed }
    }

    /// The next id.
    pub async fn next(&self) -> Result<ProducerId, ProducerIdError> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = self.take_block().await?;
        }
        let id = block.start;
        block.start += 1;
        Ok(id)
    }

    /// Makes sure that a block is there before the registry may go away.
    pub async fn prefetch(&self) {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            match self.take_block().await {
                Ok(taken) => *block = taken,
                Err(error) => tracing::debug!(%error, "no block of producer ids yet"),
            }
        }
    }

    async fn take_block(&self) -> Result<Range<ProducerId>, ProducerIdError> {
        let (session, control) = match &self.source {
            Source::Registry(session, control) => (session.clone(), control),
            #[cfg(test)]
            Source::Fixed => return Err(ProducerIdError::TimedOut),
        };
        // A task of its own: when the client goes away the request is finished all the same.
        let taking = control.spawn(async move {
            let live = session.live().await?;
            let block = producer_ids::take_block(&live.client, producer_ids::BLOCK_SIZE).await?;
            Ok::<_, ProducerIdError>(block)
        });
        match tokio::time::timeout(PATIENCE, taking).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(_)) | Err(_) => Err(ProducerIdError::TimedOut),
        }
    }
}

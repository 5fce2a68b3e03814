//! Leaving in order: the controller is asked to take away what this broker leads, while it still
//! serves, so that clients and followers find the next leaders before this one is gone.

use std::time::Duration;

use proto::{BrokerId, v1};
use tokio::time::Instant;
use uuid::Uuid;

use super::controller_link::ControllerLink;
use super::metadata::ClusterImage;

/// The longest that a stop waits for the controller.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest that it waits for a controller that cannot be reached.
const PATIENCE_WITHOUT: Duration = Duration::from_secs(2);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether there is anything that another broker could take over.
pub(super) fn is_worth_asking(image: &ClusterImage, me: BrokerId) -> bool {
    let others = |ids: &[BrokerId]| {
        ids.contains(&me) && ids.iter().any(|id| *id != me && image.brokers.contains_key(id))
    };
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    partitions.into_iter().any(|state| others(&state.replicas) && state.isr.contains(&me))
}

/// Asks until nothing remains that could move, or until it has taken too long. `stop_following` is
/// called once the controller has taken this broker out of the ISRs: leaders would count in again
/// who goes on fetching.
pub(super) async fn leave(
    me: BrokerId,
    incarnation: Uuid,
    controller: &ControllerLink,
    mut stop_following: impl AsyncFnMut(),
) {
    let began = Instant::now();
    let request = v1::ControlledShutdownRequest {
        broker_id: me.0,
        incarnation: bytes::Bytes::copy_from_slice(incarnation.as_bytes()),
    };
    let mut remaining = usize::MAX;
    let mut asked = 0;
    while began.elapsed() < PATIENCE {
        let left = PATIENCE.saturating_sub(began.elapsed());
        let asking = controller.controlled_shutdown(request.clone());
        match tokio::time::timeout(left, asking).await {
            Ok(Ok(still_led)) => {
                asked += 1;
                let count = still_led.iter().map(|topic| topic.partitions.len()).sum();
                if asked == 1 {
                    stop_following().await;
                    remaining = count;
                    continue;
                }
                if count == 0 || count >= remaining {
                    let took = began.elapsed();
                    tracing::info!(?took, remaining = count, "leadership handed over");
                    return;
                }
                remaining = count;
            }
            Ok(Err(error)) if asked == 0 && began.elapsed() >= PATIENCE_WITHOUT => {
                tracing::warn!(
                    %error,
                    "no controller takes over what this broker leads; it is elected anew when this \
                     broker is gone"
                );
                return;
            }
            Ok(Err(error)) => tracing::debug!(%error, "asking the controller again"),
            Err(_) => break,
        }
        tokio::time::sleep(PAUSE).await;
    }
    tracing::warn!(remaining, "the controller took too long; stopping all the same");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::{LeaderEpoch, TopicId};

    use super::*;
    use crate::cluster::metadata::{BrokerImage, PartitionImage, TopicImage};

    #[test]
    fn only_what_a_live_replica_could_take_over_is_worth_a_question() {
        let (me, other) = (BrokerId(1), BrokerId(2));
        let state = |replicas: &[BrokerId]| PartitionImage {
            leader: Some(me),
            leader_epoch: LeaderEpoch(0),
            replicas: replicas.to_vec(),
            isr: replicas.to_vec(),
            electable: Vec::new(),
            adding: Vec::new(),
            version: 0,
        };
        let mut image = ClusterImage::default();
        let mut topic = TopicImage {
            name: "t".into(),
            id: TopicId(Uuid::from_u128(1)),
            partitions: vec![state(&[me])],
            throttle: None,
        };
        image.topics.insert("t".into(), Arc::new(topic.clone()));
        assert!(!is_worth_asking(&image, me));
        topic.partitions.push(state(&[me, other]));
        image.topics.insert("t".into(), Arc::new(topic));
        assert!(!is_worth_asking(&image, me), "the other is not live");
        let broker = BrokerImage {
            id: other,
            host: String::new(),
            grpc_port: 1,
            kafka: Vec::new(),
            rack: String::new(),
            incarnation: Uuid::nil(),
        };
        image.brokers = Arc::new([(other, broker)].into());
        assert!(is_worth_asking(&image, me));
        assert!(!is_worth_asking(&image, BrokerId(3)));
    }
}

//! Tells the active controller which partitions' states this broker has written, so that it reads
//! them and tells everybody: coalesced, and sent again until it is acknowledged.
//!
//! A controller that takes over reads everything, so nothing is lost with the one that was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::{BrokerId, TopicId, TopicPartition, v1};
use tokio::sync::Notify;

use super::controller_link::ControllerLink;

/// Partitions in one message.
const PARTITIONS_MAX: usize = 5_000;
/// Before a message is sent again: at first, and after many failures.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);
/// An answer that takes longer is not waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

type Changed = BTreeMap<(Arc<str>, TopicId), BTreeSet<i32>>;

/// What the controller is still to be told; bounded by the partitions there are.
#[derive(Default)]
pub(super) struct StatesChanged {
    pending: Mutex<Changed>,
    noted: Notify,
}

impl StatesChanged {
    /// The state of a partition was written.
    pub(super) fn note(&self, name: &TopicPartition, id: TopicId) {
        let of = (Arc::clone(&name.topic), id);
        self.pending.lock().entry(of).or_default().insert(name.partition);
        self.noted.notify_one();
    }

    /// Takes what goes into one message.
    fn take(&self) -> Changed {
        let mut pending = self.pending.lock();
        let mut taken = Changed::new();
        let mut room = PARTITIONS_MAX;
        while room > 0 {
            let Some((of, mut partitions)) = pending.pop_first() else { break };
            if partitions.len() > room {
                let rest: Vec<i32> = partitions.iter().copied().skip(room).collect();
                let rest = partitions.split_off(rest.first().unwrap_or(&i32::MAX));
                pending.insert(of.clone(), rest);
            }
            room -= partitions.len();
            taken.insert(of, partitions);
        }
        taken
    }

    fn put_back(&self, taken: Changed) {
        let mut pending = self.pending.lock();
        for (of, partitions) in taken {
            pending.entry(of).or_default().extend(partitions);
        }
    }

    /// Tells the controller, for as long as it is polled.
    pub(super) async fn tell(&self, me: BrokerId, controller: &ControllerLink) {
        let mut pause = RETRY_FIRST;
        loop {
            let taken = self.take();
            if taken.is_empty() {
                self.noted.notified().await;
                continue;
            }
            let telling = controller.states_changed(message(me, &taken));
            match tokio::time::timeout(ANSWER_WITHIN, telling).await {
                Ok(Ok(())) => {
                    pause = RETRY_FIRST;
                    continue;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the controller is not told of changed states yet");
                }
                Err(_) => tracing::debug!("the controller does not answer"),
            }
            self.put_back(taken);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
    }
}

fn message(me: BrokerId, taken: &Changed) -> v1::StatesChangedRequest {
    let changed = taken.iter().map(|((topic, id), partitions)| v1::TopicPartitions {
        topic: topic.to_string(),
        topic_id: id.to_bytes(),
        partitions: partitions.iter().copied().collect(),
    });
    v1::StatesChangedRequest { broker_id: me.0, changed: changed.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> TopicId {
        TopicId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn what_changes_again_is_told_once_and_what_failed_is_kept() {
        let changed = StatesChanged::default();
        for partition in [3, 1, 3] {
            changed.note(&TopicPartition::new("t", partition), id(1));
        }
        changed.note(&TopicPartition::new("t", 1), id(2));
        let taken = changed.take();
        let told = message(BrokerId(7), &taken).changed;
        assert_eq!(told.len(), 2);
        assert_eq!(told[0].partitions, [1, 3]);
        assert!(changed.take().is_empty());
        changed.note(&TopicPartition::new("t", 9), id(1));
        changed.put_back(taken);
        assert_eq!(message(BrokerId(7), &changed.take()).changed[0].partitions, [1, 3, 9]);
    }

    #[test]
    fn one_message_is_bounded() {
        let changed = StatesChanged::default();
        for partition in 0..PARTITIONS_MAX as i32 + 10 {
            changed.note(&TopicPartition::new("t", partition), id(1));
        }
        let count = |taken: Changed| taken.values().map(BTreeSet::len).sum::<usize>();
        assert_eq!(count(changed.take()), PARTITIONS_MAX);
        assert_eq!(count(changed.take()), 10);
        assert!(changed.take().is_empty());
    }
}

//! Logs that went offline or were found damaged while this broker runs: others take over. What is
//! offline is then opened anew from what is really on the disk; what is damaged is cut and fetched
//! again ([`super::roles`]).

use std::sync::Arc;

use coordinator::zk::Client;
use proto::{TopicId, TopicPartition};

use super::blocking;
use super::losses::LostReplica;
use super::metadata::ClusterImage;
use super::settle::{Settler, States};
use crate::storage::Loss;

impl Settler {
    /// Has others take over what went offline here, where there are others; true when something
    /// changed. Until that is certain the log is not opened anew.
    pub(super) async fn hand_over_offline(&mut self, client: Option<&Client>) -> bool {
        let offline = self.partitions.offline();
        let is_offline = |of: &(TopicPartition, TopicId)| {
            offline.iter().any(|p| *p.name() == of.0 && p.topic_id() == of.1)
        };
        self.handed_over.retain(is_offline);
        let image = self.metadata.image();
        let mut lost = Vec::new();
        for partition in &offline {
            let of = (partition.name().clone(), partition.topic_id());
            let replicas = image.partition(&of.0, of.1).map_or(1, |state| state.replicas.len());
            if replicas < 2 {
                self.handed_over.insert(of);
            } else if !self.handed_over.contains(&of) {
                lost.push(LostReplica::offline(partition, replicas));
            }
        }
        let damaged = self.damaged_and_counted(&image);
        lost.extend(damaged.iter().cloned());
        let Some(client) = client.filter(|_| !lost.is_empty()) else { return false };
        let of: Vec<_> = lost.iter().map(|lost| (lost.name.clone(), lost.id)).collect();
        match self.take_out(client, &States::new(), lost).await {
            Ok(()) => {
                for LostReplica { name, id, .. } in damaged {
                    // Has it followed anew, which cuts the damage off.
                    self.roles.remove(&(name, id));
                }
                self.handed_over.extend(of);
            }
            Err(error) => tracing::warn!(%error, "what is offline here is not handed over yet"),
        }
        true
    }

    /// Damaged replicas that count, where others count, too.
    fn damaged_and_counted(&self, image: &ClusterImage) -> Vec<LostReplica> {
        let all = self.partitions.all();
        let damaged = all.iter().filter_map(|partition| {
            let log = partition.log();
            let from = log.damaged().iter().map(|range| range.from).min()?;
            let state = image.partition(partition.name(), partition.topic_id())?;
            let mut counted = state.isr.iter().chain(&state.electable);
            let counts = counted.clone().any(|id| *id == self.me);
            if log.offline().is_some() || !counts || counted.all(|id| *id == self.me) {
                return None;
            }
            Some(LostReplica {
                name: partition.name().clone(),
                id: partition.topic_id(),
                replicas: state.replicas.len(),
                is_whole: false,
                cause: Loss::Damaged(from).to_string(),
            })
        });
        damaged.collect()
    }

    /// Opens offline partitions anew; true when one came back and is to be led again.
    pub(super) async fn reopen_offline(&mut self) -> bool {
        let mut offline = self.partitions.offline();
        offline.retain(|partition| {
            self.handed_over.contains(&(partition.name().clone(), partition.topic_id()))
        });
        if offline.is_empty() {
            return false;
        }
        for partition in &offline {
            self.roles.remove(&(partition.name().clone(), partition.topic_id()));
        }
        let (partitions, fetchers) = (Arc::clone(&self.partitions), Arc::clone(&self.fetchers));
        let reopening = blocking::run(move || {
            let mut any = false;
            for partition in offline {
                fetchers.stop(partition.name());
                match partitions.reopen(partition.name(), partition.topic_id()) {
                    Ok(()) => {
                        tracing::warn!(partition = %partition.name(), "opened anew and checked");
                        any = true;
                    }
                    Err(error) => {
                        tracing::warn!(partition = %partition.name(), %error, "still offline");
                    }
                }
            }
            any
        });
        reopening.await.unwrap_or(false)
    }
}

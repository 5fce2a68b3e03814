//! The offsets partitions that this broker leads: each is read when its leadership begins, served
//! once all that was read is committed, and let go when another broker leads.
//!
//! Two things tell who leads: the partition as it is stored here, and the cluster's picture, which
//! is the first to know of a new leader. Either ends a leadership, and whoever waits in its groups is told
//! at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::Partition as PartitionNumber;

use super::GroupError;
use super::classic::Effects;
use super::command::Event;
use super::coordinator::{Coordinator, moment};
use super::loading::{LoadError, Loaded};
use super::shard::{Slot, Stage};

/// How long until a partition is looked at again that is not led yet, or not committed, or has
/// records whose fate is not known.
pub(super) const RECHECK: Duration = Duration::from_millis(50);

impl Coordinator {
    /// A partition was read, or was not.
    pub(super) fn loaded(
        &mut self,
        partition: PartitionNumber,
        number: u64,
        outcome: Result<Loaded, LoadError>,
    ) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        if slot.number != number {
            return;
        }
        match outcome {
            Ok(loaded) => {
                let (groups, end) = (loaded.groups.len(), loaded.end);
                let (unreadable, ms) = (loaded.unreadable, loaded.took.as_millis());
                tracing::info!(partition, groups, %end, unreadable, ms, "groups read");
                self.counters.loads += 1;
                self.counters.load_time += loaded.took;
                self.counters.load_time_max = self.counters.load_time_max.max(loaded.took);
                slot.stage = Stage::Committing(Box::new(loaded));
                self.recheck = Some(Instant::now());
                self.begin_loaded();
            }
            Err(error) => {
                tracing::error!(partition, %error, "groups cannot be read");
                self.slots.remove(&partition);
            }
        }
    }

    /// Looks at what was read and waits for being committed.
    fn begin_loaded(&mut self) {
        self.recheck = None;
        self.settle_unsure();
        let now = moment();
        let mut begun = Vec::new();
        for (number, slot) in &mut self.slots {
            if slot.begin(&self.limits, now) {
                begun.push(*number);
            } else if matches!(slot.stage, Stage::Committing(_)) {
                self.recheck = Some(now.at + RECHECK);
            }
        }
        for partition in begun {
            let Some(Ok(shard)) = self.slots.get_mut(&partition).map(Slot::shard) else { continue };
            let ids: Vec<Arc<str>> = shard.groups.keys().cloned().collect();
            self.groups += ids.len();
            for id in &ids {
                self.count(partition, id);
                self.set_timer(partition, id);
            }
        }
    }

    /// Lets go of what this broker does not lead any more, and reads what it leads now.
    pub(super) fn look_at_roles(&mut self) {
        let lost = self.slots.iter().filter(|(_, slot)| !slot.is_led());
        let lost: Vec<PartitionNumber> = lost.map(|(number, _)| *number).collect();
        lost.into_iter().for_each(|number| self.unload(number));
        let mut is_unsettled = false;
        for number in 0..self.topic.partition_count() {
            // Refusals are told to who asks.
            let is_led = self.slot(number).is_ok();
            is_unsettled |= !is_led && self.topic.leader_of(number) == Some(self.me);
        }
        self.begin_loaded();
        if is_unsettled {
            // The partition takes up its role after the news of it.
            self.recheck = self.recheck.or(Some(Instant::now() + RECHECK));
        }
    }

    /// The partition in its present leadership; begins to read it where that is new.
    pub(super) fn slot(&mut self, number: PartitionNumber) -> Result<&mut Slot, GroupError> {
        let led = self.topic.led(&self.partitions, number);
        let held = self.slots.get(&number).map(|slot| (slot.epoch, Arc::clone(&slot.partition)));
        let is_held = match (&held, &led) {
            (Some((held_epoch, held)), Some((epoch, led))) => {
                held_epoch == epoch && Arc::ptr_eq(held, led)
            }
            _ => false,
        };
        if held.is_some() && !is_held {
            self.unload(number);
        }
        let Some((epoch, partition)) = led else { return Err(GroupError::NotCoordinator) };
        if !is_held {
            self.next_number += 1;
            let slot = Slot { number: self.next_number, epoch, partition, stage: Stage::Loading };
            self.begin_to_read(number, &slot);
            self.slots.insert(number, slot);
        }
        self.slots.get_mut(&number).ok_or(GroupError::NotCoordinator)
    }

    fn begin_to_read(&self, number: PartitionNumber, slot: &Slot) {
        let (partition, epoch) = (Arc::clone(&slot.partition), slot.epoch);
        let (of, buffer) = (slot.number, self.config.load_buffer_bytes);
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let outcome = super::loading::load(&partition, epoch, buffer);
            let _ = events.send(Event::Loaded(number, of, outcome));
        });
    }

    /// Another broker coordinates these groups: everybody who waits is told.
    pub(super) fn unload(&mut self, number: PartitionNumber) {
        let Some(mut slot) = self.slots.remove(&number) else { return };
        let Ok(shard) = slot.shard() else { return };
        let groups = std::mem::take(&mut shard.groups);
        let queued = std::mem::take(&mut shard.queued);
        for write in queued {
            self.fail(write.completion, GroupError::NotCoordinator);
        }
        for (id, mut entry) in groups {
            self.dropped(number, &id, &entry);
            let mut out = Effects::new();
            entry.group.close(GroupError::NotCoordinator, moment(), &mut out);
            self.answer(out);
        }
        tracing::info!(partition = number, "groups are another broker's now");
    }
}

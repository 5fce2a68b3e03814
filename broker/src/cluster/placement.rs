//! What this broker has to do so that what it stores agrees with what the cluster decided. Pure.

use proto::{BrokerId, LeaderEpoch, TopicId, TopicPartition};

use super::metadata::ClusterImage;

/// A partition as it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    /// Its name.
    pub(super) name: TopicPartition,
    /// Of its topic.
    pub(super) id: TopicId,
    /// The epoch this broker leads it in.
    pub(super) leading: Option<LeaderEpoch>,
    /// Served, or only lying on disk.
    pub(super) served: bool,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Its topic was deleted.
    Delete(TopicPartition, TopicId),
    /// Nobody knows its topic, or the name belongs to another topic now: keep it for a person.
    SetAside(TopicPartition, TopicId),
    /// Store and serve it.
    Open(TopicPartition, TopicId),
    /// Another broker leads, or nobody.
    StopLeading(TopicPartition, TopicId),
    /// This broker is the recorded leader in this epoch and does not lead in it yet.
    Lead(TopicPartition, TopicId, LeaderEpoch),
}

/// Compares. `deleted` are topics whose deletion was accepted: their partitions are deleted, while
/// those of topics that are merely unknown are set aside. Removals come first, since a name may be
/// taken again.
pub(super) fn plan(
    image: &ClusterImage,
    here: &[Here],
    deleted: &[(std::sync::Arc<str>, TopicId)],
    me: BrokerId,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for Here { name, id, .. } in here {
        if deleted.iter().any(|(topic, deleted)| *topic == name.topic && deleted == id) {
            actions.push(Action::Delete(name.clone(), *id));
        } else if image.topics.get(&name.topic).is_none_or(|topic| topic.id != *id) {
            actions.push(Action::SetAside(name.clone(), *id));
        }
    }
    let here: std::collections::HashMap<(&TopicPartition, TopicId), &Here> =
        here.iter().map(|here| ((&here.name, here.id), here)).collect();
    for topic in image.topics.values() {
        for (number, state) in topic.partitions.iter().enumerate() {
            if !state.replicas.contains(&me) {
                continue;
            }
            let name = TopicPartition::new(std::sync::Arc::clone(&topic.name), number as i32);
            let known = here.get(&(&name, topic.id));
            if !known.is_some_and(|known| known.served) {
                actions.push(Action::Open(name.clone(), topic.id));
            }
            let leading = known.and_then(|known| known.leading);
            if state.leader == Some(me) {
                if leading.is_none_or(|epoch| epoch < state.leader_epoch) {
                    actions.push(Action::Lead(name, topic.id, state.leader_epoch));
                }
            } else if leading.is_some() {
                actions.push(Action::StopLeading(name, topic.id));
            }
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::metadata::{PartitionImage, TopicImage};

    const ME: BrokerId = BrokerId(1);
    const OTHER: BrokerId = BrokerId(2);

    fn id(number: u128) -> TopicId {
        TopicId(uuid::Uuid::from_u128(number))
    }

    fn image(leaders: &[(BrokerId, i32)]) -> ClusterImage {
        let partitions = leaders
            .iter()
            .map(|&(leader, epoch)| PartitionImage {
                leader: Some(leader),
                leader_epoch: LeaderEpoch(epoch),
                replicas: vec![leader],
                isr: vec![leader],
                electable: Vec::new(),
                version: 0,
            })
            .collect();
        let topic = TopicImage { name: "t".into(), id: id(1), partitions };
        let mut image = ClusterImage::default();
        image.topics.insert("t".into(), Arc::new(topic));
        image
    }

    fn name(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn here(partition: i32, topic: u128, leading: Option<i32>) -> Here {
        let leading = leading.map(LeaderEpoch);
        Here { name: name(partition), id: id(topic), leading, served: true }
    }

    #[test]
    fn own_partitions_are_opened_and_led_and_others_are_left_alone() {
        let actions = plan(&image(&[(ME, 0), (OTHER, 0)]), &[], &[], ME);
        let lead = Action::Lead(name(0), id(1), LeaderEpoch(0));
        assert_eq!(actions, [Action::Open(name(0), id(1)), lead]);
    }

    #[test]
    fn what_is_led_in_the_recorded_epoch_stays_as_it_is() {
        assert_eq!(plan(&image(&[(ME, 3)]), &[here(0, 1, Some(3))], &[], ME), []);
        // An epoch this broker raised and the image has not got yet.
        assert_eq!(plan(&image(&[(ME, 3)]), &[here(0, 1, Some(4))], &[], ME), []);
        let lead = Action::Lead(name(0), id(1), LeaderEpoch(3));
        assert_eq!(plan(&image(&[(ME, 3)]), &[here(0, 1, Some(2))], &[], ME), [lead]);
    }

    #[test]
    fn a_deleted_topic_goes_and_an_unknown_one_is_set_aside() {
        let here = [here(0, 7, Some(0)), here(1, 8, None)];
        let actions = plan(&ClusterImage::default(), &here, &[("t".into(), id(7))], ME);
        assert_eq!(actions, [Action::Delete(name(0), id(7)), Action::SetAside(name(1), id(8))]);
    }

    #[test]
    fn a_directory_of_an_earlier_topic_of_the_name_is_set_aside_before_the_new_one_is_made() {
        let actions = plan(&image(&[(ME, 0)]), &[here(0, 9, None)], &[], ME);
        let lead = Action::Lead(name(0), id(1), LeaderEpoch(0));
        let aside = Action::SetAside(name(0), id(9));
        assert_eq!(actions, [aside, Action::Open(name(0), id(1)), lead]);
    }

    #[test]
    fn who_is_no_longer_the_leader_stops() {
        let mut image = image(&[(ME, 0)]);
        image.raised("t", id(1), 0, LeaderEpoch(1));
        let mut topic = TopicImage::clone(&image.topics["t"]);
        topic.partitions[0].leader = Some(OTHER);
        image.topics.insert("t".into(), Arc::new(topic));
        let actions = plan(&image, &[here(0, 1, Some(0))], &[], ME);
        assert_eq!(actions, [Action::StopLeading(name(0), id(1))]);
    }
}

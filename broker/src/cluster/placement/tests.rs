//! What follows from an image, case by case.

use super::*;
use crate::cluster::metadata::{BrokerImage, TopicImage};

const ME: BrokerId = BrokerId(1);
const OTHER: BrokerId = BrokerId(2);

fn id(number: u128) -> TopicId {
    TopicId(uuid::Uuid::from_u128(number))
}

/// Partitions of the topic `t` with both brokers as replicas, by leader and epoch; both are live.
fn image(leaders: &[(Option<BrokerId>, i32)]) -> ClusterImage {
    let partitions = leaders
        .iter()
        .map(|&(leader, epoch)| PartitionImage {
            leader,
            leader_epoch: LeaderEpoch(epoch),
            replicas: vec![ME, OTHER],
            isr: vec![ME, OTHER],
            electable: Vec::new(),
            adding: Vec::new(),
            version: 7,
        })
        .collect();
    let topic = TopicImage { name: "t".into(), id: id(1), partitions, throttle: None };
    let mut image = ClusterImage::default();
    image.topics.insert("t".into(), Arc::new(topic));
    let live = [ME, OTHER].map(|id| (id, broker(id, 9094)));
    image.brokers = Arc::new(live.into());
    image
}

fn broker(id: BrokerId, grpc_port: u16) -> BrokerImage {
    let incarnation = uuid::Uuid::from_u128(u128::from(grpc_port));
    BrokerImage {
        id,
        host: "h".to_owned(),
        grpc_port,
        kafka: Vec::new(),
        rack: String::new(),
        incarnation,
    }
}

fn at(grpc_port: u16) -> Option<LeaderAt> {
    let incarnation = uuid::Uuid::from_u128(u128::from(grpc_port));
    Some(LeaderAt { id: OTHER, address: format!("h:{grpc_port}"), incarnation })
}

fn replicas(image: &mut ClusterImage, replicas: &[BrokerId]) {
    let topic = Arc::make_mut(image.topics.get_mut("t").unwrap());
    topic.partitions[0].replicas = replicas.to_vec();
}

fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn here(partition: i32, topic: u128, role: Role) -> Here {
    Here { name: name(partition), id: id(topic), role, served: true }
}

fn leading(epoch: i32, version: i32) -> Role {
    let (epoch, replicas) = (LeaderEpoch(epoch), vec![ME, OTHER]);
    Role::Leading { epoch, version, replicas, adding: Vec::new() }
}

fn following(epoch: i32, leader: Option<LeaderAt>) -> Role {
    Role::Following { epoch: LeaderEpoch(epoch), leader }
}

fn lead(epoch: i32) -> Vec<Action> {
    vec![Action::Lead(name(0), id(1), LeaderEpoch(epoch))]
}

fn follow(epoch: i32, leader: Option<LeaderAt>) -> Vec<Action> {
    vec![Action::Follow(name(0), id(1), LeaderEpoch(epoch), leader)]
}

/// What one partition asks for that is led so, and here in this role.
fn one(leader: Option<BrokerId>, epoch: i32, role: Role) -> Vec<Action> {
    roles(&image(&[(leader, epoch)]), &[here(0, 1, role)], ME)
}

#[test]
fn own_partitions_are_opened_and_those_of_others_are_left_alone() {
    let mut image = image(&[(Some(ME), 0), (Some(OTHER), 0)]);
    replicas(&mut image, &[OTHER]);
    assert_eq!(missing(&image, &[], ME), [(name(1), id(1))]);
    assert_eq!(missing(&image, &[here(1, 1, Role::Idle)], ME), []);
    let unserved = Here { served: false, ..here(1, 1, Role::Idle) };
    assert_eq!(missing(&image, std::slice::from_ref(&unserved), ME), [(name(1), id(1))]);
    assert_eq!(roles(&image, &[unserved], ME), [], "not before it is opened");
}

#[test]
fn who_is_the_recorded_leader_leads_in_the_recorded_epoch() {
    assert_eq!(one(Some(ME), 3, Role::Idle), lead(3));
    assert_eq!(one(Some(ME), 3, leading(2, 7)), lead(3));
    assert_eq!(one(Some(ME), 3, following(2, at(9094))), lead(3));
    assert_eq!(one(Some(ME), 3, leading(3, 7)), []);
    // An epoch this broker raised and the image has not got yet.
    assert_eq!(one(Some(ME), 3, leading(4, 8)), []);
    assert_eq!(one(Some(OTHER), 3, leading(4, 8)), []);
}

#[test]
fn news_of_the_same_leadership_is_adopted() {
    let adopt = [Action::Adopt(name(0), id(1))];
    assert_eq!(one(Some(ME), 3, leading(3, 6)), adopt);
    assert_eq!(one(Some(ME), 3, leading(3, 9)), [], "what the leader wrote itself");
    let mut image = image(&[(Some(ME), 3)]);
    replicas(&mut image, &[ME, OTHER, BrokerId(3)]);
    assert_eq!(roles(&image, &[here(0, 1, leading(3, 7))], ME), adopt);
}

#[test]
fn who_is_no_longer_the_leader_follows_whoever_is() {
    assert_eq!(one(Some(OTHER), 4, leading(3, 7)), follow(4, at(9094)));
    assert_eq!(one(Some(OTHER), 4, following(3, at(9094))), follow(4, at(9094)));
    assert_eq!(one(Some(OTHER), 4, following(4, at(9094))), []);
    assert_eq!(one(None, 4, leading(4, 7)), follow(4, None));
    assert_eq!(one(None, 4, following(4, at(9094))), follow(4, None));
}

#[test]
fn a_leader_that_is_not_live_is_not_followed_and_one_that_moved_is_followed_there() {
    let mut image = image(&[(Some(OTHER), 4)]);
    let here = [here(0, 1, following(4, at(9094)))];
    image.brokers = Arc::new([(ME, broker(ME, 1))].into());
    assert_eq!(roles(&image, &here, ME), follow(4, None));
    image.brokers = Arc::new([(OTHER, broker(OTHER, 5))].into());
    assert_eq!(roles(&image, &here, ME), follow(4, at(5)));
}

#[test]
fn only_what_was_deleted_is_deleted() {
    let image = ClusterImage::default();
    let stored = [here(0, 1, leading(0, 0)), here(0, 2, Role::Idle)];
    let removals = removals(&image, &stored, &[("t".into(), id(1))], ME);
    assert_eq!(removals, [Removal::Delete(name(0), id(1)), Removal::SetAside(name(0), id(2))]);
}

#[test]
fn a_directory_of_an_earlier_topic_of_the_name_is_set_aside() {
    let image = image(&[(Some(ME), 0)]);
    let stored = [here(0, 9, Role::Idle)];
    assert_eq!(removals(&image, &stored, &[], ME), [Removal::SetAside(name(0), id(9))]);
    assert_eq!(missing(&image, &stored, ME), [(name(0), id(1))]);
}

#[test]
fn what_moved_to_other_replicas_is_dropped_and_an_unknown_number_is_not() {
    let mut image = image(&[(Some(OTHER), 4)]);
    replicas(&mut image, &[OTHER]);
    let stored = [here(0, 1, following(4, None)), here(1, 1, following(4, None))];
    assert_eq!(removals(&image, &stored, &[], ME), [Removal::Drop(name(0), id(1))]);
    assert_eq!(roles(&image, &stored, ME), []);
}

//! Two thousand partitions of a broker that dies: how long it takes, and what happens when answers
//! are lost, leaders write at the same time, or the controller dies or is deposed in the middle.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proto::{BrokerId, v1};

use super::elections::topic;
use super::harness::*;
use crate::registry::partitions;
use crate::zk::payload::{ControllerEpoch, PartitionState, Payload};
use crate::zk::{Client, paths};

const MANY: i32 = 2_000;

/// Replicas 1, 2, 3 in every order, so that broker 1 leads a third and follows elsewhere.
async fn create_many(controller: &RunningController) {
    let mut admin = controller.active().await;
    let replicas: Vec<&[i32]> =
        [&[1, 2, 3][..], &[2, 3, 1], &[3, 1, 2]].into_iter().cycle().take(MANY as usize).collect();
    topic(&mut admin, "t", &replicas, &[]).await;
}

/// Whether every partition has a live leader and dead members nowhere, and brokers know it.
async fn at_rest(client: &Client, live: &[(i32, &RunningBroker)]) -> bool {
    let states = partitions::read_all(client, "t", MANY as usize).await.unwrap();
    let lives = |id: &BrokerId| live.iter().any(|(broker, _)| *broker == id.0);
    states.iter().zip(0..).all(|(state, p)| {
        let state = state.as_ref().unwrap();
        let repaired = state.value.leader.is_some_and(|leader| lives(&leader))
            && state.value.isr.iter().all(lives);
        repaired && live.iter().all(|(_, broker)| knows(broker, p, state.version))
    })
}

fn knows(broker: &RunningBroker, partition: i32, version: i32) -> bool {
    let told = broker.told.lock();
    let updates = told.updates.iter().rev();
    let mut topics = updates.flat_map(|update| &update.topics);
    let newest = topics.find_map(|topic| topic.partitions.get(partition as usize));
    newest.is_some_and(|state| state.state_version >= version)
}

/// Of all that brokers were told: an epoch has one leader, and a version one state.
fn one_leader_an_epoch(brokers: &[&RunningBroker]) {
    let mut leaders = HashMap::new();
    for broker in brokers {
        for state in
            broker.told.lock().updates.iter().flat_map(|u| &u.topics).flat_map(|t| &t.partitions)
        {
            let known =
                leaders.entry((state.partition, state.leader_epoch)).or_insert(state.leader);
            assert_eq!(*known, state.leader, "{state:?}");
        }
    }
}

#[test]
fn many_elections_are_quick_and_keep_nobody_waiting() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let three = RunningBroker::start(&registry, 3).await;
        create_many(&controller).await;
        let mut admin = controller.active().await;
        let (_session, live) = registry.session().await;
        one.stop().await;
        let began = Instant::now();
        let mut longest = Duration::ZERO;
        while !(knows(&two, MANY - 1, 1) && knows(&three, MANY - 1, 1) && knows(&two, 1, 1)) {
            let asked = Instant::now();
            admin.describe_cluster(v1::DescribeClusterRequest {}).await.unwrap();
            longest = longest.max(asked.elapsed());
            assert!(began.elapsed() < Duration::from_secs(20), "not done");
        }
        let took = began.elapsed();
        until(async || at_rest(&live.client, &[(2, &two), (3, &three)]).await).await;
        println!("{MANY} partitions: told after {took:?}, longest look {longest:?}");
        assert!(longest < Duration::from_secs(2), "{longest:?}");
        one_leader_an_epoch(&[&two, &three]);
        controller.stop().await;
    });
}

#[test]
fn leaders_that_write_at_the_same_time_hold_up_no_other_partition() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let three = RunningBroker::start(&registry, 3).await;
        create_many(&controller).await;
        let (_session, live) = registry.session().await;
        // Every seventh partition's leader writes its ISR as fast as it can.
        let writing = async {
            for round in 0..40 {
                for p in (0..MANY).step_by(7) {
                    let Some(found) = partitions::read(&live.client, "t", p).await.unwrap() else {
                        continue;
                    };
                    let mut next: PartitionState = found.value;
                    next.isr.rotate_left(1);
                    // A conflict with the controller is what is wanted here.
                    let _ =
                        partitions::set(&live.client, "t", p, &next, found.version).await.unwrap();
                }
                if round > 0 && knows(&two, MANY - 1, 1) {
                    break;
                }
            }
        };
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            one.stop().await;
        };
        tokio::join!(writing, stopping);
        tell_all(&controller).await;
        until(async || at_rest(&live.client, &[(2, &two), (3, &three)]).await).await;
        one_leader_an_epoch(&[&two, &three]);
        controller.stop().await;
    });
}

async fn tell_all(controller: &RunningController) {
    let changed = v1::TopicPartitions {
        topic: "t".to_owned(),
        partitions: (0..MANY).collect(),
        ..Default::default()
    };
    let request = v1::StatesChangedRequest { broker_id: 2, changed: vec![changed] };
    controller.of_brokers().await.states_changed(request).await.unwrap();
}

#[test]
fn lost_answers_are_found_out() {
    run(async {
        let registry = Registry::start();
        let proxy = Proxy::start(registry.address()).await;
        let connect = format!("{}/ottla", proxy.address);
        let controller =
            registry.controller_with(|o| o.session.connect = connect.parse().unwrap()).await;
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let three = RunningBroker::start(&registry, 3).await;
        create_many(&controller).await;
        let (_session, live) = registry.session().await;
        one.stop().await;
        // Enough to lose answers of reads and of transactions, each time at another place.
        for pause in [5, 20, 35, 50, 10, 25, 40, 15] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            proxy.cut();
        }
        until(async || at_rest(&live.client, &[(2, &two), (3, &three)]).await).await;
        one_leader_an_epoch(&[&two, &three]);
        let states = partitions::read_all(&live.client, "t", MANY as usize).await.unwrap();
        // Done once each: an epoch was raised where the dead one led, and by one.
        for (state, p) in states.into_iter().flatten().zip(0..) {
            assert_eq!(state.value.leader_epoch.0, i32::from(p % 3 == 0), "{p}: {state:?}");
        }
        controller.stop().await;
    });
}

#[test]
fn the_next_controller_goes_on_with_what_one_that_died_began() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let three = RunningBroker::start(&registry, 3).await;
        create_many(&controller).await;
        let (_session, live) = registry.session().await;
        // Broker and controller die together; some elections have happened, most have not.
        one.stop().await;
        until(async || {
            let state = partitions::read(&live.client, "t", 0).await.unwrap().unwrap();
            state.version > 0
        })
        .await;
        controller.stop().await;
        let began = Instant::now();
        let next = registry.controller().await;
        until(async || at_rest(&live.client, &[(2, &two), (3, &three)]).await).await;
        println!(
            "{MANY} partitions: next controller started and all told in {:?}",
            began.elapsed()
        );
        one_leader_an_epoch(&[&two, &three]);
        next.stop().await;
    });
}

#[test]
fn a_deposed_controller_elects_nobody() {
    run(async {
        let registry = Registry::start();
        let controller = registry.controller().await;
        let one = RunningBroker::start(&registry, 1).await;
        let two = RunningBroker::start(&registry, 2).await;
        let three = RunningBroker::start(&registry, 3).await;
        create_many(&controller).await;
        let (_session, live) = registry.session().await;
        one.stop().await;
        // As one that was stopped in the middle and wakes: another was elected meanwhile.
        until(async || {
            let state = partitions::read(&live.client, "t", 0).await.unwrap().unwrap();
            state.version > 0
        })
        .await;
        let value = ControllerEpoch { epoch: 7 }.encode().unwrap();
        live.client.set_data(paths::CONTROLLER_EPOCH, &value, None).await.unwrap();
        let states = async || partitions::read_all(&live.client, "t", MANY as usize).await.unwrap();
        let by_it = |states: &[Option<crate::registry::Versioned<PartitionState>>]| {
            let written = states.iter().flatten().filter(|state| state.version > 0);
            written.filter(|state| state.value.controller_epoch < 7).count()
        };
        let at_once = by_it(&states().await);
        until(async || at_rest(&live.client, &[(2, &two), (3, &three)]).await).await;
        // What it had not done by then was done by itself in its next term, under the next epoch.
        assert_eq!(by_it(&states().await), at_once);
        let later = states().await;
        let next = later.iter().flatten().filter(|state| state.value.controller_epoch == 8);
        assert_eq!(next.count() + at_once, MANY as usize);
        one_leader_an_epoch(&[&two, &three]);
        controller.stop().await;
    });
}

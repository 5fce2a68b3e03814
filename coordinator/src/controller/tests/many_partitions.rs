//! Two thousand partitions of a broker that dies: how long it takes, and what happens when answers
//! are lost, leaders write at the same time, or the controller dies or is deposed in the middle.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use proto::client::Connection;
use proto::v1::admin_client::AdminClient;
use proto::{BrokerId, v1};

use super::elections::topic;
use super::harness::*;
use crate::registry::{Versioned, partitions, topics};
use crate::zk::payload::{ControllerEpoch, PartitionState, Payload};
use crate::zk::{Client, paths};

/// The size whose times are printed.
const MANY: i32 = 2_000;
/// Several chunks.
const SOME: i32 = 1_200;

/// Replicas 1, 2, 3 in every order, so that broker 1 leads a third and follows elsewhere.
async fn create(admin: &mut AdminClient<Connection>, partitions: i32) {
    let replicas: Vec<&[i32]> = [&[1, 2, 3][..], &[2, 3, 1], &[3, 1, 2]]
        .into_iter()
        .cycle()
        .take(partitions as usize)
        .collect();
    topic(admin, "t", &replicas, &[]).await;
}

async fn all_states(client: &Client) -> Vec<Versioned<PartitionState>> {
    let topic = topics::read(client, "t").await.unwrap().unwrap();
    let states = partitions::read_all(client, "t", topic.value.partitions.len()).await.unwrap();
    states.into_iter().flatten().collect()
}

/// When the last state was written, by the registry's clock, which is this machine's.
async fn last_written(client: &Client) -> SystemTime {
    let topic = topics::read(client, "t").await.unwrap().unwrap();
    let mut last = 0;
    for p in (0..).take(topic.value.partitions.len()) {
        let stat = client.check_stat(&paths::partition_state("t", p)).await.unwrap().unwrap();
        last = last.max(stat.mtime);
    }
    SystemTime::UNIX_EPOCH + Duration::from_millis(last.unsigned_abs())
}

/// Waits for the first election.
async fn until_begun(client: &Client) {
    until(async || partitions::read(client, "t", 0).await.unwrap().unwrap().version > 0).await;
}

/// Whether every partition has a live leader and dead members nowhere, and brokers know it.
async fn at_rest(client: &Client, live: &[(i32, &RunningBroker)]) -> bool {
    let states = all_states(client).await;
    let lives = |id: &BrokerId| live.iter().any(|(broker, _)| *broker == id.0);
    states.iter().zip(0..).all(|(state, p)| {
        let repaired = state.value.leader.is_some_and(|leader| lives(&leader))
            && state.value.isr.iter().all(lives);
        repaired && live.iter().all(|(_, broker)| knows(broker, p, state.version))
    })
}

/// The same by what a broker was told alone, which costs the others little.
fn told_of_no_dead(broker: &RunningBroker, dead: i32) -> bool {
    let told = broker.told.lock();
    let Some(newest) = told.updates.iter().rev().flat_map(|u| &u.topics).next() else {
        return false;
    };
    newest.partitions.iter().all(|p| p.leader != dead && !p.isr.contains(&dead))
}

/// Waits until nothing is left to be done, without keeping those from it who do it.
async fn until_at_rest(client: &Client, live: &[(i32, &RunningBroker)]) {
    let began = Instant::now();
    while !at_rest(client, live).await {
        assert!(began.elapsed() < Duration::from_secs(30), "not at rest");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
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
        let Three { controller, one, two, three, client, session: _session, .. } =
            Three::start().await;
        create(&mut controller.active().await, MANY).await;
        let mut admin = controller.active().await;
        one.stop().await;
        let (began, died) = (Instant::now(), SystemTime::now());
        let mut longest = Duration::ZERO;
        while !(told_of_no_dead(&two, 1) && told_of_no_dead(&three, 1)) {
            let asked = Instant::now();
            admin.describe_cluster(v1::DescribeClusterRequest {}).await.unwrap();
            longest = longest.max(asked.elapsed());
            assert!(began.elapsed() < Duration::from_secs(20), "not done");
        }
        let took = began.elapsed();
        until_at_rest(&client, &[(2, &two), (3, &three)]).await;
        let elected = last_written(&client).await.duration_since(died).unwrap_or_default();
        println!(
            "{MANY} partitions, a broker died: all elected after {elected:?}, all told after \
             {took:?}; longest look meanwhile {longest:?}"
        );
        assert!(longest < Duration::from_secs(2), "{longest:?}");
        one_leader_an_epoch(&[&two, &three]);
        controller.stop().await;
    });
}

#[test]
fn leaders_that_write_at_the_same_time_hold_up_no_other_partition() {
    run(async {
        let Three { controller, one, two, three, client, session: _session, .. } =
            Three::start().await;
        create(&mut controller.active().await, SOME).await;
        // Every seventh partition's leader writes its ISR as fast as it can.
        let writing = async {
            for round in 0..40 {
                for p in (0..SOME).step_by(7) {
                    let Some(found) = partitions::read(&client, "t", p).await.unwrap() else {
                        continue;
                    };
                    let mut next: PartitionState = found.value;
                    next.isr.rotate_left(1);
                    // A conflict with the controller is what is wanted here.
                    let _ = partitions::set(&client, "t", p, &next, found.version).await.unwrap();
                }
                if round > 0 && knows(&two, SOME - 1, 1) {
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
        until_at_rest(&client, &[(2, &two), (3, &three)]).await;
        one_leader_an_epoch(&[&two, &three]);
        controller.stop().await;
    });
}

async fn tell_all(controller: &RunningController) {
    let changed = v1::TopicPartitions {
        topic: "t".to_owned(),
        partitions: (0..SOME).collect(),
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
        let connect = registry.connect_by(proxy.address);
        let controller = registry.controller_with(|o| o.session.connect = connect).await;
        let Three { controller, one, two, three, client, session: _session, .. } =
            Three::around(registry, controller).await;
        create(&mut controller.active().await, SOME).await;
        one.stop().await;
        // Enough to lose answers of reads and of transactions, each time at another place.
        for pause in [5, 20, 35, 50, 10, 25, 40, 15] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            proxy.cut();
        }
        until_at_rest(&client, &[(2, &two), (3, &three)]).await;
        one_leader_an_epoch(&[&two, &three]);
        // Done once each: an epoch was raised where the dead one led, and by one.
        for (state, p) in all_states(&client).await.into_iter().zip(0..) {
            assert_eq!(state.value.leader_epoch.0, i32::from(p % 3 == 0), "{p}: {state:?}");
        }
        controller.stop().await;
    });
}

#[test]
fn the_next_controller_goes_on_with_what_one_that_died_began() {
    run(async {
        let Three { registry, controller, one, two, three, client, session: _session } =
            Three::start().await;
        create(&mut controller.active().await, SOME).await;
        // Broker and controller die together; some elections have happened, most have not.
        one.stop().await;
        until_begun(&client).await;
        controller.stop().await;
        let began = Instant::now();
        let next = registry.controller().await;
        until_at_rest(&client, &[(2, &two), (3, &three)]).await;
        println!(
            "{SOME} partitions: next controller started and all told in {:?}",
            began.elapsed()
        );
        one_leader_an_epoch(&[&two, &three]);
        next.stop().await;
    });
}

#[test]
fn a_deposed_controller_elects_nobody() {
    run(async {
        let Three { controller, one, two, three, client, session: _session, .. } =
            Three::start().await;
        create(&mut controller.active().await, SOME).await;
        one.stop().await;
        // As one that was stopped in the middle and wakes: another was elected meanwhile.
        until_begun(&client).await;
        let value = ControllerEpoch { epoch: 7 }.encode().unwrap();
        client.set_data(paths::CONTROLLER_EPOCH, &value, None).await.unwrap();
        let by_it = |states: &[Versioned<PartitionState>]| {
            let written = states.iter().filter(|state| state.version > 0);
            written.filter(|state| state.value.controller_epoch < 7).count()
        };
        let at_once = by_it(&all_states(&client).await);
        until_at_rest(&client, &[(2, &two), (3, &three)]).await;
        // What it had not done by then was done by itself in its next term, under the next epoch.
        assert_eq!(by_it(&all_states(&client).await), at_once);
        let later = all_states(&client).await;
        let next = later.iter().filter(|state| state.value.controller_epoch > 7);
        assert_eq!(next.count() + at_once, SOME as usize);
        one_leader_an_epoch(&[&two, &three]);
        controller.stop().await;
    });
}

/// How long brokers are without a controller's word when the active one dies without a farewell, and
/// what it does when it wakes.
#[test]
fn a_controller_that_is_stopped_is_succeeded_and_does_nothing_when_it_wakes() {
    run(async {
        let session = Duration::from_secs(2);
        let registry = Registry::start();
        let first = ControllerThread::start(&registry, session).await;
        let mut admin = first.active().await;
        let second = registry.controller().await;
        let Three { controller: second, one, two, three, client, session: _session, .. } =
            Three::around(registry, second).await;
        create(&mut admin, MANY).await;
        // In the middle of an election: of what broker 1 led some has another leader by now.
        one.stop().await;
        until_begun(&client).await;
        let (began, died) = (Instant::now(), SystemTime::now());
        let frozen = first.freeze();
        second.active().await;
        let elected = began.elapsed();
        let by_next = |broker: &RunningBroker| {
            broker.told.lock().updates.last().is_some_and(|update| update.controller_epoch == 2)
        };
        let done = |broker: &RunningBroker| by_next(broker) && told_of_no_dead(broker, 1);
        until(async || done(&two) && done(&three)).await;
        let told = began.elapsed();
        let repaired = last_written(&client).await.duration_since(died).unwrap_or_default();
        println!(
            "{MANY} partitions, the controller died in the middle of it, its session is \
             {session:?}: next one elected after {elected:?}, all repaired after {repaired:?}, all \
             told after {told:?}"
        );
        until_at_rest(&client, &[(2, &two), (3, &three)]).await;
        let versions = async || {
            let states = all_states(&client).await;
            states.into_iter().map(|state| state.version).collect::<Vec<_>>()
        };
        let before = versions().await;
        drop(frozen);
        until(async || {
            let status = first.active_or_not().await;
            status.is_some_and(|status| status.code() == tonic::Code::FailedPrecondition)
        })
        .await;
        assert_eq!(versions().await, before);
        one_leader_an_epoch(&[&two, &three]);
        // What it told after it was succeeded, if anything, it told as who it was.
        for broker in [&two, &three] {
            let told = broker.told.lock();
            let newest = told.updates.iter().map(|update| update.controller_epoch).max();
            assert_eq!(newest, Some(2));
        }
        second.stop().await;
    });
}

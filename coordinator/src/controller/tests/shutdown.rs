//! Brokers that stop in order, and topics that are deleted while a broker is down.

use proto::{BrokerId, ErrorCode, v1};

use super::elections::{state, topic};
use super::harness::*;

fn leave(id: i32, broker: &RunningBroker) -> v1::ControlledShutdownRequest {
    let incarnation = bytes::Bytes::copy_from_slice(broker.incarnation.as_bytes());
    v1::ControlledShutdownRequest { broker_id: id, incarnation }
}

#[test]
fn a_broker_that_stops_hands_over_and_is_no_candidate_before_it_registers_anew() {
    run(async {
        let Three { registry, controller, one, two, three, client, session: _session } =
            Three::start().await;
        let mut admin = controller.active().await;
        topic(&mut admin, "led", &[&[1, 2, 3]], &[("min.insync.replicas", "2")]).await;
        topic(&mut admin, "low", &[&[1, 3]], &[("min.insync.replicas", "2")]).await;
        topic(&mut admin, "followed", &[&[2, 1, 3]], &[]).await;
        topic(&mut admin, "alone", &[&[1]], &[]).await;
        let mut calls = controller.of_brokers().await;
        let stale = v1::ControlledShutdownRequest {
            incarnation: leave(2, &two).incarnation,
            ..leave(1, &one)
        };
        let refused = calls.controlled_shutdown(stale).await.unwrap().into_inner().error.unwrap();
        assert_eq!(refused.code, ErrorCode::StaleBrokerEpoch as i32);

        let answer = calls.controlled_shutdown(leave(1, &one)).await.unwrap().into_inner();
        assert_eq!(answer.error, None);
        let remaining: Vec<_> =
            answer.remaining.iter().map(|t| (t.topic.as_str(), t.partitions.clone())).collect();
        assert_eq!(remaining, [("alone", vec![0])]);
        // The answer came after everybody had been told.
        let led = two.told.lock().state("led", 0).unwrap();
        assert_eq!((led.leader, led.leader_epoch, led.isr), (2, 1, vec![2, 3]));
        let at_minimum = three.told.lock().state("low", 0).unwrap();
        assert_eq!((at_minimum.leader, at_minimum.isr), (3, vec![1, 3]));
        let followed = three.told.lock().state("followed", 0).unwrap();
        assert_eq!((followed.leader, followed.leader_epoch, followed.isr), (2, 0, vec![2, 3]));

        let three_replicas = v1::CreateTopicsRequest {
            topics: vec![v1::NewTopic {
                name: "new".to_owned(),
                replication_factor: 3,
                ..Default::default()
            }],
            ..Default::default()
        };
        let refused = admin.create_topics(three_replicas.clone()).await.unwrap();
        assert_eq!(code(refused), ErrorCode::InvalidReplicationFactor as i32);
        // It is not forgotten by reading everything anew, after a write by somebody's hand.
        let (bytes, _) = client.get_data("/brokers/topics/alone").await.unwrap();
        client.set_data("/brokers/topics/alone", &bytes, None).await.unwrap();
        let topics =
            vec![v1::NewPartitions { name: "alone".to_owned(), total: 7, ..Default::default() }];
        let grow =
            v1::CreatePartitionsRequest { request_id: request(3), topics, ..Default::default() };
        assert_eq!(code(admin.create_partitions(grow).await.unwrap()), 0);
        for partition in 1..7 {
            let new = two.told.lock().state("alone", partition).unwrap();
            assert_ne!(new.replicas, [1], "partition {partition}");
        }
        // Asked again: nothing moves, and the same remains. Then it stops, and starts.
        let again = calls.controlled_shutdown(leave(1, &one)).await.unwrap().into_inner();
        assert_eq!(again.remaining.len(), 1);
        one.stop().await;
        let one = RunningBroker::start(&registry, 1).await;
        until(async || code(admin.create_topics(three_replicas.clone()).await.unwrap()) == 0).await;
        assert!(one.told.lock().topics().contains(&"new".to_owned()));
        assert_eq!(state(&client, "alone", 0).await.leader, Some(BrokerId(1)));
        controller.stop().await;
    });
}

#[test]
fn a_standby_says_who_is_active_to_brokers_too() {
    run(async {
        let registry = Registry::start();
        let active = registry.controller().await;
        active.active().await;
        let standby = registry.controller().await;
        let mut calls = standby.of_brokers().await;
        until(async || {
            let status = calls.states_changed(v1::StatesChangedRequest::default()).await;
            status.unwrap_err().metadata().get(crate::controller::CONTROLLER_HEADER).is_some()
        })
        .await;
        let many = v1::TopicPartitions { partitions: vec![0; 20_000], ..Default::default() };
        let request = v1::StatesChangedRequest { broker_id: 1, changed: vec![many] };
        let refused = active.of_brokers().await.states_changed(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        standby.stop().await;
        active.stop().await;
    });
}

#[test]
fn a_replicated_topic_is_deleted_though_a_broker_is_down_and_told_to_it_when_it_comes_back() {
    run(async {
        let Three { registry, controller, one, two, three, client, session: _session } =
            Three::start().await;
        let mut admin = controller.active().await;
        topic(&mut admin, "t", &[&[1, 2, 3]], &[]).await;
        three.stop().await;
        until(async || two.told.lock().state("t", 0).unwrap().isr == [1, 2]).await;
        // It goes on growing meanwhile where there are brokers enough; here there are not.
        let topics =
            vec![v1::NewPartitions { name: "t".to_owned(), total: 2, ..Default::default() }];
        let grow =
            v1::CreatePartitionsRequest { request_id: request(3), topics, ..Default::default() };
        let refused = admin.create_partitions(grow).await.unwrap();
        assert_eq!(code(refused), ErrorCode::InvalidReplicationFactor as i32);
        // One that lives does not confirm, so the deletion waits; the dead one comes back into it.
        one.told.lock().silent = true;
        assert_eq!(code(admin.delete_topics(delete(4, "t")).await.unwrap()), 0);
        let three = RunningBroker::start(&registry, 3).await;
        until(async || three.told.lock().deleted() == ["t"]).await;
        assert_eq!(three.told.lock().updates[0].sequence, 1);
        one.told.lock().silent = false;
        until(async || client.list_children("/brokers/topics").await.unwrap().is_empty()).await;
        // A dead replica is waited for by nobody.
        topic(&mut admin, "t", &[&[1, 2, 3]], &[]).await;
        three.stop().await;
        until(async || two.told.lock().state("t", 0).unwrap().isr == [1, 2]).await;
        assert_eq!(code(admin.delete_topics(delete(5, "t")).await.unwrap()), 0);
        until(async || client.list_children("/brokers/topics").await.unwrap().is_empty()).await;
        controller.stop().await;
    });
}

//! What is printed, word for word.

use super::*;

fn plan(partitions: &[(&str, i32, &[i32])]) -> Plan {
    partitions.iter().map(|(topic, p, ids)| (((*topic).to_owned(), *p), ids.to_vec())).collect()
}

#[test]
fn a_plan_is_verified_in_kafkas_words() {
    let planned = plan(&[
        ("a", 0, &[1, 2]),
        ("a", 1, &[1, 2]),
        ("a", 2, &[1, 2]),
        ("a", 3, &[1, 2]),
        ("b", 0, &[1]),
    ]);
    let now =
        plan(&[("a", 0, &[1, 2]), ("a", 1, &[1, 2, 3]), ("a", 2, &[2, 1]), ("a", 3, &[4, 3])]);
    let under_way = plan(&[("a", 1, &[1, 2]), ("a", 3, &[4])]);
    let statuses = statuses(&planned, &now, &under_way);
    let lines: Vec<String> = statuses.iter().map(|(of, s)| s.line(of, &planned[of])).collect();
    assert_eq!(
        lines,
        [
            "Reassignment of partition a-0 is completed.",
            "Reassignment of partition a-1 is still in progress.",
            "There is no active reassignment of partition a-2, but replica set is 2,1 rather than 1,2.",
            "Reassignment of partition a-3 is still in progress, to 4 rather than 1,2.",
            "There is no partition b-0.",
        ]
    );
    let told = "of 5 partitions 1 are still in progress, and 3 are not as planned";
    assert_eq!(open(statuses.values()).as_deref(), Some(told));
    let two = [Status::Completed, Status::InProgress(None)];
    assert_eq!(open(two.iter()).as_deref(), Some("1 of 2 partitions are still in progress"));
    assert_eq!(open(two[..1].iter()), None);
}

#[test]
fn a_plan_that_is_taken_is_told_with_what_to_go_back_to() {
    let topic = v1::Topic {
        name: "a".to_owned(),
        partitions: vec![
            v1::Partition { partition: 0, replicas: vec![3, 1, 2], ..Default::default() },
            v1::Partition { partition: 1, replicas: vec![2], ..Default::default() },
        ],
        ..Default::default()
    };
    let under_way = v1::OngoingReassignment {
        topic: "a".to_owned(),
        partition: topic.partitions.first().cloned(),
        original: vec![1, 2],
        ..Default::default()
    };
    // Without what is only on its way.
    let before = ask::settled(&[topic], &[under_way]);
    assert_eq!(before, plan(&[("a", 0, &[1, 2]), ("a", 1, &[2])]));
    let of = |p| ("a".to_owned(), p);
    let told = executed(&before, &[of(1)], &[of(0)], Pace { throttle: Some(9_000), wait: false });
    let end = "\nNothing to do for a-1: as planned already\n\
        Successfully started partition reassignments for a-0\n\
        Brokers that get replicas fetch at most 9000 bytes/s for them until they are done\n\
        It goes on by itself: --list shows how far it is, --verify whether it is done\n";
    assert!(told.ends_with(end), "{told}");
    let told = executed(&before, &[of(1)], &[], Pace { throttle: None, wait: true });
    assert!(told.ends_with("\nNothing to do for a-1: as planned already\n"), "{told}");
}

#[test]
fn what_is_under_way_is_a_line() {
    let partition = v1::Partition {
        partition: 3,
        replicas: vec![4, 5, 1],
        isr: vec![1, 5],
        adding: vec![4, 5],
        removing: vec![1],
        ..Default::default()
    };
    let replica = |broker, in_sync, offsets_left, bytes_left| v1::AddingReplica {
        broker,
        in_sync,
        offsets_left,
        bytes_left,
        bytes_total: 900,
    };
    let mut under_way = v1::OngoingReassignment {
        topic: "t".to_owned(),
        partition: Some(partition),
        target: vec![4, 5],
        original: vec![1],
        throttle: 1_000,
        progress: vec![replica(4, false, 12, 345), replica(5, true, 0, 0)],
        ..Default::default()
    };
    assert_eq!(
        under_way_line(&under_way),
        "t-3: replicas: 4,5,1. adding: 4,5. removing: 1. \
         broker 4: 12 records, 345 of 900 bytes left. throttle: 1000 bytes/s.\n"
    );
    let json = under_way_json(&under_way);
    assert_eq!(
        (&json["progress"][0]["records_left"], &json["throttle"]),
        (&json!(12), &json!(1_000))
    );
    under_way.progress = vec![replica(4, false, -1, -1)];
    under_way.throttle = 0;
    under_way.target = vec![1];
    assert!(under_way_line(&under_way).ends_with("cancelling. broker 4: not known.\n"));
    assert_eq!(under_way_json(&under_way)["progress"][0]["records_left"], Value::Null);
}

#[test]
fn a_move_needs_no_throttle_and_takes_one() {
    use clap::Parser;
    let parsed = |more: &[&str]| {
        let plain = ["coordinator", "reassign", "execute", "--reassignment-json-file", "plan.json"];
        let words: Vec<&str> = plain.iter().chain(more).copied().collect();
        crate::cli::args::Cli::try_parse_from(words)
    };
    assert!(parsed(&[]).is_ok() && parsed(&["--throttle", "50000"]).is_ok());
    assert!(parsed(&["--throttle", "0"]).is_err());
    let drain = ["coordinator", "brokers", "drain", "1", "--wait"];
    assert!(crate::cli::args::Cli::try_parse_from(drain).is_ok());
}

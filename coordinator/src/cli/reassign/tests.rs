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

//! kafka-python against the listener for Kafka clients: every check of
//! `foreign/python/kafka_python_*.py`, and what these wrote read by ours and the other way round.

use anyhow::Result;
use integration_tests::python::{Make, failover, groups, records};

const MAKE: Make = Make::KafkaPython;

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_python_writes_reads_back_over_both_protocols() -> Result<()> {
    records::judge_produce(MAKE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_python_reads_what_we_write_from_wherever_it_likes() -> Result<()> {
    records::judge_consume(MAKE).await
}

#[test]
fn kafka_python_makes_no_topics_where_that_is_off() -> Result<()> {
    records::judge_no_topics_made(MAKE)
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_python_members_come_go_and_die() -> Result<()> {
    groups::judge_members_that_come_and_go(MAKE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_python_members_keep_what_does_not_move() -> Result<()> {
    groups::judge_cooperative(MAKE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_python_static_members_come_back_unnoticed() -> Result<()> {
    groups::judge_static_members(MAKE).await
}

#[test]
fn kafka_python_administers() -> Result<()> {
    records::judge_admin(MAKE)
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_python_loses_and_doubles_nothing_when_leaders_die() -> Result<()> {
    failover::judge_failover(MAKE).await
}

//! Every integration test, in one binary: real processes, real ZooKeeper, real faults.
//!
//! Tests marked `ignore` take minutes; `integration-tests/run --long` has them.

mod admin;
mod broker_groups;
mod busy_poll;
mod compaction;
mod compression;
mod confluent_kafka;
mod damage;
mod delete_records;
mod dev;
mod directories;
mod dump_log;
mod durability;
mod expiry;
mod franz_go;
mod full_disk;
mod group_registries;
mod groups;
mod hostile;
mod kafka_admin;
mod kafka_group_tools;
mod kafka_python;
mod kafka_tools;
mod librdkafka;
mod lost_answers;
mod reassign;
mod registries;
mod registry_differential;
mod registry_restart;
mod replication;
mod retention;
mod sessions;
mod tidy;
mod topic_recreation;
mod unclean_election;
mod zookeeper_faults;
